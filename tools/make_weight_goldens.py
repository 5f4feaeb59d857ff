#!/usr/bin/env python3
"""What torch says of WPO's pair weights and LD-DPO's token weights on the llama-gqa case, in float64.

    python tools/make_weight_goldens.py > tests/golden/weights.json

For each method: the loss, each pair's weight, and of every parameter's gradient its length and its inner product with the parameter. Needs torch and transformers.
"""
import json
import pathlib

import torch
from transformers import AutoModelForCausalLM

CASE = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/cases/llama-gqa"
BETA = 0.1
METHODS = {"wpo": dict(wpo=True, tail=1.0), "ld-dpo": dict(wpo=False, tail=0.5), "wpo --ld-alpha 0.25": dict(wpo=True, tail=0.25)}


def token_logps(model, prompt, answer):
    """log pi of the answer's tokens, and log of the sum of squared probabilities where they were predicted."""
    logits = model(torch.tensor([prompt + answer])).logits[0].double()
    logp = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
    return logp.gather(1, torch.tensor(answer)[:, None])[:, 0], torch.logsumexp(2 * logp, -1)


def answer_logp(token, public, tail):
    return token[:public].sum() + tail * token[public:].sum()


def run(policy, reference, rows, wpo, tail):
    losses, weights = [], []
    for row in rows:
        sides = [row["chosen_ids"], row["rejected_ids"]]
        public = min(map(len, sides))
        token = [token_logps(policy, row["prompt_ids"], y) for y in sides]
        with torch.no_grad():
            frozen = [answer_logp(token_logps(reference, row["prompt_ids"], y)[0], public, tail) for y in sides]
            adjusted = [(lp - square).mean() for lp, square in token]
            weight = torch.exp(adjusted[0] + adjusted[1]).clamp(max=1) if wpo else torch.tensor(1.0)
        d = [answer_logp(lp, public, tail) - ref for (lp, _), ref in zip(token, frozen)]
        losses.append(-weight * torch.nn.functional.logsigmoid(BETA * (d[0] - d[1])))
        weights.append(float(weight))
    loss = torch.stack(losses).mean()
    policy.zero_grad()
    loss.backward()
    gradient = {name: [float(p.grad.norm()), float((p.grad * p).sum())] for name, p in policy.named_parameters()}
    return {"loss": float(loss), "weights": weights, "gradient": gradient}


def main():
    torch.set_default_dtype(torch.float64)
    policy = AutoModelForCausalLM.from_pretrained(CASE, dtype=torch.float64)
    reference = AutoModelForCausalLM.from_pretrained(CASE / "ref", dtype=torch.float64)
    rows = [json.loads(line) for line in open(CASE / "data.jsonl")]
    print(json.dumps({name: run(policy, reference, rows, **how) for name, how in METHODS.items()}, indent=1))


if __name__ == "__main__":
    main()
