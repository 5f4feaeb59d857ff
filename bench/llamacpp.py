"""llama.cpp through llama-cpp-python's C interface on a model that `sail convert` wrote: prompt processing, 32 sequences at once, one sequence.
bf16 weights, no sampling (the best token is not even looked for), so its figures flatter it. One JSON line."""
import argparse
import ctypes
import json
import os
import subprocess
import tempfile
import time

import llama_cpp as L

from made_ids import made_id

ap = argparse.ArgumentParser()
ap.add_argument("--sail", required=True)
ap.add_argument("--model", required=True)
ap.add_argument("--what", choices=["prompt", "batched", "single"], required=True)
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--prompt", type=int, default=128)
ap.add_argument("--new", type=int, default=128)
ap.add_argument("--repeats", type=int, default=3)
a = ap.parse_args()

folder = tempfile.TemporaryDirectory()
path = os.path.join(folder.name, "model.gguf")
subprocess.run([a.sail, "convert", "--model", a.model, "--out", path, "--dtype", "bf16"], check=True)
quiet = L.llama_log_callback(lambda level, text, data: None)
L.llama_log_set(quiet, ctypes.c_void_p(0))
L.llama_backend_init()
model = L.llama_model_load_from_file(path.encode(), L.llama_model_default_params())
rows = {"prompt": 1, "batched": 32, "single": 1}[a.what]
length = 512 if a.what == "prompt" else a.prompt + a.new
p = L.llama_context_default_params()
most = max(512, rows, a.prompt)
p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = rows * length, most, 512, rows
p.n_threads = p.n_threads_batch = a.threads
context = L.llama_init_from_model(model, p)
batch = L.llama_batch_init(most, 0, 1)
vocabulary = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))


def peak_mib():
    """Of this program: getrusage would also count what its parent was before it became this program."""
    with open("/proc/self/status") as f:
        return round(next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024, 1)


def decode(entries):
    """entries: (sequence, position, is the logit wanted)."""
    batch.n_tokens = len(entries)
    for i, (seq, pos, last) in enumerate(entries):
        batch.token[i] = made_id(seq, pos, vocabulary)
        batch.pos[i], batch.n_seq_id[i], batch.logits[i] = pos, 1, last
        batch.seq_id[i][0] = seq
    if L.llama_decode(context, batch):
        raise SystemExit("llama_decode failed")
    L.llama_synchronize(context)


def once():
    """Seconds of the prompts (as many sequences at once as a batch holds), and of the new tokens."""
    L.llama_memory_clear(L.llama_get_memory(context), True)
    start = time.perf_counter()
    if a.what == "prompt":
        decode([(0, i, i == length - 1) for i in range(length)])
        return time.perf_counter() - start, 0
    together = most // a.prompt
    for first in range(0, rows, together):
        decode([(seq, i, i == a.prompt - 1) for seq in range(first, min(rows, first + together)) for i in range(a.prompt)])
    read = time.perf_counter() - start
    for i in range(a.new):
        decode([(seq, a.prompt + i, True) for seq in range(rows)])
    return read, time.perf_counter() - start - read


once()
read, wrote = sorted((once() for _ in range(a.repeats)), key=sum)[a.repeats // 2]
result = {"bench": "llamacpp", "what": a.what, "prefill_tokens_per_s": round(rows * (length if a.what == "prompt" else a.prompt) / read, 1), "peak_rss_mib": peak_mib()}
if wrote:  # the prompts' time is in tok_s, as in sail's figure
    result.update(decode_tokens_per_s=round(rows * a.new / wrote, 1), tok_s=round(rows * a.new / (read + wrote), 1))
else:
    result["tok_s"] = result["prefill_tokens_per_s"]
print(json.dumps(result))
