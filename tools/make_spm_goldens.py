#!/usr/bin/env python3
"""Writes tests/golden/tok/spm/: small SentencePiece models (NAME/tokenizer.model), texts, and the ids and texts that sentencepiece makes of them (rows.json).

Needs the Python package sentencepiece (0.2).
"""
import contextlib, io, json, pathlib, tempfile
import sentencepiece

TRAINING = ["the cat sat on the mat", "a cat is a cat is a cat", "hello world of cats and hats", "in the hat the rat sat 123 times", "the theory of the thing", "she sells sea shells on the sea shore",
            "caf\u00e9 na\u00efve r\u00e9sum\u00e9 \u4e16\u754c", "What is it? It's the cat's hat!", "one two three four five six seven"] * 3
TEXTS = ["", "the cat", "hello world", " leading", "trailing ", "two  spaces   here", "  ", "caf\u00e9 \u4e16\u754c", "unknown \u20ac \u2603\u2604 signs", "12 123 1234", "The CAT's hat?", "a\tb\nc", "<x> and <x><x>", "a<x>b",
         "the the the the", "CAF\u00c9 A", "\U0001f600 smile", "thethethe", "x", "\u2581 mark", "sea  shells \u00a0 end",
         "<x>the <x> the", "\u0132\u0301 \ufb01\u0301 \u0149\ufe0f", "A\u0308 A A\u0301", "aaaa catcatcat sssss", "   the   "]
MAP = ["132\t49 4A", "FB01\t66 69", "149\t2BC 6E", "41\t61", "41 308\tE4"]
MODELS = {
    "bpe": dict(model_type="bpe", vocab_size=340, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    "bpe-no-prefix": dict(model_type="bpe", vocab_size=80, normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, user_defined_symbols=["<x>"]),
    "bpe-map": dict(model_type="bpe", vocab_size=340, byte_fallback=True, rules=MAP, remove_extra_whitespaces=False, user_defined_symbols=["<x>", "\u2581\u2581", "the"]),
    "unigram": dict(model_type="unigram", vocab_size=90, normalization_rule_name="identity"),
    "unigram-bytes": dict(model_type="unigram", vocab_size=340, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    "unigram-longest": dict(model_type="unigram", vocab_size=340, byte_fallback=True, rules=MAP, user_defined_symbols=["<x>"]),
    "unigram-map": dict(model_type="unigram", vocab_size=80, rules=["41\t61", "C9\t65 301", "A0\t20", "2604\t"]),
}


def train(rules=None, **options):
    out = io.BytesIO()
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work): # the model keeps the file's name
        if rules:
            pathlib.Path("rules.tsv").write_text("\n".join(rules) + "\n")
            options["normalization_rule_tsv"] = "rules.tsv"
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TRAINING), model_writer=out, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
    return out.getvalue()


def rows(model):
    p = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in TEXTS:
        ids = p.encode(text)
        # an unknown piece is written as a sign of its own there
        yield {"text": text, "ids": ids, "decoded": None if p.unk_id() in ids else p.decode(ids)}


folder = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/tok/spm"
found = {}
for name, options in MODELS.items():
    model = train(**options)
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "tokenizer.model").write_bytes(model)
    found[name] = list(rows(model))
(folder / "rows.json").write_text(json.dumps(found, indent=1) + "\n")
