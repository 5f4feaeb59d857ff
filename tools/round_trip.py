#!/usr/bin/env python3
"""Every family through every form that sail reads and writes, against the libraries that people use beside it.

    round_trip.py SAIL [--only FAMILY,FAMILY] [--seed N]

A tiny random model of each family is scored by transformers in float32; then the same rows by `sail score`, on the folder and on what `sail convert` makes of it,
by transformers on what sail wrote, and by llama.cpp on the GGUF file (keys and values cached in f32). Adapters of peft are scored by peft, by `sail score --adapter`
and, merged by `sail convert --merge`, by transformers; peft reads an adapter that `sail sft` trained. Prints a Markdown table of the largest differences of a token's
log-prob; the exit status is 1 when one is beyond BAR. llama.cpp looks gelu up in a table of half precision; where a model has one, "its gelu" is the median difference
from transformers with that table, and held to the bar instead. Needs torch, transformers, peft, llama-cpp-python.
"""
import argparse, ctypes, importlib.metadata, json, pathlib, re, subprocess, sys, tempfile, zlib

import llama_cpp
import numpy
import torch

import make_family_cases as cases
import make_peft_golden as adapters

FAMILIES = {  # model type: a case of make_family_cases.py that GGUF can say and llama.cpp computes
    "llama": "llama-head-dim", "mistral": "mistral-wide", "qwen2": "qwen2", "qwen3": "qwen3", "smollm3": "smollm3-four", "olmo2": "olmo2", "phi3": "phi3-half", "gemma": "gemma",
    "gemma2": "gemma2-scale", "gemma3_text": "gemma3-six", "gpt2": "gpt2", "gpt_neox": "neox-half", "stablelm": "stablelm", "granite": "granite", "cohere": "cohere"}
KINDS = {"LoRA": {}, "rsLoRA": {"use_rslora": True}, "DoRA": {"use_dora": True}, "modules_to_save": {"use_dora": True, "modules_to_save": True}}
LEGS = ["folder", "converted", "shards", "GGUF", "llama.cpp", "its gelu", "back from GGUF", "adapter", "merged", "trained"]
BAR = 5e-5
PROGRAM = None


def sail(*words):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"sail {words[0]}: {done.stderr.strip()}")


def by_sail(model, data, adapter=None):
    out = data.with_name("scores.jsonl")
    sail("score", "--model", model, "--data", data, "--tokens", "--out", out, *(["--adapter", adapter] if adapter else []))
    rows = cases.lines(out)
    out.unlink()
    return [[torch.tensor(r[f"{side}_token_logps"]) for side in ("chosen", "rejected")] for r in rows]


def gelu_of_llama_cpp(x):
    """A table of the tanh gelu in half precision, whichever gelu the config names."""
    looked_up = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
    return torch.where(x <= -10, 0 * x, torch.where(x >= 10, x, looked_up))


@torch.no_grad()
def by_python(folder, rows, adapter=None, gelu=None):
    """transformers, or peft where there is an adapter; None where another gelu is asked for and there is none."""
    model = adapters.load({}, folder, adapter, torch.float32)
    gelus = [m for m in model.modules() if "GELU" in type(m).__name__]
    if gelu and not gelus:
        return None
    for m in gelus if gelu else []:
        m.forward = gelu
    return adapters.values(model, {}, rows)


def by_llama_cpp(file, rows):
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError("llama.cpp refuses the file")
    p = llama_cpp.llama_context_default_params()
    p.n_ctx, p.n_batch, p.type_k, p.type_v = 64, 64, 0, 0  # 0 is f32
    p.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    p.n_threads = p.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(model, p)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(p.n_batch, 0, 1)

    def token_logps(prompt, completion):
        ids = prompt + completion
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i], batch.seq_id[i][0] = token, i, 1, True, 0
        if llama_cpp.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        logits = torch.tensor(numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids), vocab)))
        return logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids)[1:, None])[len(prompt) - 1:, 0]
    said = [[token_logps(r["prompt_ids"], r[side]) for side in ("chosen_ids", "rejected_ids")] for r in rows]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return said


def median(a, b):
    """The table has steps: where the rounding of float32 meets one, a token moves by more."""
    return torch.cat([(x - y).abs() for p, q in zip(a, b) for x, y in zip(p, q)]).median().item()


