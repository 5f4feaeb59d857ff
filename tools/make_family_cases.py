#!/usr/bin/env python3
"""Tiny random models of every family with chosen hyper-parameters, what transformers says of them in float64, and a comparison of `sail` with that.

    make_family_cases.py make  OUT [--seed N] [--only NAME,NAME]    model folders with log-probs, greedy answers and the gradient of sft
    make_family_cases.py check OUT SAIL [--only NAME,NAME]          a line for each case; the exit status is 1 when a bar is missed
    make_family_cases.py list                                       names of the cases

The table CASES names the options of a case; sizes that it leaves open are drawn from seed and name. A folder is one of tests/golden/cases: config.json in the
spelling of transformers 5, config.v4.json in that of 4, model.safetensors, data.jsonl, expected.json, grad-sft.safetensors, perhaps adapter/.
Truth is float64 throughout: the casts to float32 inside transformers are turned into casts to float64. Each sequence is run alone by a model that has seen no other.
Needs torch, transformers, peft.
"""
import argparse, json, math, pathlib, random, shutil, subprocess, sys, tempfile, warnings, zlib

LENGTHS = [(5, 4, 7), (20, 24, 17), (7, 13, 12), (12, 6, 24), (3, 1, 2), (16, 8, 9)]  # tokens of prompt, chosen, rejected
LONG = [(70, 130, 161), (150, 40, 1)]
BARS = {"token": 5e-5, "gradient": 3e-5, "tensor": 6e-5}

# ------------------------------------------------------------------------------------------------ cases

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0, "original_max_position_embeddings": 32}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "beta_fast": 4.0, "beta_slow": 0.5, "original_max_position_embeddings": 32}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
SMALL = dict(vocab_size=96, num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=28)  # in tests/golden
S, F = "sliding_attention", "full_attention"


def longrope(pairs, **more):
    return {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1 + 0.1 * j for j in range(pairs)], "long_factor": [1.5 + 0.7 * j for j in range(pairs)]} | more


def neox(rope, partial=0.5):
    return rope | {"partial_rotary_factor": partial}


