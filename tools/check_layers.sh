#!/bin/sh
# Dependencies between the folders of src/ go one way: a file may include its own folder and folders of lower rank only.
# src/cli may include nothing but sail.h. Prints every offence and exits with 1.
cd "$(dirname "$0")/.." || exit 2
awk '
BEGIN {
    split("base:0 tensor:1 backend:2 config:2 template:3 tok:3 io:3 parquet:3 batch:3 model:4 data:4 sample:5 label:5 objective:5 optim:5 report:5 train:6 jobs:7 cli:8", pairs, " ")
    for (i in pairs) { split(pairs[i], p, ":"); rank[p[1]] = p[2] }
}
FNR == 1 { split(FILENAME, part, "/"); here = part[2] }
/^#include "/ {
    split($2, q, "\""); n = split(q[2], target, "/")
    files++
    if (here == "cli") { if (q[2] != "sail.h") { print FILENAME ":" FNR ": cli may include only sail.h, not " q[2]; bad++ } ; next }
    if (n < 2 || target[1] == here) next
    if (!(here in rank) || !(target[1] in rank)) { print FILENAME ":" FNR ": unknown folder in " q[2]; bad++; next }
    if (here == "objective" && target[1] != "batch" && target[1] != "base") { print FILENAME ":" FNR ": an objective may include only the batch, not " q[2]; bad++ }
    else if (rank[target[1]] >= rank[here] && !((here == "tok" || here == "template") && target[1] == "io")) { print FILENAME ":" FNR ": " here " may not include " q[2]; bad++ }
}
END { if (!files) { print "layer check: found no includes"; exit 1 } ; if (bad) exit 1; print "layer check: " files " includes go one way" }
' $(find src -name "*.c" -o -name "*.h")
