#!/usr/bin/env python3
"""Makes examples/demo/prompts-{train,test}.jsonl: beginnings of TinyStories stories, cut at a word's end, at most 12 tokens.

    make_demo_prompts.py STORIES.txt TOKENIZER.json OUT_FOLDER

STORIES.txt: stories separated by <|endoftext|>. Beginnings that several stories share are taken once; every third goes to the test file."""
import json, pathlib, sys

from tokenizers import Tokenizer

stories, tokenizer, out = sys.argv[1], Tokenizer.from_file(sys.argv[2]), pathlib.Path(sys.argv[3])
seen = {}
for story in pathlib.Path(stories).read_text().split("<|endoftext|>"):
    words = story.strip().split(" ")
    best = ""
    for n in range(1, len(words)):
        text = " ".join(words[:n])
        if "\n" in text or len(tokenizer.encode(text, add_special_tokens=False).ids) > 12:
            break
        best = text
    if len(best.split()) >= 4:
        seen.setdefault(best)
prompts = list(seen)
test = [p for i, p in enumerate(prompts) if i % 3 == 2][:512]
train = [p for i, p in enumerate(prompts) if i % 3 != 2]
for name, rows in (("train", train), ("test", test)):
    (out / f"prompts-{name}.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in rows))
    print(name, len(rows))