def forms(base, data, rows, scratch):
    """The model in every form."""
    want = by_python(base, rows)
    sail("convert", "--model", base, "--out", scratch / "one")
    sail("convert", "--model", base, "--out", scratch / "shards", "--max-shard-gb", "0.000005")
    assert len(list((scratch / "shards").glob("*.safetensors"))) > 1
    legs = {"folder": [by_sail(base, data)], "converted": [by_sail(scratch / "one", data), by_python(scratch / "one", rows)],
            "shards": [by_sail(scratch / "shards", data), by_python(scratch / "shards", rows)]}
    file = scratch / "model.gguf"
    sail("convert", "--model", base, "--out", file, "--dtype", "f32")
    sail("convert", "--model", file, "--out", scratch / "back")
    legs |= {"GGUF": [by_sail(file, data)], "llama.cpp": [by_llama_cpp(file, rows)], "back from GGUF": [by_python(scratch / "back", rows)]}
    found = {leg: max(adapters.furthest(got, want) for got in said) for leg, said in legs.items()}
    like_llama_cpp = by_python(base, rows, gelu=gelu_of_llama_cpp)
    if like_llama_cpp:
        found["its gelu"] = median(legs["llama.cpp"][0], like_llama_cpp)
    return found


def settings_of(options, base):
    """The embeddings and the head are saved under the names that they have in the family."""
    settings = dict(r=3, lora_alpha=6, target_modules="all-linear") | options
    if "modules_to_save" in options:
        model = adapters.load({}, base)
        ends = [model.get_input_embeddings(), model.get_output_embeddings()]
        settings["modules_to_save"] = [name.rpartition(".")[2] for name, m in model.named_modules() if any(m is end for end in ends)]
    return settings


def adapted(base, data, rows, scratch, gen):
    """Adapters of every kind, and one that sail trains."""
    worst = dict.fromkeys(("adapter", "merged", "trained"), 0.0)
    plain = by_python(base, rows)
    for name, options in KINDS.items():
        adapter, merged = scratch / name, scratch / f"{name}-merged"
        adapters.make_adapter({}, settings_of(options, base), base, adapter, gen, std=0.05)  # small, so that float32 says something of the sum
        want = by_python(base, rows, adapter)
        assert adapters.furthest(want, plain) > 1e-2
        sail("convert", "--model", base, "--merge", adapter, "--out", merged)
        worst["adapter"] = max(worst["adapter"], adapters.furthest(by_sail(base, data, adapter), want))
        worst["merged"] = max(worst["merged"], adapters.furthest(by_python(merged, rows), want), adapters.furthest(by_sail(merged, data), want))
    run = scratch / "run"
    sail("sft", "--model", base, "--data", data, "--out", run, "--lora-r", 4, "--max-steps", 2, "--batch", 4, "--lr", "0.01", "--schedule", "constant", "--dtype", "f32", "--quiet")
    trained = by_sail(base, data, run / "final")
    assert adapters.furthest(trained, plain) > 1e-2
    worst["trained"] = adapters.furthest(trained, by_python(base, rows, run / "final"))
    return worst


def trip(kind, seed):
    gen = torch.Generator().manual_seed(seed * 1000003 + zlib.crc32(kind.encode()))
    torch.manual_seed(seed)  # peft's own start
    with tempfile.TemporaryDirectory() as tmp:
        scratch = pathlib.Path(tmp)
        base, data = scratch / "base", scratch / "data.jsonl"
        cases.make_model(FAMILIES[kind], base, seed, gen)
        config = json.loads((base / "config.json").read_text())
        rows = cases.make_rows(config["vocab_size"], config["eos_token_id"], cases.LENGTHS, gen)
        data.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return forms(base, data, rows, scratch) | adapted(base, data, rows, scratch, gen)


def main():
    global PROGRAM
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sail")
    ap.add_argument("--only", default="")
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    PROGRAM = a.sail
    cases.libraries()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    known = set(re.findall(r'\.model_type = "(\w+)"', (pathlib.Path(__file__).parent.parent / "src/model/family.c").read_text()))
    assert known == set(FAMILIES), f"families without a case: {known ^ set(FAMILIES)}"
    missed = []
    print("| family | " + " | ".join(LEGS) + " |\n" + "|---" * (len(LEGS) + 1) + "|", flush=True)
    for kind in [k for k in FAMILIES if not a.only or k in a.only.split(",")]:
        found = trip(kind, a.seed)
        missed += [f"{kind}, {leg}: {x:.1e}" for leg, x in found.items() if not x <= BAR and not (leg == "llama.cpp" and "its gelu" in found)]
        print(f"| {kind} | " + " | ".join(f"{found[leg]:.1e}" if leg in found else "-" for leg in LEGS) + " |", flush=True)
    print("\n" + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft", "llama-cpp-python")))
    for line in missed:
        print(f"beyond the bar: {line}", file=sys.stderr)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
