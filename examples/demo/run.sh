#!/usr/bin/env bash
# The demo: a trained 260K-parameter story model, a gold reward ("a happy story"), 1,200-odd labelled pairs; then the six methods of study.yaml from the
# same start, data and budget, and one page that compares them. Run again after an interrupt, it goes on.
# usage: run.sh [SEEDS [STUDY]]   STUDY: study (the default) or all-methods
# environment: SAIL (the program), DEMO_OUT (default runs/demo, runs/all-methods), JOBS (runs at a time, 1), THREADS (of a run; default as the study says)
set -euo pipefail
sail=$(realpath "${SAIL:-build/sail}")
study=${2:-study}
case $study in study) name=demo ;; *) name=$study ;; esac
out=$(realpath -m "${DEMO_OUT:-runs/$name}")
seeds=$(seq -s, 1 "${1:-1}")
cd "$(dirname "$0")/../.."
here=examples/demo
model=$here/stories260K
mkdir -p "$out"

# Offline data: answers of the start policy, judged two by two by a Bradley-Terry draw of the gold reward (T = 0.5). Ties fall out.
# pairs NAME RETURNS: RETURNS / 2 pairs for each training prompt.
pairs() {
  [ ! -e "$out/$1.jsonl" ] || return 0
  "$sail" generate --model "$model" --prompts "$here/prompts-train.jsonl" --num-return "$2" --max-new-tokens 48 --dtype f32 --seed 7 --out "$out/$1-answers.jsonl" --quiet
  "$sail" label --model "$model" --prompts "$here/prompts-train.jsonl" --data "$out/$1-answers.jsonl" --reward-rule "$here/happy.yaml" \
    --pr-label sampled --label-temperature 0.5 --seed 7 --out "$out/$1.jsonl"
}
pairs pairs 4
pairs pairs-more 10

sed "s|runs/$name/|$out/|" "$here/$study.yaml" > "$out/study.yaml"
exec "$sail" compare --config "$out/study.yaml" --seeds "$seeds" --out "$out" --jobs "${JOBS:-1}" ${THREADS:+--threads "$THREADS"}
