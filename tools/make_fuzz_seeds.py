#!/usr/bin/env python3
"""Writes the first inputs of every fuzz target: tests/fuzz/corpus/NAME/seed-*. Needs gguf, numpy, safetensors and sentencepiece (PyPI)."""
import base64, contextlib, gzip, io, json, pathlib, struct, tempfile
import gguf, numpy, sentencepiece

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/fuzz/corpus"
CASES = ROOT / "tests/golden/cases"


def put(target, name, data):
    path = CORPUS / target / f"seed-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def dumps(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def two(first, second):
    return first + "\n%%\n" + second


# ---------------------------------------------------------------- safetensors

def safetensors_bytes(tensors, metadata=None):
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, dtype, shape, raw in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def safetensors():
    f = lambda n: bytes(range(n))
    put("safetensors", "empty", safetensors_bytes([]))
    put("safetensors", "plain", safetensors_bytes([("b", "F32", [2, 2], f(16)), ("a.weight", "BF16", [3], f(6))], {"format": "pt"}))
    put("safetensors", "types", safetensors_bytes([("i64", "I64", [1], f(8)), ("f16", "F16", [2, 1], f(4)), ("u8", "U8", [0], b""), ("bool", "BOOL", [], f(1)), ("f8", "F8_E4M3", [1, 1, 1], f(1))]))
    put("safetensors", "parts", two('{"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"a":{"dtype":"I8","shape":[1,1],"data_offsets":[4,5]},"__metadata__":{"k":"v"}}', "12345"))
    put("safetensors", "hole", struct.pack("<Q", 64) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}          ' + f(8))


# ---------------------------------------------------------------- GGUF

def gguf_bytes(arch, fill):
    with tempfile.NamedTemporaryFile(suffix=".gguf") as f:
        w = gguf.GGUFWriter(f.name, arch)
        fill(w)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        return pathlib.Path(f.name).read_bytes()


def llama_model(w):
    for add, value in ((w.add_context_length, 16), (w.add_embedding_length, 32), (w.add_feed_forward_length, 32), (w.add_block_count, 1), (w.add_head_count, 4), (w.add_head_count_kv, 2)):
        add(value)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(4)
    rng = numpy.random.default_rng(1)
    kinds = [gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q5_0, gguf.GGMLQuantizationType.Q5_1,
             gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16]
    shapes = {"token_embd.weight": (4, 32), "blk.0.attn_q.weight": (32, 32), "blk.0.attn_k.weight": (16, 32), "blk.0.attn_v.weight": (16, 32), "blk.0.attn_output.weight": (32, 32),
              "blk.0.ffn_gate.weight": (32, 32), "blk.0.ffn_up.weight": (32, 32), "blk.0.ffn_down.weight": (32, 32)}
    for i, (name, shape) in enumerate(shapes.items()):
        kind = kinds[i % len(kinds)]
        w.add_tensor(name, gguf.quants.quantize(rng.standard_normal(shape, dtype=numpy.float32), kind), raw_dtype=kind)
    for name in ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight"):
        w.add_tensor(name, numpy.ones(32, numpy.float32))


def byte_vocabulary(w, model, tokens, types, **lists):
    w.add_tokenizer_model(model)
    w.add_token_list(tokens)
    w.add_token_types(types)
    for name, value in lists.items():
        getattr(w, "add_token_" + name)(value)
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)


