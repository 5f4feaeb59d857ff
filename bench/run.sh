#!/usr/bin/env bash
# What this machine does: training, scoring, sampling and tokenizing with one model, beside its measured peak. The machine should be idle.
#   usage: run.sh [MODEL [ROWS.jsonl]]     default: the demo's 260K-parameter model and pairs made of its own answers, which measures overheads more than products
#   environment: SAIL (the program), BENCH_OPTIONS (more options of train, score and generate: "--threads 1 --dtype f32")
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
sail=${SAIL:-build/sail}
model=${1:-$here/examples/demo/stories260K}
rows=${2:-}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "$rows" ]; then
  rows=$folder/pairs.jsonl
  head -n 64 "$here/examples/demo/prompts-train.jsonl" >"$folder/prompts.jsonl"
  "$sail" generate --model "$model" --prompts "$folder/prompts.jsonl" --num-return 4 --max-new-tokens 128 --dtype f32 --out "$folder/answers.jsonl" --quiet
  "$sail" label --model "$model" --prompts "$folder/prompts.jsonl" --data "$folder/answers.jsonl" --reward-rule "$here/examples/demo/happy.yaml" --out "$rows" --quiet
fi
read -r -a more <<<"${BENCH_OPTIONS:-}"
common=(--model "$model" --max-length 512 "${more[@]}")
echo "== LoRA"
"$sail" bench train --data "$rows" "${common[@]}"
echo "== every weight"
"$sail" bench train --data "$rows" --full "${common[@]}"
echo "== no training"
"$sail" bench score --data "$rows" "${common[@]}"
"$sail" bench generate --data "$rows" --batch 32 "${common[@]}"
"$sail" bench tokenize --model "$model" --text-file "$rows"