CASES = {  # name: (model type, config fields); "lora" is for peft, "raw" goes into config.json as it stands, "lengths" are of the rows
    "llama-mha": ("llama", dict(num_key_value_heads=None)),
    "llama-mqa": ("llama", dict(num_attention_heads=6, num_key_value_heads=1)),
    "llama-biases": ("llama", dict(attention_bias=True, mlp_bias=True)),
    "llama-attention-bias": ("llama", dict(attention_bias=True, tie_word_embeddings=True)),
    "llama-head-dim": ("llama", dict(hidden_size=44, num_attention_heads=4, num_key_value_heads=2, head_dim=14)),
    "llama-gelu": ("llama", dict(hidden_act="gelu")),
    "llama-gelu-new": ("llama", dict(hidden_act="gelu_new", mlp_bias=True)),
    "llama-relu": ("llama", SMALL | dict(hidden_act="relu")),
    "llama-linear": ("llama", dict(rope_parameters=LINEAR)),
    "llama-dynamic-short": ("llama", dict(rope_parameters=DYNAMIC)),
    "llama-dynamic": ("llama", SMALL | dict(rope_parameters=DYNAMIC, max_position_embeddings=24)),
    "llama-llama3": ("llama", dict(head_dim=16, rope_parameters=LLAMA3)),
    "llama-llama3-no-original": ("llama", dict(head_dim=20, rope_parameters={k: v for k, v in LLAMA3.items() if not k.startswith("original")})),
    "llama-yarn": ("llama", dict(head_dim=20, rope_parameters=YARN)),
    "llama-yarn-mscale": ("llama", dict(head_dim=12, rope_parameters=YARN | {"mscale": 0.8, "mscale_all_dim": 0.3})),
    "llama-yarn-attention": ("llama", dict(head_dim=16, rope_parameters=YARN | {"attention_factor": 1.3})),
    "llama-yarn-smooth": ("llama", dict(head_dim=16, rope_parameters=YARN | {"truncate": False})),
    "llama-yarn-no-factor": ("llama", dict(head_dim=16, rope_parameters=YARN | {"factor": None})),
    "llama-longrope": ("llama", dict(head_dim=12, rope_parameters=longrope(6, original_max_position_embeddings=24, factor=3.0))),
    "mistral": ("mistral", dict(sliding_window=5)),
    "mistral-wide": ("mistral", dict(sliding_window=None, num_key_value_heads=1, head_dim=20)),
    "mistral-yarn": ("mistral", dict(sliding_window=3, head_dim=16, rope_parameters=YARN, tie_word_embeddings=True)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True)),
    "qwen2-window": ("qwen2", dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=4, max_window_layers=1)),
    "qwen2-layers": ("qwen2", dict(num_hidden_layers=4, use_sliding_window=True, sliding_window=6, layer_types=[S, F, S, F], hidden_act="gelu_pytorch_tanh")),
    "qwen2-yarn": ("qwen2", dict(head_dim=10, rope_parameters=YARN)),
    "qwen2-dynamic": ("qwen2", dict(rope_parameters=DYNAMIC | {"factor": 3.0}, max_position_embeddings=20, tie_word_embeddings=True)),
    "qwen3": ("qwen3", dict(head_dim=10, tie_word_embeddings=True)),
    "qwen3-bias": ("qwen3", dict(head_dim=24, attention_bias=True)),
    "qwen3-window": ("qwen3", dict(num_hidden_layers=3, head_dim=8, use_sliding_window=True, sliding_window=5, max_window_layers=2)),
    "qwen3-yarn": ("qwen3", dict(head_dim=16, rope_parameters=YARN | {"factor": 2.0})),
    "smollm3": ("smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=3)),
    "smollm3-four": ("smollm3", SMALL | dict(num_hidden_layers=4)),
    "smollm3-layers": ("smollm3", dict(num_hidden_layers=4, no_rope_layers=[0, 1, 1, 0], attention_bias=True, mlp_bias=True, tie_word_embeddings=False)),
    "smollm3-window": ("smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5)),
    "smollm3-yarn": ("smollm3", dict(num_hidden_layers=3, no_rope_layers=[1, 1, 0], head_dim=16, rope_parameters=YARN)),
    "olmo2": ("olmo2", dict(num_key_value_heads=None)),
    "olmo2-bias": ("olmo2", dict(attention_bias=True, tie_word_embeddings=True, num_attention_heads=6, num_key_value_heads=2)),
    "olmo2-linear": ("olmo2", dict(rope_parameters=LINEAR, hidden_act="gelu")),
    "phi3-half": ("phi3", dict(num_attention_heads=3, num_key_value_heads=1, hidden_size=60, rope_parameters=neox({"rope_type": "default", "rope_theta": 5000.0}, 0.5))),
    "phi3-three-quarters": ("phi3", dict(num_attention_heads=4, num_key_value_heads=2, hidden_size=64, sliding_window=4, tie_word_embeddings=True,
                                         rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.75))),
    "phi3-long": ("phi3", dict(num_attention_heads=4, num_key_value_heads=2, hidden_size=64, original_max_position_embeddings=20,
                               rope_parameters=longrope(6, partial_rotary_factor=0.75))),
    "phi3-long-attention": ("phi3", dict(num_attention_heads=4, num_key_value_heads=4, hidden_size=32, original_max_position_embeddings=30, hidden_act="gelu_new",
                                         rope_parameters=longrope(4, partial_rotary_factor=1.0, attention_factor=1.25))),
    "phi3-long-factor": ("phi3", dict(num_attention_heads=2, num_key_value_heads=2, hidden_size=32, original_max_position_embeddings=24,
                                      rope_parameters=longrope(8, partial_rotary_factor=1.0, factor=16.0))),
    "gemma": ("gemma", dict(num_key_value_heads=1)),
    "gemma-bias": ("gemma", dict(attention_bias=True)),
    "gemma-old-gelu": ("gemma", SMALL | dict(raw={"hidden_act": "gelu"}, num_key_value_heads=1)),
    "gemma2-no-caps": ("gemma2", dict(attn_logit_softcapping=None, final_logit_softcapping=None, sliding_window=3)),
    "gemma2-layers": ("gemma2", dict(num_hidden_layers=3, layer_types=[F, S, S], sliding_window=5, attention_bias=True, tie_word_embeddings=False)),
    "gemma2-gelu": ("gemma2", dict(hidden_activation="gelu", rope_parameters=LINEAR, sliding_window=40)),
    "gemma2-scale": ("gemma2", dict(head_dim=12, query_pre_attn_scalar=12, sliding_window=5, num_attention_heads=4, num_key_value_heads=2)),
    "gemma3-six": ("gemma3_text", dict(num_hidden_layers=7, head_dim=10, query_pre_attn_scalar=10, sliding_window=6, num_attention_heads=3, num_key_value_heads=1)),
    "gemma3": ("gemma3_text", dict(num_hidden_layers=5, layer_types=[S, S, F, S, F], sliding_window=4, raw={"final_logit_softcapping": 7.0})),
    "gemma3-pattern": ("gemma3_text", dict(num_hidden_layers=4, sliding_window_pattern=2, sliding_window=6, attention_bias=True, tie_word_embeddings=False,
                                           rope_parameters={S: {"rope_type": "default", "rope_theta": 8000.0}, F: LLAMA3})),
    "gemma3-yarn": ("gemma3_text", dict(num_hidden_layers=3, layer_types=[S, F, S], sliding_window=9, head_dim=16,
                                        rope_parameters={S: {"rope_type": "default", "rope_theta": 10000.0}, F: DYNAMIC})),
    "gpt2": ("gpt2", dict(n_embd=36, n_head=4, n_inner=50)),
    "gpt2-inverse-layer": ("gpt2", dict(scale_attn_by_inverse_layer_idx=True, n_layer=3, tie_word_embeddings=False)),
    "gpt2-unscaled": ("gpt2", dict(scale_attn_weights=False, activation_function="relu", raw={"reorder_and_upcast_attn": True})),
    "gpt2-gelu": ("gpt2", dict(activation_function="gelu", n_head=1, n_embd=17)),
    "neox": ("gpt_neox", dict(rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.25))),
    "neox-half": ("gpt_neox", dict(hidden_size=48, num_attention_heads=4, rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.5))),
    "neox-sequential": ("gpt_neox", dict(use_parallel_residual=False, hidden_act="gelu_new", rope_parameters=neox({"rope_type": "default", "rope_theta": 3000.0}, 1.0))),
    "neox-no-bias": ("gpt_neox", dict(attention_bias=False, hidden_act="relu", tie_word_embeddings=True, rope_parameters=neox(LINEAR))),
    "neox-odd": ("gpt_neox", dict(vocab_size=96, num_hidden_layers=2, hidden_size=48, num_attention_heads=4, intermediate_size=28, hidden_act="gelu_new", use_parallel_residual=False, rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.25))),
    "neox-yarn": ("gpt_neox", dict(hidden_size=64, num_attention_heads=4, hidden_act="silu", rope_parameters=neox(YARN))),
    "llama-long": ("llama", dict(max_position_embeddings=400, head_dim=80, lengths=LONG)),
    "mistral-long": ("mistral", dict(max_position_embeddings=400, sliding_window=67, lengths=LONG)),
    "gemma2-long": ("gemma2", dict(max_position_embeddings=400, sliding_window=33, lengths=LONG)),
    "phi3-longer": ("phi3", dict(max_position_embeddings=400, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, original_max_position_embeddings=160,
                                 sliding_window=129, lengths=LONG, rope_parameters=longrope(8, partial_rotary_factor=1.0))),
    "qwen3-long": ("qwen3", dict(max_position_embeddings=150, head_dim=18, lengths=LONG, rope_parameters=DYNAMIC)),
    "gpt2-long": ("gpt2", dict(n_positions=300, lengths=LONG)),
    "neox-dynamic": ("gpt_neox", dict(hidden_size=48, num_attention_heads=3, max_position_embeddings=16, rope_parameters=neox(DYNAMIC | {"factor": 4.0}))),
    "stablelm": ("stablelm", dict(rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.5))),
    "stablelm-bias": ("stablelm", SMALL | dict(use_qkv_bias=True, rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}, 0.5))),
    "stablelm-gelu": ("stablelm", dict(tie_word_embeddings=True, hidden_act="gelu")),
    "stablelm-parallel": ("stablelm", dict(use_parallel_residual=True, rope_parameters=neox(LINEAR))),
    "stablelm-12b": ("stablelm", SMALL | dict(use_parallel_residual=True, qk_layernorm=True)),
    "granite": ("granite", dict(embedding_multiplier=3.0, attention_multiplier=0.21, residual_multiplier=0.35, logits_scaling=1.7, tie_word_embeddings=True)),
    "granite-bias": ("granite", SMALL | dict(embedding_multiplier=2.0, attention_multiplier=0.4, residual_multiplier=0.6, logits_scaling=0.5, attention_bias=True,
                                             mlp_bias=True, head_dim=12, rope_parameters=YARN)),
    "cohere": ("cohere", SMALL | dict(logit_scale=0.8)),
    "cohere-norms": ("cohere", SMALL | dict(use_qk_norm=True, attention_bias=True, logit_scale=1.3, tie_word_embeddings=False)),
    "cohere-dynamic": ("cohere", dict(logit_scale=0.5, rope_parameters=DYNAMIC, max_position_embeddings=30)),
    "lora-stablelm": ("stablelm", SMALL | dict(use_qkv_bias=True, qk_layernorm=True, lora=dict(r=3, lora_alpha=6, target_modules="all-linear"))),
    "lora-granite": ("granite", dict(embedding_multiplier=3.0, attention_multiplier=0.21, residual_multiplier=0.35, logits_scaling=1.7,
                                     lora=dict(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "up_proj", "down_proj"]))),
    "lora-cohere": ("cohere", dict(logit_scale=0.7, use_qk_norm=True, lora=dict(r=2, lora_alpha=3, target_modules="all-linear"))),
    "lora-neox": ("gpt_neox", dict(lora=dict(r=4, lora_alpha=8, target_modules=["query_key_value", "dense_4h_to_h"]), rope_parameters=neox({"rope_type": "default", "rope_theta": 10000.0}))),
    "lora-gpt2": ("gpt2", dict(lora=dict(r=4, lora_alpha=8, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True))),
    "lora-olmo2": ("olmo2", dict(lora=dict(r=4, lora_alpha=8, target_modules=["k_proj", "v_proj", "gate_proj"]))),
    "lora-gemma3": ("gemma3_text", dict(num_hidden_layers=3, layer_types=[S, F, S], sliding_window=5, lora=dict(r=4, lora_alpha=8, target_modules="all-linear"))),
}