def gguf_seeds():
    put("gguf", "llama", gguf_bytes("llama", llama_model))

    def spm(w):
        byte_vocabulary(w, "llama", ["<unk>", "</s>", "<0x41>", "▁", "a", "b", "ab", "▁ab"], [2, 3, 6, 1, 1, 1, 1, 1], scores=[0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0])
        w.add_add_space_prefix(True)
        w.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    put("gguf", "spm", gguf_bytes("llama", spm))

    def bpe(w):
        byte_vocabulary(w, "gpt2", ["<|a|>", "<|b|>", "H", "e", "Ġ", "l", "He", "ll", "1"], [3, 4, 1, 1, 1, 1, 1, 1, 1], merges=["H e", "l l"])
        w.add_tokenizer_pre("qwen2")
    put("gguf", "bpe", gguf_bytes("qwen2", bpe))
    put("gguf", "bert", gguf_bytes("bert", lambda w: byte_vocabulary(w, "bert", ["[UNK]", "[SEP]", "▁hello", "lo", "▁1"], [2, 3, 1, 1, 1])))

    def k_quants(w):
        for kind, size in ((gguf.GGMLQuantizationType.Q4_K, 144), (gguf.GGMLQuantizationType.Q6_K, 210), (gguf.GGMLQuantizationType.Q2_K, 84)):
            w.add_tensor(f"blk.0.{kind.name}.weight", numpy.arange(size, dtype=numpy.uint8).reshape(1, size), raw_dtype=kind)
    put("gguf", "k", gguf_bytes("llama", k_quants))


# ---------------------------------------------------------------- rows

def dataset():
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there"}]
    rows = {
        "prompts": [{"prompt": "Once upon"}, {"prompt": "a time"}],
        "ids": [{"prompt_ids": [1, 2, 3], "completion_ids": [4, 5]}],
        "preference": [{"prompt": "a b", "chosen": "c d", "rejected": "e", "p": 0.5, "margin": 1, "route": "pp"}],
        "implicit": [{"chosen": "the cat sat", "rejected": "the cat ran"}],
        "unpaired": [{"prompt": "p", "completion": "é世", "label": True}],
        "text": [{"text": "A whole text."}],
        "messages": [{"messages": talk}],
        "talk": [{"prompt": talk[:1], "chosen": talk[1:], "rejected": [{"role": "assistant", "content": "No"}]}],
        "implicit-talk": [{"chosen": talk, "rejected": talk[:1] + [{"role": "assistant", "content": "No"}]}],
        "continued": [{"prompt": talk}],
    }
    for name, some in rows.items():
        put("dataset", name, "".join(dumps(r) + "\n" for r in some))
    put("dataset", "array", dumps(rows["ids"] + rows["ids"]))
    put("dataset", "gzip", gzip.compress(dumps(rows["text"][0]).encode(), mtime=0))


# ---------------------------------------------------------------- tokenizers

def sentencepiece_model(kind, **options):
    out = io.BytesIO()
    text = ["the cat sat on the mat", "a cat is a cat", "hello world of cats", "in the hat the rat sat 123"] * 4
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(text), model_writer=out, model_type=kind, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
    return out.getvalue()


