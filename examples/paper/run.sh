#!/usr/bin/env bash
# The rows of the paper's main table for one model and one data set (prepare.py): SFT, DPO, SAIL-DP, SAIL-PP, SAIL-PR, each with its published constants,
# and the mixture of all routes, which has none: half of each one's share.
#   usage: run.sh MODEL DATA REWARD_MODEL OUT [TARGETS] [OPTIONS of sail align...]
# TARGETS: LoRA's modules; all-linear for Qwen1.5-0.5B and Phi-3-mini, q_proj,k_proj,v_proj,gate_proj,up_proj,down_proj for Llama-3-8B.
# REWARD_MODEL labels PR's pairs: beaver-7b-v1.0-reward for PKU better, beaver-7b-v1.0-cost with --reward-sign -1 for safer, Eurus-RM-7b for UltraFeedback.
# An interrupted run goes on where it stopped when the same command is given again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sail=${SAIL:-build/sail}
model=${1:?usage: run.sh MODEL DATA REWARD_MODEL OUT [TARGETS]} data=${2:?DATA} judge=${3:?REWARD_MODEL} out=${4:?OUT} targets=${5:-all-linear}
shift $(($# < 5 ? $# : 5))
mkdir -p "$out"
# go COMMAND NAME OPTIONS...: trains, or goes on
go() {
  local command=$1 name=$2; shift 2
  echo "== $name"
  [ -d "$out/$name/final" ] || "$sail" "$command" --model "$model" --data "$data/train.jsonl" --eval-data "$data/test.jsonl" --out "$out/$name" $([ -d "$out/$name" ] && echo --resume) "$@"
}
go sft sft --config "$here/sft.yaml" --lora-targets "$targets"
preference=(--config "$here/preference.yaml" --adapter "$out/sft/final")
go align dpo "${preference[@]}" --method dpo "$@"
go align sail-dp "${preference[@]}" --method sail-dp --mix-dp 0.4 --rho 0.2 "$@"
go align sail-pp "${preference[@]}" --method sail-pp --mix-pp 0.3 --pi 0.2 "$@"
go align sail-pr "${preference[@]}" --method sail-pr --mix-pr 0.3 --gamma 0.3 --reward-model "$judge" "$@"
go align sail-mix "${preference[@]}" --method sail-mix --mix-dp 0.2 --mix-pp 0.15 --mix-pr 0.15 --rho 0.2 --pi 0.2 --gamma 0.3 --reward-model "$judge" "$@"
for name in sft dpo sail-dp sail-pp sail-pr sail-mix; do
  "$sail" eval --model "$model" --adapter "$out/$name/final" --ref "$model" --prompts "$data/test.jsonl" --data "$data/test.jsonl" --reward-model "$judge" --max-length 2048 --max-prompt-length 1024 --max-new-tokens 1024 --json --quiet \
    --out "$out/$name/eval.json"
done
"$sail" report "$out" --out "$out/report.html"
