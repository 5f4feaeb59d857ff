#!/usr/bin/env bash
# The demo: a trained 260K-parameter story model, a gold reward ("a happy story"), 1,200-odd labelled pairs; then six runs from the same start, data and
# budget, and one page that compares them.   usage: run.sh [SEEDS]   environment: SAIL (the program), DEMO_OUT (default runs/demo)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sail=${SAIL:-build/sail}
out=${DEMO_OUT:-runs/demo}
seeds=${1:-1}
model=$here/stories260K
reward=(--reward-rule "$here/happy.yaml")
rm -rf "$out"
mkdir -p "$out"

# Offline data: answers of the start policy, judged two by two by a Bradley-Terry draw of the gold reward (T = 0.5). Ties fall out.
# pairs NAME RETURNS: RETURNS / 2 pairs for each training prompt.
pairs() {
  "$sail" generate --model "$model" --prompts "$here/prompts-train.jsonl" --num-return "$2" --max-new-tokens 48 --dtype f32 --seed 7 --out "$out/$1-answers.jsonl" --quiet
  "$sail" label --model "$model" --prompts "$here/prompts-train.jsonl" --data "$out/$1-answers.jsonl" "${reward[@]}" --pr-label sampled --label-temperature 0.5 --seed 7 --out "$out/$1.jsonl"
}
pairs pairs 4
pairs pairs-more 10

common=(--model "$model" --full --dtype f32 --optimizer adamw --lr 1e-4 --schedule constant --warmup-steps 10 --max-grad-norm 0 --batch 32 --max-steps 200
        --beta 0.1 --max-length 128 --max-new-tokens 48 --prompts "$here/prompts-train.jsonl" "${reward[@]}" --pr-label sampled --label-temperature 0.5
        --eval-prompts "$here/prompts-test.jsonl" --eval-steps 50)
# run NAME SEED OPTIONS...: trains, then measures 391 test prompts x 4 answers against the DPO run of the same seed.
run() {
  local name=$1 seed=$2; shift 2
  local dir=$out/$name-seed$seed
  echo "== $name, seed $seed"
  "$sail" align "${common[@]}" --seed "$seed" --out "$dir" "$@"
  "$sail" eval --model "$dir/final" --ref "$model" --versus "$out/dpo-seed$seed/final" --prompts "$here/prompts-test.jsonl" --num-return 4 --max-new-tokens 48 --dtype f32 \
    "${reward[@]}" --seed 99 --out "$dir/eval.json" --quiet
}
for seed in $(seq 1 "$seeds"); do
  run dpo "$seed" --method dpo --data "$out/pairs.jsonl"
  run sail-dp "$seed" --method sail-dp --mix-dp 0.4 --rho 0.2 --data "$out/pairs.jsonl"
  run sail-pp "$seed" --method sail-pp --mix-pp 0.3 --pi 0.2 --baseline loo --data "$out/pairs.jsonl"
  run sail-pr "$seed" --method sail-pr --mix-pr 0.3 --gamma 0.3 --baseline loo --data "$out/pairs.jsonl"
  run sail-pr-gamma0 "$seed" --method sail-pr --mix-pr 0.3 --gamma 0 --data "$out/pairs.jsonl"
  run dpo-more-labels "$seed" --method dpo --data "$out/pairs-more.jsonl"
done
"$sail" report "$out" --out "$out/report.html"
echo
echo "$out/report.html"
