#!/usr/bin/env python3
"""Writes tests/golden/tok/components.json: small tokenizers of every kind of component, texts, and what the tokenizers library makes of them.

Needs the Python package tokenizers (0.23):  make_tokenizer_goldens.py > tests/golden/tok/components.json
"""
import base64, json, struct
from tokenizers import Tokenizer

TEXTS = [
    "", " ", "Hello world", "  two  spaces ", "The cat's hat, isn't it? I'LL go!", "line\nbreak\r\n\ttab", "caf\u00e9 cafe\u0301 \u00c5ngstr\u00f6m \u212b", "\ufb01ne \u2167 \uff21\uff22",
    "\u4e2d\u6587 text \u3042", "12345 a1b22", "a  <sep>  b", "x<sep>y", "word words sword", "\u0130stanbul \u1e9e", "\U0001f600 ok\u200d\u200cok", "na\u00efve\u00a0r\u00e9sum\u00e9\u3000end",
    "th the then there", "\x00\x01\x7f\u00ad\ufffd", "e\u0304\u0301\u0323", "...!?--", "\u0661\u0662 \u00bd", "unaffable unaffable", "<unk> [UNK] </s>", "aaaa bbbb",
]


def kind(name, **rest):
    return {"type": name, **rest}


def alphabet():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b if b in kept else next(rest)) for b in range(256)]


def sequence(name, *steps):
    return {"type": "Sequence", name: list(steps)}


