#!/usr/bin/env python3
"""Adapters of every kind as PEFT writes them, and what PEFT says about them in float64.

    make_peft_golden.py make  OUT          tiny random models, adapters, log-probs, gradients, merged weights (tests/golden/peft)
    make_peft_golden.py check OUT SAIL     the other way: adapters that the program SAIL trained and merged, read by PEFT; prints differences

Made with torch 2.15, transformers 5.24, peft 0.21. A folder of OUT is a base model; the folders in it are adapters with expected.json (token
log-probs, DPO's loss with the adapter switched off as reference, a projection of every merged weight) and the gradients of that loss.
"""
import argparse, json, math, pathlib, shutil, subprocess, tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import logsigmoid
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LLAMA = dict(type="llama", vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=32, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0)
BASES = {  # base -> (config, {adapter: LoraConfig's fields})
    "llama": (LLAMA, {
        "regex": dict(r=3, lora_alpha=7, use_rslora=True, target_modules=r".*\.layers\.(0|2)\.(self_attn\.(q|v)_proj|mlp\.down_proj)",
                      rank_pattern={"layers.0.self_attn.q_proj": 2, "down_proj": 5}, alpha_pattern={r"layers\.\d\.self_attn\.v_proj": 4}),
        "layers": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "o_proj", "mlp.up_proj", "model.layers.2.mlp.down_proj"], layers_to_transform=[0, 2],
                       layers_pattern="layers", exclude_modules=["k_proj", "layers.2.mlp.up_proj"]),
        "exclude-regex": dict(r=2, lora_alpha=4, target_modules="all-linear", exclude_modules=r".*\.(1\.self_attn|2\.mlp)\..*"),
        "dora": dict(r=3, lora_alpha=6, use_dora=True, target_modules="all-linear"),
        "dora-pattern": dict(r=3, lora_alpha=6, use_dora=True, use_rslora=True, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
                             rank_pattern={"v_proj": 5}, alpha_pattern={"1.mlp.down_proj": 2.5}, modules_to_save=["lm_head"]),
        "saved": dict(r=2, lora_alpha=4, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head"]),
    }),
    "qwen2-tied": (LLAMA | dict(type="qwen2", num_hidden_layers=2, tie_word_embeddings=True, use_sliding_window=False), {
        "saved-embed": dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "o_proj"], modules_to_save=["embed_tokens"]),
        "saved-head": dict(r=2, lora_alpha=4, target_modules=["k_proj"], modules_to_save=["lm_head"]),
    }),
    "gpt2": (dict(type="gpt2", vocab_size=48, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=2, eos_token_id=2), {
        "dora": dict(r=2, lora_alpha=4, use_dora=True, fan_in_fan_out=True, target_modules=["c_attn", "attn.c_proj", "c_fc"], modules_to_save=["wte"]),
    }),
    "gpt-neox": (dict(type="gpt_neox", vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32,
                      bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}), {
        "saved": dict(r=2, lora_alpha=4, use_dora=True, target_modules=["query_key_value", "dense"], modules_to_save=["embed_in", "lm_head"]),
    }),
    "llama-seqcls": (LLAMA | dict(num_hidden_layers=2, head="score", num_labels=1), {
        "dora": dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "gate_proj"]),
    }),
}
LENGTHS = [(5, 4, 7), (3, 9, 6), (8, 2, 5), (4, 6, 1)]  # tokens of prompt, chosen, rejected
BETA = 0.5