def mapped_model():
    """Two characters are mapped to others."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder): # the model keeps the file's name
        pathlib.Path("rules.tsv").write_text("41\t61\nC9\t65 301\n")
        return sentencepiece_model("bpe", vocab_size=30, normalization_rule_tsv="rules.tsv", remove_extra_whitespaces=False, add_dummy_prefix=False)


def field(message, wanted):
    """The bytes of a protobuf field of type 2."""
    def varint(at):
        value, shift = 0, 0
        while True:
            value |= (message[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 128:
                return value, at
    at = 0
    while at < len(message):
        key, at = varint(at)
        n, at = (4, at) if key & 7 == 5 else varint(at)
        if key & 7 == 0:
            continue
        if key >> 3 == wanted:
            return message[at:at + n]
        at += n


def tokenizer_model():
    put("tokenizer_model", "bpe", sentencepiece_model("bpe", vocab_size=300, byte_fallback=True, normalization_rule_name="identity"))
    put("tokenizer_model", "unigram", sentencepiece_model("unigram", vocab_size=40, normalization_rule_name="identity", user_defined_symbols=["<x>"]))
    put("tokenizer_model", "map", mapped_model())


def tokenizer_json():
    bpe = {"type": "BPE", "vocab": {c: i for i, c in enumerate(["<unk>", "a", "b", "Ġ", "ab", "▁", "e", "1", "Ã", "©", "H"])}, "merges": ["a b"], "unk_token": "<unk>"}
    models = {}
    for case in json.loads((ROOT / "tests/golden/tok/components.json").read_text()):
        spec = case["tokenizer"]
        if spec["model"]["type"] == "BPE" and case["name"] not in ("Suffix0", "Prefix"):
            keep = {k: v for k, v in spec["model"].items() if k not in ("vocab", "merges", "unk_token")}
            spec["model"] = bpe | keep
        if case["name"] == "Precompiled":
            spec["normalizer"]["precompiled_charsmap"] = base64.b64encode(field(field(mapped_model(), 3), 2)).decode()
        for added in spec.get("added_tokens") or []:
            added["id"] %= 40
        if case["name"] in ("ByteFallback", "Suffix0", "Prefix", "UnigramBytes", "Unigramalways"):
            vocab = spec["model"]["vocab"]
            small = vocab[:24] if isinstance(vocab, list) else None
            if small:
                spec["model"]["vocab"] = small
        if len(dumps(spec)) < 3000:
            models[case["name"]] = spec
    for name, spec in models.items():
        put("tokenizer_json", name, two(dumps(spec), "Hi ab  a1é\n<sep> ab"))


# ---------------------------------------------------------------- templates

def template():
    lines = (ROOT / "tests/golden/template/cases.jsonl").read_text().split("\n")[:-1]
    by_words = {}
    for case in map(json.loads, lines[1:]): # one of each set of words
        words = frozenset("".join(c if c.isalpha() else " " for c in case["t"]).split())
        if 0 < len(case["t"]) < 400 and "out" in case and (words not in by_words or len(case["t"]) < len(by_words[words])):
            by_words[words] = case["t"]
    kept = sorted(by_words.values())[::3]
    for i in range(0, len(kept), 24):
        put("template", f"{i // 24:03d}", "\n".join(kept[i:i + 24]))


# ---------------------------------------------------------------- configs

def configs():
    for folder in sorted(CASES.iterdir()):
        for name in ("config.json", "config.v4.json"):
            if (folder / name).exists():
                put("model_config", f"{folder.name}-{name[7:-5] or 'v5'}", two(dumps(json.loads((folder / name).read_text())), '{"eos_token_id":[1,2]}'))
    adapter = json.loads((CASES / "lora-llama/adapter/adapter_config.json").read_text())
    put("adapter_config", "plain", dumps(adapter))
    put("adapter_config", "all", dumps(adapter | {"target_modules": "all-linear", "use_rslora": True, "lora_alpha": 1.5}))
    put("adapter_config", "regex", dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ".*(q|v)_proj", "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 2},
                                          "modules_to_save": ["lm_head"], "layers_to_transform": [0], "use_dora": True, "bias": "none", "task_type": "CAUSAL_LM"}))
    put("adapter_config", "empty", two(dumps(adapter), safetensors_bytes([]).decode()))
    for path in ("examples/demo/study.yaml", "examples/demo/happy.yaml", "examples/smollm2-harmless/harmless.yaml"):
        put("yaml", pathlib.Path(path).stem, (ROOT / path).read_text())
    put("yaml", "config", "model: m\ndata: d.jsonl\nmethod: sail\nbeta: 0.1\nlora-r: 8\nlr: 1e-5\nlabels: [a, 'b', \"c\"]\n")
    put("yaml", "rules", "rules:\n- {kind: regex, pattern: '(?i)once|time', weight: 2, max: 3}\n- {kind: contains, text: end, ignore_case: true}\n- {kind: characters, weight: -0.1, target: 9}\n"
        "- {kind: json_valid}\n- {kind: ends_with, text: '.'}\n- {kind: words, list: [a, time], distinct: true}\n- {kind: repeated_bigrams}\n- {kind: word_count}\n")
    put("yaml", "flow", "{a: [1, {b: c}], ? d : *x, &y e: !!str 3, f: |\n  text\n}\n")


for make in (safetensors, gguf_seeds, dataset, tokenizer_model, tokenizer_json, template, configs):
    make()