NAMED = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)


def sizes(kind, rng):
    """Sizes of a model of this type, as its config names them."""
    heads_of_kv = rng.choice([1, 2, 3])
    kv = rng.choice([1, 2, 3])
    heads, head_dim = kv * heads_of_kv, rng.choice([8, 16, 24] if kind == "stablelm" else [6, 8, 10, 12, 16, 20])
    layers, inter, vocab = rng.choice([2, 3]), rng.randrange(20, 90), rng.randrange(90, 180)
    c = dict(vocab_size=vocab, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, hidden_size=heads * head_dim, intermediate_size=inter,
             max_position_embeddings=64, rms_norm_eps=rng.choice([1e-5, 1e-6])) | NAMED
    if kind == "gpt2":
        head_dim = rng.choice([5, 7, 9, 8])
        return dict(vocab_size=vocab, n_embd=heads * head_dim, n_layer=layers, n_head=heads, n_positions=64, bos_token_id=2, eos_token_id=2)
    if kind in ("gpt_neox", "stablelm", "cohere"):
        del c["rms_norm_eps"]
    if kind == "gpt_neox":
        del c["num_key_value_heads"]
    if kind in ("gemma", "gemma2", "gemma3_text"):
        c |= dict(head_dim=head_dim, hidden_size=heads * rng.choice([4, 6, 8, 10]), eos_token_id=1, bos_token_id=2)
    if kind in ("gemma2", "gemma3_text"):
        c |= dict(query_pre_attn_scalar=rng.choice([7, 12, 20]))
    if kind == "gemma2":
        c |= dict(attn_logit_softcapping=5.0, final_logit_softcapping=4.0)
    return c


