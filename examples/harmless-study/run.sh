#!/usr/bin/env bash
# Do fresh answers, labels and SAIL's terms help on a real model? SmolLM2-135M-Instruct on human harmlessness pairs. The pairs are cut in two halves: a
# reward model of half A labels for the policies, which train on half A; another one of half B, which no policy meets, judges them on held-out prompts. All
# policies start from one SFT on A's chosen answers.
#   usage: run.sh MODEL PAIRS.jsonl [OUT]      MODEL: folder or .gguf; PAIRS: rows {"prompt","chosen","rejected"} (hh-rlhf, harmless-base)
#   environment: SAIL (the program), JOBS (runs at a time, 1), THREADS (of a run, 2), STEPS (of a policy, 120)
# Given again after an interrupt, the same command goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sail=$(realpath "${SAIL:-build/sail}")
model=$(realpath "${1:?usage: run.sh MODEL PAIRS.jsonl [OUT]}")
pairs=${2:?usage: run.sh MODEL PAIRS.jsonl [OUT]}
out=$(realpath -m "${3:-runs/harmless-study}")
jobs=${JOBS:-1} threads=${THREADS:-2} steps=${STEPS:-120}
mkdir -p "$out"

# Rows with a prompt of at most 520 bytes (about 128 tokens): 200 judge, of the others every second one is half A.
if [ ! -e "$out/b.jsonl" ]; then
  awk 'match($0, /", "chosen": "/) && RSTART <= 520' "$pairs" > "$out/short.jsonl"
  head -n 200 "$out/short.jsonl" > "$out/test.jsonl"
  head -n 50 "$out/test.jsonl" > "$out/curve.jsonl"
  tail -n +201 "$out/short.jsonl" | awk 'NR % 2 == 1' > "$out/a.jsonl"
  tail -n +201 "$out/short.jsonl" | awk 'NR % 2 == 0' > "$out/b.part"
  mv "$out/b.part" "$out/b.jsonl"
fi

# train COMMAND NAME OPTIONS...: an adapter on the model; goes on with it where it stopped. Started in the background, where exec makes it the process that signals reach
train() {
  [ -d "$out/$2/final" ] || exec "$sail" "$1" --model "$model" --eval-data "$out/test.jsonl" --out "$out/$2" $([ ! -d "$out/$2" ] || echo --resume) --lora-r 16 --dtype bf16 --optimizer adamw --schedule linear \
    --warmup-steps 10 --batch 8 --save-steps 20 --max-prompt-length 128 --seed 1 --quiet "${@:3}"
}
# The three adapters, beside each other where several runs may be; a signal reaches them all.
pids=()
await() { local p; for p in "${pids[@]}"; do wait "$p"; done; pids=(); }
start() { "$@" & pids+=($!); [ "$jobs" -gt 1 ] || await; }
trap 'trap - TERM; kill -- $(jobs -p) 2>/dev/null; wait; exit 1' INT TERM
share=$((jobs > 1 && jobs * threads > 3 ? jobs * threads / 3 : threads))
start train reward adapter-reward-a --data "$out/a.jsonl" --max-length 256 --lr 1e-4 --epochs 2 --threads $share
start train reward adapter-reward-b --data "$out/b.jsonl" --max-length 256 --lr 1e-4 --epochs 2 --threads $share
start train sft adapter-sft --data "$out/a.jsonl" --max-length 176 --lr 1e-4 --epochs 1 --threads $share
await
for name in reward-a reward-b sft; do
  [ -d "$out/$name" ] || "$sail" convert --model "$model" --merge "$out/adapter-$name/final" --out "$out/$name"
done
for name in reward-a reward-b; do
  echo "$name: accuracy on held-out pairs $(grep -o '"eval_accuracy": [0-9.]*' "$out/adapter-$name/metrics.jsonl" | tail -n 1 | cut -d' ' -f2)"
done

sed -e "s|OUT/|$out/|" -e "s|^  max_steps: 120|  max_steps: $steps|" "$here/study.yaml" > "$out/study.yaml"
exec "$sail" compare --config "$out/study.yaml" --out "$out/runs" --jobs "$jobs" --threads "$threads"
