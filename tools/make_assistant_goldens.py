#!/usr/bin/env python3
"""Writes tests/golden/assistant.json: chats, a template with {% generation %} blocks, and the ids and assistant masks that transformers makes of them with the
tokenizers of tests/golden/tok/components.json and of examples/demo.

Needs the Python package transformers (5.23):  make_assistant_goldens.py > tests/golden/assistant.json
"""
import json, pathlib, random, tempfile
from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATE = """{%- macro turn(m) -%}
[{{ m.content }}]
{%- endmacro -%}
{% for m in messages %}{% if m.role == 'assistant' %} answer:{% generation %} {{ m.content }}<sep>{% endgeneration %}{% else %}{{ turn(m) }}{% endif %}{% endfor %}"""
NAMES = ["NFC", "NFKC", "Lowercase", "SplitIsolated0", "ByteFallback", "AddedTokens", "Unigramfirst"]
BITS = ["hello", "  two", "\n", "\u00e9", "e\u0301", "\u4e16\u754c", "\U0001f600", " don't", " 1234", "<sep>", "x\t", "\u00a0", "\ufb01", "A", "\u0301", " ", "the cat"]


def chats(n):
    rng = random.Random(7)
    text = lambda: "".join(rng.choice(BITS) for _ in range(rng.randint(0, 7)))
    return [[{"role": role, "content": text()} for _ in range(rng.randint(1, 2)) for role in ("user", "assistant")] for _ in range(n)]


def tokenizers():
    yield "stories260K", json.loads((ROOT / "examples/demo/stories260K/tokenizer.json").read_text())
    for case in json.loads((ROOT / "tests/golden/tok/components.json").read_text()):
        if case["name"] in NAMES:
            yield case["name"], case["tokenizer"]


def rows(spec):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(spec, f)
        f.flush()
        t = PreTrainedTokenizerFast(tokenizer_file=f.name)
    t.chat_template = TEMPLATE
    for messages in chats(10):
        out = t.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        yield {"messages": messages, "text": t.apply_chat_template(messages, tokenize=False), "ids": out["input_ids"], "mask": out["assistant_masks"]}


cases = {name: list(rows(spec)) for name, spec in tokenizers()}
print('{"template": %s,\n"cases": {' % json.dumps(TEMPLATE))
print(",\n".join('"%s": [\n%s]' % (name, ",\n".join(json.dumps(r, separators=(",", ":")) for r in some)) for name, some in cases.items()))
print("}}")