def config_fields(name, seed):
    kind, options = CASES[name]
    rng = random.Random(f"{seed}/{name}")
    fields = sizes(kind, rng) | {k: v for k, v in options.items() if k not in ("lora", "raw", "lengths")}
    heads = fields.get("num_attention_heads")
    if fields.get("num_key_value_heads") and heads % fields["num_key_value_heads"]:
        fields["num_key_value_heads"] = 1
    if "hidden_size" not in options and "num_attention_heads" in options:
        fields["hidden_size"] = heads * rng.choice([8] if kind == "stablelm" else [6, 8, 10])
    return kind, json.loads(json.dumps(fields)), options


# ------------------------------------------------------------------------------------------------ truth


def libraries():
    """Imported when models are made: check needs numbers only."""
    global torch, transformers, peft, safetensors_torch
    import torch, transformers, peft
    import safetensors.torch as safetensors_torch
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def keep_double():
    """Every cast to float32 inside a float64 model is to float64 instead, so that the result is the mathematical truth."""
    from torch.overrides import TorchFunctionMode

    class KeepDouble(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.Tensor.float:
                func = torch.Tensor.double

            def keep(value):
                cast = value is torch.float32 and func not in (torch.frombuffer, torch.Tensor.view)  # these read raw bytes
                return torch.float64 if cast else value
            return func(*map(keep, args), **{k: keep(v) for k, v in (kwargs or {}).items()})

        def __enter__(self):
            torch.set_default_dtype(torch.float64)
            return super().__enter__()

        def __exit__(self, *exc):
            torch.set_default_dtype(torch.float32)
            return super().__exit__(*exc)
    return KeepDouble()


def noise(shape, std, gen):
    return (torch.randn(shape, generator=gen, dtype=torch.float64) * std).float()


def fill(model, gen):
    """Weights large enough that logits have a standard deviation near 2 and attention is far from uniform."""
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 or "layernorm.norms" in name or "_norm." in name:  # norms start at their neutral value, biases at 0
                p.add_(noise(p.shape, 0.25, gen))
                continue
            if "wpe" in name:
                std = 0.3
            elif any(s in name for s in ("embed_tokens", "wte", "embed_in")):
                std = 2.0 / p.shape[1] ** 0.5 if tied else 0.8
            else:
                fan_in = p.shape[0] if model.config.model_type == "gpt2" else p.shape[1]
                std = (2.0 if "lm_head" in name or "embed_out" in name else 1.5) / fan_in ** 0.5
            p.copy_(noise(p.shape, std, gen))


def v4_config(c):
    """A config.json of transformers 5 in the spelling of transformers 4."""
    c = dict(c)
    kind, rope = c["model_type"], c.pop("rope_parameters", None)
    c["torch_dtype"] = c.pop("dtype", "float32")
    c["transformers_version"] = "4.51.3"
    layers = c.get("layer_types")
    if kind == "gemma3_text":
        pattern = c.pop("_sliding_window_pattern", 6)
        derived = [F if (i + 1) % pattern == 0 else S for i in range(c["num_hidden_layers"])]
        if layers == derived:
            del c["layer_types"]
            c["sliding_window_pattern"] = pattern
        c["rope_local_base_freq"] = rope[S]["rope_theta"]
        rope = rope[F]
    elif layers and layers == [S if i % 2 == 0 else F for i in range(len(layers))] and kind == "gemma2":
        del c["layer_types"]
    if rope is None:
        return c
    rope = dict(rope)
    theta, part = rope.pop("rope_theta"), rope.pop("partial_rotary_factor", None)
    if kind == "gpt_neox":
        c |= {"rotary_emb_base": theta, "rotary_pct": part}
    else:
        c["rope_theta"] = theta
        if part is not None:
            c["partial_rotary_factor"] = part
    if rope["rope_type"] != "default":
        rope["type"] = rope.pop("rope_type") if kind in ("llama", "phi3") else rope["rope_type"]
    c["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    return c


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def make_model(name, folder, seed, gen):
    kind, fields, options = config_fields(name, seed)
    config = transformers.AutoConfig.for_model(kind, **fields)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    fill(model, gen)
    model.save_pretrained(folder)
    if "lora" in options:
        tuned = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options["lora"]))
        with torch.no_grad():
            for key, p in tuned.named_parameters():
                if "lora_A" in key:
                    p.copy_(noise(p.shape, p.shape[1] ** -0.5, gen))
                if "lora_B" in key:
                    p.copy_(noise(p.shape, 0.1, gen))
        tuned.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        path = folder / "adapter" / "adapter_config.json"
        settings = json.loads(path.read_text()) | {"base_model_name_or_path": None}
        settings["target_modules"] = sorted(settings["target_modules"])
        write_json(path, settings)
    written = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.v4.json", v4_config(written) | options.get("raw", {}))
    write_json(folder / "config.json", written | options.get("raw", {}))


