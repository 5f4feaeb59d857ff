#!/usr/bin/env python3
"""Writes tests/golden/tok/gguf_pre.json: how each tokenizer that GGUF knows by name (tokenizer.ggml.pre) cuts text, as ids of the tokenizers library.

The cuts are those of the models' own tokenizer.json. The vocabulary was trained on the very texts without any cut, so that a cut in another place gives other ids.
Needs the Python package tokenizers (0.23):  make_gguf_pre_goldens.py > tests/golden/tok/gguf_pre.json
"""
import json, random
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+END|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*END|")
CASED_NOT_HAN = CASED.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]")
LATIN = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
         "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
         "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
         "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
         "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
         "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"


def cut(regex):
    return pre_tokenizers.Split(Regex(regex), "isolated")


DIGITS = pre_tokenizers.Digits(individual_digits=True)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3 = [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS)]
QWEN2 = [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS)]
SYMBOLS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
DEEPSEEK3 = [cut(r"\p{N}{1,3}"), cut(KANA), cut(SYMBOLS + "|[^\r\n" + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[" + "\r\n]*|" + BLANKS)]
POROS = [cut(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+")]
RUNS = "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))

KINDS = [  # names, steps, NFC, ignore_merges
    ("gpt-2 phi-2 jais trillion granite-docling gigachat a.x-4.0 mellum modern-bert exaone4 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe", [GPT2], False, False),
    ("olmo mpt", [GPT2], True, False),
    ("smollm starcoder refact codeshell exaone minerva-7b mellum2", [DIGITS, GPT2], False, False),
    ("command-r", [DIGITS, GPT2], True, False),
    ("llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano", LLAMA3, False, True),
    ("dbrx smaug-bpe glm4 glm5 chatglm-bpe", LLAMA3, False, False),
    ("qwen2 deepseek-r1-qwen megrez stablelm2 f2llmv2", QWEN2, True, False),
    ("hunyuan kormo grok-2 solar-open", QWEN2, False, False),
    ("qwen35", [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + BLANKS)], True, False),
    ("gpt-4o llama4 kanana2 minimax-m2 granite-embed-multi-97m", [cut(CASED.replace("END", CONTRACTIONS + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + BLANKS)], False, False),
    ("tekken", [cut(CASED.replace("END", "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + BLANKS)], False, True),
    ("kimi-k2", [cut(r"[\p{Han}]+|" + CASED_NOT_HAN.replace("END", CONTRACTIONS + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS)], False, False),
    ("youtu", [cut("[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + KANA),
               cut(CASED.replace("END", CONTRACTIONS + "?") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + BLANKS)], False, False),
    ("deepseek-llm", [cut("[\r\n]"), cut(rf"\s?[{LATIN}]+"), cut("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"), cut(r"\s+$"), cut(CJK), cut(r"\p{N}+")], False, False),
    ("deepseek-coder", [cut("[\r\n]"), cut(r"\s?\p{L}+"), cut(r"\s?\p{P}+"), cut(CJK), DIGITS], False, False),
    ("deepseek-v3 hunyuan-dense joyai-llm", DEEPSEEK3, False, False),
    ("poro-chat bloom gpt3-finnish", POROS, False, False),
    ("viking", POROS + [DIGITS], False, False),
    ("bailingmoe bailingmoe2 llada-moe", [cut(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")], False, False),
    ("seed-coder", [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + BLANKS)], False, False),
    ("exaone-moe", [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+")], False, False),
    ("jais-2", [cut(CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|" + RUNS + r"|\s{1}")], False, False),
    ("ufakzeka", [cut(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + BLANKS)], False, False),
    ("superbpe", [cut(r"\p{N}+"), cut(r"(?=(\d{3})+(?!\d))")], False, False),
]

PARTS = ["Hello", "WORLD", "mIxEd", "I'm", "DON'T", "we've", "YOU'LL", "'S", "x1y2", "foo.bar()", "12345678", "1,000", "3.14", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "!", "?!", "--", "/", "//",
         "(a)", "#tag", "$5", "_", "`", "caf\u00e9", "cafe\u0301", "\u01c5x", "\u017ftop", "\u03a3\u038a\u03a3", "\u1f7d\u1fd3\u1fdb\u1fbe", "\u2126\u212b\u212a\u2128", "\u043f\u0440\u0438\u0432\u0435\u0442", "\u4e2d\u6587\u5b57",
         "\u3072\u3089", "\u30ab\u30bf", "\ud55c\uad6d", "\u3131", "\u0627\u0644\u0639\u064e\u0631", "\u05e9\u05c1\u05dc", "\u0939\u093f\u0928", "\u0e44\u0e17\u0e22", "\u00bd", "\u00b2", "\u0663\u0664", "\uff11", "\u2167",
         "\u3000", "\u00a0", "\u2028", "\u200b", "\u200d", "\u3002", "\uff0c", "\u201cq\u201d", "\u2026", "\u20ac", "\u221e", "\U0001f600", "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\u00ad", "\x07", "\U00020bb7"]


def texts():
    rng = random.Random(1)
    return ["".join(rng.choice(PARTS) for _ in range(rng.randrange(2, 14))) for _ in range(40)]


def main():
    rows = texts()
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False, max_token_length=16)
    trained.train_from_iterator(rows * 2, trainer)
    model = json.loads(trained.to_str())["model"]
    cuts = []
    for names, steps, nfc, ignore in KINDS:
        t = Tokenizer.from_str(json.dumps(json.loads(trained.to_str()) | {"model": model | {"ignore_merges": ignore}}))
        ends = [] if any(step is GPT2 for step in steps) else [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        t.pre_tokenizer = pre_tokenizers.Sequence(steps + ends)
        if nfc:
            t.normalizer = normalizers.NFC()
        cuts.append({"names": names.split(), "ids": [e.ids for e in t.encode_batch(rows, add_special_tokens=False)]})
    out = {"tokens": sorted(model["vocab"], key=model["vocab"].get), "merges": [" ".join(m) for m in model["merges"]], "texts": rows, "cuts": cuts}
    print(json.dumps(out, separators=(",", ":")))


if __name__ == "__main__":
    main()
