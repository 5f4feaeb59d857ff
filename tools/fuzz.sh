#!/bin/sh
# tools/fuzz.sh TARGET [RUNS]: runs a fuzz target (tests/fuzz/TARGET_fuzz.c; `make fuzz` builds it) until RUNS executions (1,000,000) or a finding. New inputs go to
# build-fuzz/corpus/TARGET (of at most MAX_LEN bytes, 4096), findings to build-fuzz/findings/TARGET-*. The dictionary is what stands between quotes in the sources of the parser.
# tools/fuzz.sh TARGET merge: of a smallest set of inputs with the coverage of all, the smallest (6 KB) become tests/fuzz/corpus/TARGET/found-*.
set -e
cd "$(dirname "$0")/.."
target=$1 runs=${2:-1000000} build=build-fuzz
committed=tests/fuzz/corpus/$target found=$build/corpus/$target
[ -x "$build/tests/fuzz_$target" ] || { echo "no $build/tests/fuzz_$target: run 'make fuzz' first" >&2; exit 2; }
case $target in
tokenizer_json | tokenizer_model) sources=src/tok/*.c ;;
template) sources=src/template/*.c ;;
model_config) sources="src/model/config*.c src/model/family.c" ;;
adapter_config) sources="src/model/lora.c src/io/safetensors.c src/tensor/tensor.c" ;;
yaml) sources="src/config/* src/label/rule.c" ;;
dataset) sources=src/data/*.c ;;
gguf) sources=src/io/gguf*.c ;;
safetensors) sources="src/io/safetensors.c src/tensor/tensor.c" ;;
*) sources=src/*/*.c ;;
esac
mkdir -p "$found" "$build/findings"
# shellcheck disable=SC2086
grep -oh '"[A-Za-z_{}%<>|=!.+*/~-]\{2,40\}"' $sources | sort -u >"$build/$target.dict"
if [ "$runs" = merge ]; then
    merged=$(mktemp -d)
    rm -f "$committed"/found-*
    "$build/tests/fuzz_$target" -set_cover_merge=1 -max_len=8192 "$merged" "$committed" "$found"
    for input in "$committed"/*; do rm -f "$merged/$(sha1sum <"$input" | cut -c1-40)"; done
    find "$merged" -type f -printf '%s %p\n' | sort -n | awk '(sum += $1) <= 6144' | while read -r _ input; do cp "$input" "$committed/found-$(basename "$input" | cut -c1-12)"; done
    rm -r "$merged"
else
    export ASAN_OPTIONS="${ASAN_OPTIONS:-malloc_context_size=2:quarantine_size_mb=16}" # half of the time otherwise
    exec "$build/tests/fuzz_$target" -runs="$runs" -timeout=5 -rss_limit_mb=1024 -max_len="${MAX_LEN:-4096}" -print_final_stats=1 -dict="$build/$target.dict" \
        -artifact_prefix="$build/findings/$target-" "$found" "$committed"
fi