def load(folder):
    """The config's raw options that only change how transformers computes are left out."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.reorder_and_upcast_attn = False
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float64, attn_implementation="eager")
    if (folder / "adapter").is_dir():
        model = peft.PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True, autocast_adapter_dtype=False).to(torch.float64)
    return model.eval()


def forget(model):
    """Dynamic rotary embeddings remember the longest sequence that they have seen."""
    for m in model.modules():
        for key in [k for k in vars(m) if k.endswith("max_seq_len_cached")]:
            setattr(m, key, m.original_max_seq_len)
        for key in [k for k, _ in m.named_buffers(recurse=False) if k.endswith("original_inv_freq")]:
            setattr(m, key.replace("original_", ""), getattr(m, key).clone())


def logits_of(model, ids):
    forget(model)
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


def token_logps(model, prompt, completion):
    ids = prompt + completion
    logps = torch.log_softmax(logits_of(model, ids)[:-1], -1)
    return logps.gather(1, torch.tensor(ids)[1:, None])[len(prompt) - 1:, 0]


def greedy(model, prompt, eos, steps=12):
    """Argmax decoding by full forward passes; gap is the smallest distance between the first and the second logit."""
    ids, gap, logp = [], math.inf, 0.0
    with torch.no_grad():
        while len(ids) < steps and (not ids or ids[-1] != eos):
            logits = logits_of(model, prompt + ids)[-1]
            top = logits.topk(2)
            gap = min(gap, (top.values[0] - top.values[1]).item())
            ids.append(top.indices[0].item())
            logp += torch.log_softmax(logits, -1)[ids[-1]].item()
    return {"ids": ids, "finish": "eos" if ids[-1] == eos else "length", "logp": logp, "gap": gap}


def make_rows(vocab, eos, table, gen):
    rows = []
    for i, lengths in enumerate(table):
        prompt, chosen, rejected = (torch.randint(3, vocab, (n,), generator=gen).tolist() for n in lengths)
        if i % 2:
            chosen[-1] = rejected[-1] = eos
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def in_file(model, name):
    name = name.replace(".default.", ".")
    return name.replace("lm_head.", "embed_out.") if model.config.model_type == "gpt_neox" else name


def truth(name, folder, gen):
    """expected.json, data.jsonl and grad-sft.safetensors; the smallest gap of greedy decoding."""
    with keep_double():
        model = load(folder)
        eos = model.config.eos_token_id
        rows = make_rows(model.config.vocab_size, eos, CASES[name][1].get("lengths", LENGTHS), gen)
        scored, n, loss = [], 0, 0.0
        model.zero_grad()
        for r in rows:
            out = {}
            for side in ("chosen", "rejected"):
                lp = token_logps(model, r["prompt_ids"], r[side + "_ids"])
                out |= {f"{side}_logp": lp.sum().item(), f"{side}_n": len(lp), f"{side}_token_logps": lp.tolist()}
                if side == "chosen":
                    (-lp.sum()).backward()
                    n += len(lp)
                    loss -= lp.sum().item()
            scored.append(out)
        grads = {in_file(model, k): p.grad / n for k, p in model.named_parameters() if p.requires_grad}
        answers = [greedy(model, r["prompt_ids"], eos) for r in rows]
    meta = {"loss": f"{loss / n:.17g}", "method": "sft"}
    safetensors_torch.save_file({k: g.to(torch.float32).contiguous() for k, g in grads.items()}, folder / "grad-sft.safetensors", meta)
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    methods = [{"name": "sft", "method": "sft", "file": "grad-sft.safetensors", "data": "data.jsonl", "options": {}, "loss": loss / n}]
    for file in (f for f in folder.rglob("*") if f.is_file()):
        file.chmod(0o644)
    write_json(folder / "expected.json", {"case": name, "rows": scored, "greedy": answers, "methods": methods})
    return min(a["gap"] for a in answers)


def make(out, names, seed):
    libraries()
    for name in names:
        folder = out / name
        for attempt in range(20):  # another draw until greedy decoding has no near tie
            shutil.rmtree(folder, ignore_errors=True)
            gen = torch.Generator().manual_seed(seed * 1000003 + zlib.crc32(name.encode()) + attempt)
            make_model(name, folder, seed, gen)
            gap = truth(name, folder, gen)
            if gap > 2e-3:
                break
        print(f"{name}: smallest gap {gap:.1e}", flush=True)


# ------------------------------------------------------------------------------------------------ check


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def token_error(scored, expected):
    pairs = [(g, w, side) for g, w in zip(scored, expected, strict=True) for side in ("chosen", "rejected")]
    return max(abs(a - b) for g, w, side in pairs for a, b in zip(g[f"{side}_token_logps"], w[f"{side}_token_logps"], strict=True))


def gradient_error(got, want):
    """Whole, and the worst tensor's largest difference over its largest value."""
    from safetensors.numpy import load_file
    a, b = load_file(got), load_file(want)
    assert a.keys() == b.keys(), f"tensors {sorted(a.keys() ^ b.keys())[:3]}"
    a, b = ({k: v.astype("f8") for k, v in x.items()} for x in (a, b))
    floor = 1e-2 * max(abs(v).max() for v in b.values())  # the bias of keys that no rotation meets has no gradient at all
    whole = math.sqrt(sum(((a[k] - b[k]) ** 2).sum() for k in b) / sum((b[k] ** 2).sum() for k in b))
    return whole, max(abs(a[k] - b[k]).max() / max(abs(b[k]).max(), floor) for k in b)


