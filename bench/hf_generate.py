"""Hugging Face generate on the prompts of `sail bench generate --prompt-length N`: bf16, sampled at temperature 1, no row ends early. One JSON line."""
import argparse
import json
import os
import time

from made_ids import made_id

ap = argparse.ArgumentParser()
ap.add_argument("--model", required=True)
ap.add_argument("--batch", type=int, default=32)
ap.add_argument("--prompt", type=int, default=128)
ap.add_argument("--new", type=int, default=128)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--repeats", type=int, default=3)
a = ap.parse_args()

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers

torch.set_num_threads(a.threads)
model = transformers.AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.bfloat16).eval()
ids = torch.tensor([[made_id(row, i, model.config.vocab_size) for i in range(a.prompt)] for row in range(a.batch)])


def seconds(new):
    torch.manual_seed(0)
    start = time.perf_counter()
    with torch.inference_mode():
        y = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=new, min_new_tokens=new, pad_token_id=0)
    assert y.shape[1] == a.prompt + new
    return time.perf_counter() - start


def peak_mib():
    """Of this program: getrusage would also count what its parent was before it became this program."""
    with open("/proc/self/status") as f:
        return round(next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024, 1)


def median(values):
    return sorted(values)[len(values) // 2]


seconds(2)
first, whole = median([seconds(1) for _ in range(a.repeats)]), median([seconds(a.new) for _ in range(a.repeats)])
print(json.dumps({"bench": "hf_generate", "prefill_tokens_per_s": round(a.batch * a.prompt / first, 1), "decode_tokens_per_s": round(a.batch * (a.new - 1) / (whole - first), 1),
                  "tok_s": round(a.batch * a.new / whole, 1), "peak_rss_mib": peak_mib()}))