class KeepDouble(TorchFunctionMode):
    """transformers casts to float32 inside norms, softmax and RoPE, also in a float64 model; here such casts are to float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            func = torch.Tensor.double

        def keep(value):
            return torch.float64 if value is torch.float32 and func not in (torch.frombuffer, torch.Tensor.view) else value
        return func(*map(keep, args), **{k: keep(v) for k, v in (kwargs or {}).items()})

    def __enter__(self):
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *exc):
        torch.set_default_dtype(torch.float32)
        return super().__exit__(*exc)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def auto_class(config):
    return AutoModelForSequenceClassification if config.get("head") else AutoModelForCausalLM


def noise(p, std, gen):
    return (torch.randn(p.shape, generator=gen, dtype=torch.float64) * std).to(p.dtype)


@torch.no_grad()
def make_base(config, folder, gen):
    fields = {k: v for k, v in config.items() if k not in ("type", "head")}
    model = auto_class(config).from_config(AutoConfig.for_model(config["type"], **fields), dtype=torch.float32)
    for name, p in model.named_parameters():
        if p.ndim == 1:
            p.add_(noise(p, 0.2, gen))
        else:
            fan_in = p.shape[0] if config["type"] == "gpt2" else p.shape[1]
            p.copy_(noise(p, (0.7 if "embed" in name or "wte" in name or "wpe" in name else 1.5 / fan_in**0.5), gen))
    model.save_pretrained(folder)


@torch.no_grad()
def make_adapter(config, settings, base, folder, gen, std=0.3):
    model = auto_class(config).from_pretrained(base, dtype=torch.float32)
    tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS" if config.get("head") else "CAUSAL_LM", **settings))
    for name, p in tuned.named_parameters():
        if not p.requires_grad:
            continue
        if "magnitude" in name:
            p.mul_(1 + noise(p, 0.2, gen))
        else:
            p.add_(noise(p, 0.15 if "modules_to_save" in name else std, gen))
    tuned.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    written = json.loads(path.read_text())
    written["base_model_name_or_path"] = None
    for key, value in settings.items():  # sets lose their order
        if isinstance(written[key], list) and key in ("target_modules", "exclude_modules", "modules_to_save"):
            written[key] = sorted(written[key])
    write_json(path, written)


def load(config, base, adapter=None, dtype=torch.float64):
    model = auto_class(config).from_pretrained(base, dtype=dtype, attn_implementation="eager")
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True, autocast_adapter_dtype=False).to(dtype)
    return model.eval()


def values(model, config, rows):
    """Per row and side: the tokens' log-probs, or the score; sequences one by one."""
    out = []
    for r in rows:
        pair = []
        for side in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([r["prompt_ids"] + r[side]])
            logits = model(input_ids=ids, use_cache=False).logits
            if config.get("head"):
                pair.append(logits[0])
                continue
            logp = logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
            pair.append(logp[len(r["prompt_ids"]) - 1:])
        out.append(pair)
    return out


def loss_of(model, config, rows):
    policy = values(model, config, rows)
    if config.get("head"):
        return policy, -sum(logsigmoid(c.sum() - r.sum()) for c, r in policy) / len(rows)
    with torch.no_grad(), model.disable_adapter():
        reference = values(model, config, rows)
    h = [(c.sum() - r.sum()) - (rc.sum() - rr.sum()) for (c, r), (rc, rr) in zip(policy, reference)]
    return policy, -sum(logsigmoid(BETA * x) for x in h) / len(rows)


def named(model):
    """Trained parameters under the names of the adapter's file."""
    return {n.replace(".modules_to_save.default.", ".").replace("magnitude_vector.default.weight", "magnitude_vector").replace(".default.", "."): p
            for n, p in model.named_parameters() if p.requires_grad}


def projection(t):
    v = t.detach().double().flatten()
    return [(v * torch.cos(0.7 * torch.arange(len(v), dtype=torch.float64))).sum().item(), v.norm().item()]


def make_case(config, base, folder, rows):
    with KeepDouble():
        model = load(config, base, folder)
        policy, loss = loss_of(model, config, rows)
        loss.backward()
        parameters = named(model)
        assert set(parameters) == set(load_file(folder / "adapter_model.safetensors")), folder
        gradients = {n: p.grad for n, p in parameters.items()}
        merged = load(config, base, folder).merge_and_unload(safe_merge=True)
        for got, want in zip(values(merged, config, rows), policy):
            for g, w in zip(got, want):
                assert (g - w).abs().max() < 1e-11, folder
    save_file({n: g.float().contiguous() for n, g in gradients.items()}, folder / "grad.safetensors")
    write_json(folder / "expected.json", {
        "loss": loss.item(), "beta": BETA, "rows": [[v.tolist() for v in pair] for pair in policy],
        "merged": {n: projection(t) for n, t in merged.state_dict().items() if t.ndim == 2}})


