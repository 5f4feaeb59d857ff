#!/usr/bin/env python3
"""The SAIL paper's data as rows for sail: {"prompt", "chosen", "rejected"}, split into train.jsonl and test.jsonl (seed 42).

    prepare.py pku  PKU-SafeRLHF-10K/train.parquet   --label better --out data/pp10     # or --label safer: pm10
    prepare.py ultrafeedback  UltraFeedback/*.jsonl  --rows 10000   --out data/u10      # --rows 0: all of them, split 95:5

Files are JSON lines or Parquet (pyarrow) as the hubs have them. numpy splits; UltraFeedback's length filter counts with tiktoken's cl100k_base.
"""
import argparse
import json
import os


def read_rows(paths):
    for path in paths:
        if path.endswith(".parquet"):
            import pyarrow.parquet as pq

            for batch in pq.ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        else:
            with open(path) as f:
                yield from (json.loads(line) for line in f if line.strip())


def pku(rows, label):
    """Who is better (or safer) of two answers; the first 10,000 rows."""
    for i, r in enumerate(rows):
        if i == 10000:
            return
        k = r["better_response_id" if label == "better" else "safer_response_id"]
        yield {"prompt": "Human: %s\n\nAssistant: " % r["prompt"], "chosen": r["response_%d" % k], "rejected": r["response_%d" % (1 - k)]}


def ultrafeedback(rows, most):
    """The best against the worst of four answers by overall score, where every answer with its instruction is shorter than 1792 tokens."""
    import tiktoken

    count = lambda text: len(tiktoken.get_encoding("cl100k_base").encode(text, disallowed_special=()))
    for i, r in enumerate(rows):
        if most and i == most:
            return
        answers = r["completions"]
        if len(answers) != 4 or any(count(r["instruction"] + a["response"]) >= 1792 for a in answers):
            continue
        best, worst = (f(answers, key=lambda a: a["overall_score"]) for f in (max, min))
        yield {"prompt": "[INST] %s [/INST] " % r["instruction"], "chosen": best["response"], "rejected": worst["response"]}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("data", choices=["pku", "ultrafeedback"])
    ap.add_argument("files", nargs="+")
    ap.add_argument("--label", choices=["better", "safer"], default="better", help="pku: whose verdict")
    ap.add_argument("--rows", type=int, default=10000, help="ultrafeedback: rows before the filter; 0: all")
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    import numpy

    rows = list(pku(read_rows(a.files), a.label) if a.data == "pku" else ultrafeedback(read_rows(a.files), a.rows))
    order = numpy.random.default_rng(42).permutation(len(rows))
    n_test = -(-len(rows) * (20 if a.data == "pku" or a.rows else 5) // 100)
    os.makedirs(a.out, exist_ok=True)
    for name, part in (("test", order[:n_test]), ("train", order[n_test:])):
        with open(os.path.join(a.out, name + ".jsonl"), "w") as f:
            f.writelines(json.dumps(rows[i], ensure_ascii=False) + "\n" for i in part)
        print("%s: %d rows" % (os.path.join(a.out, name + ".jsonl"), len(part)))


if __name__ == "__main__":
    main()