def with_merges(symbols, merges, **options):
    vocab = {s: i for i, s in enumerate(symbols)}
    mark = len(options.get("continuing_subword_prefix") or "")
    for left, right in merges:
        vocab.setdefault(left + right[mark:], len(vocab))
    base = dict(dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    return kind("BPE", **{**base, **options}, vocab=vocab, merges=[list(m) for m in merges])


MERGES = [("t", "h"), ("th", "e"), ("\u0120", "the"), ("i", "n"), ("o", "r"), ("w", "or"), ("wor", "d"), ("a", "a"), ("\u0120", "a"), ("l", "l")]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'\u2581"


def byte_level():
    return with_merges(alphabet(), MERGES)


def unigram(extra=(), **options):
    pieces = [["<unk>", 0.0], ["<s>", 0.0], ["</s>", 0.0]] + [[c, -6.0 - i / 50] for i, c in enumerate(LETTERS)]
    pieces += [[p, -3.0 - i / 9] for i, p in enumerate(["\u2581the", "th", "the", "re", "wor", "word", "\u2581word", "s", "aa", "aaa", "\u2581a"])]
    return kind("Unigram", unk_id=0, vocab=pieces + list(extra), **{"byte_fallback": False, **options})


def wordpiece(**options):
    words = ["[UNK]", "[CLS]", "[SEP]", "the", "##re", "un", "##aff", "##able", "word", "##s", "hello", ",", ".", "!", "?", "'", "cafe", "caf", "##\u00e9", "\u4e2d", "a", "##a"]
    return kind("WordPiece", **{"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 12, **options}, vocab={w: i for i, w in enumerate(words + list("bcdefghijklmnopqrstuvwxyz"))})


def charsmap():
    """A double array for a -> b and U+FB01 -> fi, built with one free block for each node."""
    text = b"b\0fi\0"
    units = [0] * 4096
    def place(node, block, children):
        units[node] |= (node ^ block) << 10
        for label, value, more in children:
            child = block ^ label
            units[child] |= label
            if value is not None:
                units[child] |= 1 << 8
            if more or value is not None:
                nxt = place.free
                place.free += 256
                if value is not None:
                    units[nxt] = 1 << 31 | value
                place(child, nxt, more)
    place.free = 512
    place(0, 256, [(ord("a"), 0, []), (0xEF, None, [(0xAC, None, [(0x81, 2, [])])])])
    raw = struct.pack("<%dI" % len(units), *units)
    return base64.b64encode(struct.pack("<I", len(raw)) + raw + text).decode()


def pieces(*names):
    return [{"Sequence": {"id": "A", "type_id": 0}} if n == "$" else {"SpecialToken": {"id": n, "type_id": 0}} for n in names]


def template(*names, **ids):
    return kind("TemplateProcessing", single=pieces(*names), pair=pieces("$") + [{"Sequence": {"id": "B", "type_id": 1}}],
                special_tokens={n: {"id": n, "ids": i, "tokens": [n] * len(i)} for n, i in ids.items()})


def added(content, number, **flags):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False, **flags}


def cases():
    level = kind("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    bare = kind("ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=False)
    prefixed = kind("ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=False)
    n = len(byte_level()["vocab"])
    bpe = dict(model=byte_level(), pre_tokenizer=level, decoder=level)
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        yield form, {**bpe, "normalizer": kind(form)}
    yield "Strip", {**bpe, "normalizer": kind("Strip", strip_left=True, strip_right=False)}
    yield "ReplaceRegex", {**bpe, "normalizer": sequence("normalizers", kind("Replace", pattern={"Regex": "[0-9]+|\\s{2,}"}, content="#"), kind("Prepend", prepend=">"))}
    yield "Precompiled", {**bpe, "normalizer": kind("Precompiled", precompiled_charsmap=charsmap())}
    yield "NormalizerByteLevel", {**bpe, "normalizer": kind("ByteLevel"), "pre_tokenizer": None}
    for behaviour in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for invert in (False, True):
            yield "Split%s%d" % (behaviour, invert), {**bpe, "pre_tokenizer": sequence("pretokenizers", kind("Split", pattern={"Regex": "[aeiou ]"}, behavior=behaviour, invert=invert), prefixed)}
        yield "Punctuation" + behaviour, {**bpe, "pre_tokenizer": sequence("pretokenizers", kind("Punctuation", behavior=behaviour), prefixed)}
    for name, step in {"Digits": kind("Digits", individual_digits=True), "DigitRuns": kind("Digits", individual_digits=False), "Whitespace": kind("Whitespace"), "WhitespaceSplit": kind("WhitespaceSplit"),
                       "Delimiter": kind("CharDelimiterSplit", delimiter="e"), "Bert": kind("BertPreTokenizer"), "Fixed": kind("FixedLength", length=3)}.items():
        yield name, {**bpe, "pre_tokenizer": sequence("pretokenizers", step, prefixed)}
    yield "AddedTokens", {**bpe, "normalizer": kind("Lowercase"), "added_tokens": [
        added("<sep>", n, lstrip=True, rstrip=True, special=True), added("THERE", n + 1, normalized=True), added("word", 262, single_word=True), added("the", 257, normalized=True)]}
    yield "AddedBlanks", {**bpe, "normalizer": kind("Lowercase"), "added_tokens": [  # one swallows what another would be
        added(" ", n, lstrip=True, rstrip=True), added("ISN'T", n + 1, normalized=True, special=True), added("  ", n + 2, lstrip=True, normalized=True), added("e", n + 3, rstrip=True, normalized=True)]}
    yield "IgnoreMerges", {**bpe, "model": {**byte_level(), "ignore_merges": True}, "post_processor": sequence("processors", level, template("bos", "$", "eos", bos=[1], eos=[2, 3]))}
    yield "Roberta", {**bpe, "post_processor": kind("RobertaProcessing", sep=["a", 66], cls=["b", 67], trim_offsets=True, add_prefix_space=True)}
    spm = sequence("decoders", kind("Replace", pattern={"String": "\u2581"}, content=" "), kind("ByteFallback"), kind("Fuse"), kind("Strip", content=" ", start=1, stop=0))
    fallback = with_merges(["<unk>"] + ["<0x%02X>" % b for b in range(256)] + list(LETTERS), [("t", "h"), ("\u2581", "th")], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    yield "ByteFallback", {"model": fallback, "normalizer": sequence("normalizers", kind("Prepend", prepend="\u2581"), kind("Replace", pattern={"String": " "}, content="\u2581")), "decoder": spm}
    for fuse in (False, True):
        yield "Suffix%d" % fuse, {"model": with_merges(["<unk>", *LETTERS, *(c + "</w>" for c in LETTERS)], [("t", "h"), ("th", "e</w>")], unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=fuse),
                                 "pre_tokenizer": kind("Whitespace"), "decoder": kind("BPEDecoder", suffix="</w>")}
    yield "Prefix", {"model": with_merges([*LETTERS, *("##" + c for c in LETTERS)], [("t", "##h"), ("th", "##e")], continuing_subword_prefix="##"), "pre_tokenizer": kind("WhitespaceSplit"), "decoder": kind("WordPiece", prefix="##", cleanup=True)}
    for scheme in ("first", "always", "never"):
        meta = kind("Metaspace", replacement="\u2581", prepend_scheme=scheme, split=scheme != "never")
        yield "Unigram" + scheme, {"model": unigram(), "normalizer": kind("Strip", strip_left=True, strip_right=True), "pre_tokenizer": meta, "decoder": meta, "post_processor": template("$", "eos", eos=[2]),
                                   "added_tokens": [added("<unk>", 0, special=True), added("</s>", 2, special=True)]}
    yield "UnigramBytes", {"model": unigram([["<0x%02X>" % b, -9.0] for b in range(256)], byte_fallback=True), "decoder": spm}
    bert = kind("BertNormalizer", clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    yield "WordPiece", {"model": wordpiece(), "normalizer": bert, "pre_tokenizer": kind("BertPreTokenizer"), "decoder": kind("WordPiece", prefix="##", cleanup=True), "post_processor": kind("BertProcessing", sep=["[SEP]", 2], cls=["[CLS]", 1])}
    yield "WordPieceCtc", {"model": wordpiece(), "pre_tokenizer": kind("BertPreTokenizer"), "decoder": kind("CTC", pad_token="a", word_delimiter_token="e", cleanup=True)}
    yield "WordLevel", {"model": kind("WordLevel", unk_token="[UNK]", vocab=wordpiece()["vocab"]), "pre_tokenizer": kind("Whitespace")}


def main():
    print("[")
    for k, (name, parts) in enumerate(cases()):
        file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts}
        t = Tokenizer.from_str(json.dumps(file))
        rows = []
        for text in TEXTS:
            ids, special = t.encode(text, add_special_tokens=False).ids, t.encode(text).ids
            rows.append({"ids": ids, "ids_special": special, "decoded": t.decode(ids, skip_special_tokens=False), "decoded_skip_special": t.decode(special, skip_special_tokens=True)})
        print("%s%s" % ("," if k else "", json.dumps({"name": name, "tokenizer": file, "strings": TEXTS, "rows": rows}, separators=(",", ":"))))
    print("]")


main()
