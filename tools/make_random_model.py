#!/usr/bin/env python3
"""A folder with a Qwen2 model of a given size and random bf16 weights, to measure time and memory where nobody has such a model at hand. Needs numpy.

    tools/make_random_model.py OUT [--size 1.5b] [--tokenizer FOLDER]
"""
import argparse
import json
import os
import shutil
import struct

import numpy as np

SIZES = {  # hidden, MLP, layers, heads, key and value heads, vocabulary: Qwen2.5's
    "0.5b": (896, 4864, 24, 14, 2, 151936),
    "1.5b": (1536, 8960, 28, 12, 2, 151936),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")


def tensors(hidden, mlp, layers, heads, kv, vocab):
    """Names and shapes; the head is the embeddings'."""
    width = hidden // heads * kv
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        p = "model.layers.%d." % i
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "post_attention_layernorm.weight", (hidden,)
        for name, rows in (("q", hidden), ("k", width), ("v", width)):
            yield p + "self_attn.%s_proj.weight" % name, (rows, hidden)
            yield p + "self_attn.%s_proj.bias" % name, (rows,)
        yield p + "self_attn.o_proj.weight", (hidden, hidden)
        yield p + "mlp.gate_proj.weight", (mlp, hidden)
        yield p + "mlp.up_proj.weight", (mlp, hidden)
        yield p + "mlp.down_proj.weight", (hidden, mlp)
    yield "model.norm.weight", (hidden,)


def values(name, shape, draw):
    """bf16 as its 16 bits: norms are 1, biases 0, weights even in +-0.035, which has the spread of a normal draw of 0.02."""
    n = int(np.prod(shape))
    if name.endswith("norm.weight"):
        return np.full(n, 0x3F80, np.uint16)
    if name.endswith("bias"):
        return np.zeros(n, np.uint16)
    x = (draw.random(n, dtype=np.float32) - np.float32(0.5)) * np.float32(0.07)
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def write_weights(path, sizes):
    header, at = {}, 0
    for name, shape in tensors(*sizes):
        n = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = np.random.default_rng(1)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(*sizes):
            values(name, shape, draw).tofile(f)


def write_config(path, hidden, mlp, layers, heads, kv, vocab):
    with open(path, "w") as f:
        json.dump({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads,
                   "num_key_value_heads": kv, "vocab_size": vocab, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "hidden_act": "silu", "tie_word_embeddings": True,
                   "use_sliding_window": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}, f, indent=2)


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out", help="a folder; made")
    ap.add_argument("--size", choices=SIZES, default="1.5b")
    ap.add_argument("--tokenizer", help="a folder whose tokenizer goes with it, for rows of text: one with no more than 151,936 ids")
    a = ap.parse_args()
    os.makedirs(a.out)
    write_config(os.path.join(a.out, "config.json"), *SIZES[a.size])
    write_weights(os.path.join(a.out, "model.safetensors"), SIZES[a.size])
    for name in TOKENIZER if a.tokenizer else ():
        if os.path.exists(os.path.join(a.tokenizer, name)):
            shutil.copy(os.path.join(a.tokenizer, name), a.out)
