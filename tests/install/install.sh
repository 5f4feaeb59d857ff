#!/usr/bin/env bash
# What `make install` leaves: examples/library/score.c built against it by pkg-config, shared and static, gives the bytes of `sail score`; nothing but sail_* is public.
#   install.sh BUILD_FOLDER SOURCE_FOLDER
set -euo pipefail
build=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cmake --install "$build" --prefix "$folder/first" >/dev/null
mv "$folder/first" "$folder/prefix" # it may be moved as a whole
export PKG_CONFIG_PATH=$(dirname "$(find "$folder/prefix" -name sail.pc)") LD_LIBRARY_PATH=
unset PKG_CONFIG_LIBDIR
echo '{"prompt": "Once upon a", "completion": " time"}' >"$folder/rows.jsonl"
model=$source/examples/demo/stories260K cc=${CC:-cc}
"$folder/prefix/bin/sail" score --model "$model" --data "$folder/rows.jsonl" --out "$folder/program.jsonl"

# check KIND: the linked program runs and agrees
check() {
  "$folder/$1" "$model" "$folder/rows.jsonl" "$folder/$1.jsonl"
  cmp "$folder/program.jsonl" "$folder/$1.jsonl"
}
"$cc" -Wall -Wextra -Werror "$source/examples/library/score.c" $(pkg-config --cflags --libs sail) -o "$folder/shared"
LD_LIBRARY_PATH=$(pkg-config --variable=libdir sail) check shared
rm "$folder"/prefix/lib*/libsail.so* 2>/dev/null || rm "$folder"/prefix/lib/*/libsail.so*
"$cc" "$source/examples/library/score.c" $(pkg-config --static --cflags --libs sail) -o "$folder/static"
check static
if "$folder/static" "$folder/nothing" "$folder/rows.jsonl" "$folder/never" 2>"$folder/said"; then echo "a missing model was taken"; exit 1; fi
grep -q "$folder/nothing" "$folder/said" && [ ! -e "$folder/never" ]
public=$(nm -D --defined-only "$build"/libsail.so | awk '$3 !~ /^sail_/ {print $3}')
[ -z "$public" ] || { echo "public symbols of another name: $public"; exit 1; }