def check_case(folder, sail, tmp):
    expected, adapter = json.loads((folder / "expected.json").read_text()), ["--adapter", folder / "adapter"] if (folder / "adapter").is_dir() else []

    def run(*arguments):
        done = subprocess.run([sail, *map(str, arguments), *map(str, adapter)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or done.stdout.strip())
    errors = {}
    v4 = tmp / "v4"
    v4.mkdir()
    shutil.copy(folder / "config.v4.json", v4 / "config.json")
    shutil.copy(folder / "model.safetensors", v4)
    for model, key in ((folder, "token"), (v4, "token, version 4")):
        run("score", "--model", model, "--data", folder / "data.jsonl", "--out", tmp / "s.jsonl", "--tokens")
        errors[key] = token_error(lines(tmp / "s.jsonl"), expected["rows"])
    (tmp / "p.jsonl").write_text("".join(json.dumps({"prompt_ids": r["prompt_ids"]}) + "\n" for r in lines(folder / "data.jsonl")))
    run("generate", "--model", folder, "--prompts", tmp / "p.jsonl", "--out", tmp / "o.jsonl", "--greedy", "--max-new-tokens", 12, "--dtype", "f32", "--quiet")
    errors["greedy"] = sum(g["ids"] != w["ids"] for g, w in zip(lines(tmp / "o.jsonl"), expected["greedy"], strict=True))
    run("grad", "--model", folder, "--data", folder / "data.jsonl", "--method", "sft", "--out", tmp / "g.safetensors")
    errors["gradient"], errors["tensor"] = gradient_error(tmp / "g.safetensors", folder / "grad-sft.safetensors")
    return errors


def check(out, names, sail):
    missed = 0
    for name in names:
        with tempfile.TemporaryDirectory() as tmp:
            try:
                errors = check_case(out / name, sail, pathlib.Path(tmp))
                bad = [k for k, v in errors.items() if not v <= BARS.get(k.split(",")[0], 0)]
                text = ", ".join(f"{k} {v:.1e}" if isinstance(v, float) else f"{k} {v}" for k, v in errors.items())
            except (RuntimeError, AssertionError) as e:
                bad, text = ["failed"], str(e)
        missed += bool(bad)
        print(f"{'MISSED' if bad else 'ok':6} {name}: {text}", flush=True)
    print(f"{len(names) - missed} of {len(names)} cases within the bars")
    return missed > 0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["make", "check", "list"])
    ap.add_argument("out", type=pathlib.Path, nargs="?")
    ap.add_argument("sail", nargs="?")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--only", default="")
    a = ap.parse_args()
    names = [n for n in CASES if not a.only or n in a.only.split(",")]
    if a.command == "list":
        print("\n".join(names))
    elif a.command == "make":
        make(a.out, names, a.seed)
    else:
        sys.exit(check(a.out, names, a.sail))


if __name__ == "__main__":
    main()