def make(out):
    for k, (name, (config, adapters)) in enumerate(BASES.items()):
        gen = torch.Generator().manual_seed(k + 1)
        torch.manual_seed(k + 1)  # PEFT's own start
        base = out / name
        shutil.rmtree(base, ignore_errors=True)
        base.mkdir(parents=True)
        make_base(config, base, gen)
        def some(n):
            return torch.randint(3, 48, (n,), generator=gen).tolist()
        rows = [{"prompt_ids": some(p), "chosen_ids": some(c), "rejected_ids": some(r)} for p, c, r in LENGTHS]
        (base / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        for adapter, settings in adapters.items():
            make_adapter(config, settings, base, base / adapter, gen)
            make_case(config, base, base / adapter, rows)
            print(name, adapter, json.loads((base / adapter / "expected.json").read_text())["loss"])


# ------------------------------------------------------------------------------------------------ what sail writes, read by PEFT

NEW = {  # options of a fresh adapter
    "llama": [["--lora-dora"], ["--lora-targets", r".*\.[02]\.self_attn\.(q|k)_proj", "--lora-rank-pattern", '{"0.self_attn.q_proj": 3}', "--lora-rslora"],
              ["--lora-layers", "0,2", "--lora-exclude", "up_proj,2.self_attn.q_proj", "--lora-alpha-pattern", '{"down_proj": 9}', "--lora-modules-to-save", "embed_tokens,lm_head"]],
    "qwen2-tied": [["--lora-dora", "--lora-modules-to-save", "lm_head"]],
    "gpt2": [["--lora-dora"], ["--lora-targets", "attn.c_proj", "--lora-modules-to-save", "wte"]],
    "gpt-neox": [["--lora-dora", "--lora-modules-to-save", "embed_in,lm_head"]],
    "llama-seqcls": [["--lora-dora"]],
}


def sail(program, *words):
    subprocess.run([program, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def program_says(program, config, base, adapter, scratch):
    sail(program, "score", "--model", base, "--data", base / "data.jsonl", "--tokens", "--out", scratch / "s.jsonl", *(["--adapter", adapter] if adapter else []))
    rows = [json.loads(line) for line in (scratch / "s.jsonl").read_text().splitlines()]
    if config.get("head"):
        return [[torch.tensor([r[f"{s}_score"]]) for s in ("chosen", "rejected")] for r in rows]
    return [[torch.tensor(r[f"{s}_token_logps"]) for s in ("chosen", "rejected")] for r in rows]


def furthest(a, b):
    return max((x - y).abs().max().item() for p, q in zip(a, b) for x, y in zip(p, q))


def check_trained(program, config, base, start, scratch):
    """Trains two steps from `start` (options), then PEFT reads what was saved and transformers what was merged."""
    rows = [json.loads(line) for line in (base / "data.jsonl").read_text().splitlines()]
    run, merged = scratch / "run", scratch / "merged"
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(merged, ignore_errors=True)
    command = ["reward"] if config.get("head") else ["align", "--method", "dpo"]
    sail(program, *command, "--model", base, "--data", base / "data.jsonl", "--out", run, "--max-steps", 2, "--batch", 2, "--lr", "0.01", "--schedule", "constant",
         "--max-length", 32, "--dtype", "f32", "--quiet", *start)
    sail(program, "convert", "--model", base, "--merge", run / "final", "--out", merged)
    plain = program_says(program, config, base, None, scratch)
    adapted = program_says(program, config, base, run / "final", scratch)
    with KeepDouble(), torch.no_grad():
        ours, theirs = load(config, merged), load(config, base, run / "final")
        by_peft, by_transformers = values(theirs, config, rows), values(ours, config, rows)
        there = theirs.merge_and_unload().state_dict()
    missing = set(named(load(config, base, run / "final"))) ^ set(load_file(run / "final" / "adapter_model.safetensors"))
    assert not missing, missing
    weight = max(((t - there[n]).abs().max() / there[n].abs().max()).item() for n, t in ours.state_dict().items())
    return furthest(adapted, plain), furthest(adapted, by_peft), furthest(by_transformers, by_peft), weight


def check(out, program):
    print(f"{'base':14}{'start':60}{'moved':>9}{'PEFT':>9}{'merged':>9}{'weights':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        for name, (config, adapters) in BASES.items():
            starts = [["--adapter", str(out / name / a)] for a in adapters] + [["--lora-r", "2", *o] for o in NEW[name]]
            for start in starts:
                numbers = check_trained(program, config, out / name, start, pathlib.Path(scratch))
                print(f"{name:14}{' '.join(start).replace(str(out), '')[:58]:60}" + "".join(f"{x:9.1e}" for x in numbers), flush=True)
                assert numbers[0] > 1e-3 and numbers[1] < 5e-5 and numbers[2] < 5e-5 and numbers[3] < 1e-6, numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "check"])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("sail", nargs="?")
    o = parser.parse_args()
    make(o.out) if o.what == "make" else check(o.out.resolve(), o.sail)


if __name__ == "__main__":
    main()
