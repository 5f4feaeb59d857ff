#!/usr/bin/env python3
"""Reference numbers of the objectives on unpaired rows, from float64 autograd of the losses as TRL writes them.

    tools/make_unpaired_goldens.py tests/golden/cases/llama-gqa tests/golden/unpaired

vectors.json: random log-probs, and for every method the losses and gradients of three batches one after the other (BCO's delta runs through them).
grad-kto.safetensors: dL/dtheta of KTO on the rows of llama-gqa taken apart, chosen then rejected; metadata as in the other cases.
Made with torch 2.15, transformers 5.23.
"""
import json, pathlib, sys
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

torch.set_default_dtype(torch.float64)


def kto(d, good, kl, beta, state, weight):
    z0 = kl.mean().clamp(min=0).detach() if len(kl) else torch.zeros(())
    loss = torch.where(good, weight[0] * (1 - torch.sigmoid(beta * (d - z0))), weight[1] * (1 - torch.sigmoid(beta * (z0 - d))))
    return loss.mean(), z0


def apo_zero(d, good, kl, beta, state, weight):
    loss = torch.where(good, weight[0] * (1 - torch.sigmoid(beta * d)), weight[1] * torch.sigmoid(beta * d))
    return loss.mean(), None


def bco(d, good, kl, beta, state, weight):
    """The running mean of every reward seen, the batch's own included."""
    r = beta * d
    state.extend(r.detach().tolist())
    delta = sum(state) / len(state)
    loss = torch.where(good, -weight[0] * F.logsigmoid(r - delta), -weight[1] * F.logsigmoid(-(r - delta)))
    return loss.mean(), delta


def aot(d, good, kl, beta, state, weight):
    """Sorted against sorted; unequal counts by repeating each side as often as the other has rows, which couples the quantile functions."""
    a, b = d[good].sort().values, d[~good].sort().values
    a, b = a.repeat_interleave(len(b)), b.repeat_interleave(len(a))
    return -F.logsigmoid(beta * (a - b)).mean(), None


METHODS = {"kto": kto, "apo-zero-unpaired": apo_zero, "bco-unpaired": bco, "aot-unpaired": aot}


def vectors(path):
    g = torch.Generator().manual_seed(5)
    draw = lambda n: -5 - 60 * torch.rand(n, generator=g)
    batches = []
    for good in ([1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 1, 1], [1, 0, 0, 0]):
        n = len(good)
        batches.append({"good": good, "logp": draw(n).tolist(), "logp_ref": draw(n).tolist(), "kl_logp": draw(n).tolist(), "kl_ref": draw(n).tolist()})
    batches[1]["kl_logp"] = [x + 40 for x in batches[1]["kl_ref"]]  # z0 well above 0
    out = {"batches": batches, "methods": []}
    for name, fn in METHODS.items():
        for beta, weight in ((0.1, (1, 1)), (0.5, (1, 1.3))):
            if name == "aot-unpaired" and weight != (1, 1):
                continue
            state, results = [], []
            for b in batches:
                logp = torch.tensor(b["logp"], requires_grad=True)
                loss, point = fn(logp - torch.tensor(b["logp_ref"]), torch.tensor(b["good"]).bool(), torch.tensor(b["kl_logp"]) - torch.tensor(b["kl_ref"]), beta, state, weight)
                loss.backward()
                results.append({"loss": loss.item(), "coef": logp.grad.tolist(), "point": None if point is None else float(point)})
            out["methods"].append({"name": name, "beta": beta, "desirable_weight": weight[0], "undesirable_weight": weight[1], "results": results})
    path.write_text(json.dumps(out, indent=1) + "\n")


def logp_of(model, prompt, completion):
    ids = torch.tensor([prompt + completion])
    logits = model(ids).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).sum()


def gradient(case, path):
    model = AutoModelForCausalLM.from_pretrained(case, dtype=torch.float64)
    ref = AutoModelForCausalLM.from_pretrained(case / "ref", dtype=torch.float64)
    rows = []
    for line in (case / "data.jsonl").read_text().splitlines():
        r = json.loads(line)
        rows += [(r["prompt_ids"], r["chosen_ids"], True), (r["prompt_ids"], r["rejected_ids"], False)]
    n = len(rows)
    other = [next(rows[(i + k) % n][1] for k in range(1, n) if rows[(i + k) % n][0] != rows[i][0]) for i in range(n)]
    pairs = [(p, c) for p, c, _ in rows]
    mismatched = [(p, o) for (p, _, _), o in zip(rows, other)]
    with torch.no_grad():
        base = torch.stack([logp_of(ref, *x) for x in pairs])
        kl = torch.stack([logp_of(model, *x) - logp_of(ref, *x) for x in mismatched])
    d = torch.stack([logp_of(model, *x) for x in pairs]) - base
    loss, z0 = kto(d, torch.tensor([good for _, _, good in rows]), kl, 0.1, [], (1, 1))
    loss.backward()
    print("kto on", case, "loss", loss.item(), "z0", float(z0), "without the floor", kl.mean().item())
    grads = {name: p.grad.float() for name, p in model.named_parameters()}
    save_file(grads, path, {"loss": "%.17g" % loss.item(), "method": "kto"})


case, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
vectors(out / "vectors.json")
gradient(case, out / "grad-kto.safetensors")
