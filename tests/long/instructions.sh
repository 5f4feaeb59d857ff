#!/usr/bin/env bash
# What a step of training costs in instructions, on one thread, counted by valgrind: unlike seconds the same on a busy machine. Fails when it leaves a
# band of 5 % around the recorded count, in either direction: a faster step is recorded, so that it stays. The counts are those of the kernels that
# valgrind knows (AVX2) and of the compiler that is named beside them.
#   instructions.sh SAIL SOURCE_FOLDER [--record]
set -euo pipefail
sail=$1 source=$2 record=${3:-}
table=$source/tests/long/instructions.txt
compiler=$(${CC:-cc} --version | head -n 1)
command -v valgrind >/dev/null || { echo "SKIP: valgrind is not installed"; exit 77; }
if [ -z "$record" ] && ! grep -qxF "# $compiler" "$table"; then echo "SKIP: recorded with another compiler than $compiler"; exit 77; fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for i in 1 2 3 4 5 6 7 8; do
  echo "{\"prompt\": \"Once upon a time\", \"chosen\": \" there was a little girl named Lily who had $i red balls.\", \"rejected\": \" $i cats sat.\"}"
done >"$folder/pairs.jsonl"

# count STEPS OPTIONS...: instructions of the whole run
count() {
  local steps=$1; shift
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$sail" align --model "$source/examples/demo/stories260K" --data "$folder/pairs.jsonl" --max-steps "$steps" \
    --batch 2 --threads 1 --dtype f32 --quiet --out "$folder/run-$RANDOM-$steps" "$@" 2>&1 | sed -n 's/.*Collected : *//p'
}

export OMP_WAIT_POLICY=passive # else the program starts itself again, out of sight of valgrind
failed=0
[ -z "$record" ] || echo "# $compiler" >"$table"
# per_step NAME OPTIONS...: the difference of a longer and a shorter run, so that starting up does not count
per_step() {
  local name=$1; shift
  local short long step want
  short=$(count 1 "$@") long=$(count 3 "$@")
  step=$(((long - short) / 2))
  if [ -n "$record" ]; then
    echo "$name $step" >>"$table"
    return
  fi
  want=$(awk -v n="$name" '$1 == n {print $2}' "$table")
  awk -v n="$name" -v s="$step" -v w="$want" 'BEGIN {off = (s - w) / w; printf "%-12s %d instructions a step, recorded %d (%+.1f %%)\n", n, s, w, 100 * off; exit off > 0.05 || off < -0.05}' || failed=1
}
per_step dpo-lora --method dpo --lora-r 8
per_step dpo-full --method dpo --full
per_step sail-pp --method sail-pp --full --max-new-tokens 8 --mix-pp 0.5
exit "$failed"
