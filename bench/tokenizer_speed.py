#!/usr/bin/env python3
"""sail and the tokenizers library on one core, by turns, on the lines of the same text.

    bench/tokenizer_speed.py --model DIR --text FILE [--sail build/sail] [--rounds 5]

Needs the Python package tokenizers. Both start with a tokenizer that has met no word (first pass), then go over the text again. Seconds are those of the core, medians of the rounds; the ids are compared before.
"""
import argparse, json, os, statistics, subprocess, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers


def seconds_of(encode, lines):
    start = time.process_time()
    encode(lines)
    return time.process_time() - start


def one_by_one(t):
    return lambda lines: [t.encode(line, add_special_tokens=False) for line in lines]


def library_round(path, lines):
    t = tokenizers.Tokenizer.from_file(path)
    first = seconds_of(one_by_one(t), lines)
    again = seconds_of(one_by_one(t), lines)
    batch = seconds_of(lambda some: t.encode_batch_fast(some, add_special_tokens=False), lines)
    return {"first": first, "again": again, "batch": batch}


def sail_round(sail, model, text):
    out = subprocess.run([sail, "bench", "tokenize", "--model", model, "--text-file", text, "--steps", "3", "--json"], check=True, capture_output=True).stdout
    row = json.loads(out)
    return {"first": row["first_s"], "again": row["median_s"], "tokens": row["tokens"], "bytes": row["bytes"]}


def check_ids(sail, model, text, path, lines):
    t = tokenizers.Tokenizer.from_file(path)
    ours = subprocess.run([sail, "tokenize", "--model", model, "--text-file", text], check=True, capture_output=True).stdout.decode().splitlines()
    assert len(ours) == len(lines), f"{len(ours)} lines of ids for {len(lines)} of text"
    for i, (line, ids) in enumerate(zip(lines, ours)):
        assert t.encode(line, add_special_tokens=False).ids == json.loads(ids), f"line {i + 1}: other ids"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--sail", default="build/sail")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    path = os.path.join(a.model, "tokenizer.json")
    text = open(a.text, "rb").read().decode()
    lines = text.split("\n")[:-1] if text.endswith("\n") else text.split("\n")
    check_ids(a.sail, a.model, a.text, path, lines)
    ours, theirs = [], []
    for _ in range(a.rounds):
        theirs.append(library_round(path, lines))
        ours.append(sail_round(a.sail, a.model, a.text))
    tokens, size = ours[0]["tokens"], ours[0]["bytes"]
    print(f"{tokens} tokens, {size} bytes, {len(lines)} lines; tokenizers {tokenizers.__version__}; the ids are equal")
    middle = lambda rounds, key: statistics.median(r[key] for r in rounds)
    for name, mine, other in (("first pass, encode", "first", "first"), ("again, encode", "again", "again"), ("again, encode_batch_fast", "again", "batch")):
        x, y = middle(ours, mine), middle(theirs, other)
        print(f"{name:26} sail {tokens / x / 1e6:6.2f} M tokens/s {size / x / 1e6:7.2f} MB/s   tokenizers {tokens / y / 1e6:6.2f} M tokens/s {size / y / 1e6:7.2f} MB/s   {y / x:6.2f} times")


main()
