#!/usr/bin/env python3
"""Writes tests/golden/parquet: one table in the shapes that writers give it, the rows that it means, and files that a reader must refuse by name.

Needs the Python package pyarrow:  make_parquet_goldens.py tests/golden/parquet
"""
import json
import math
import struct
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)

# ---------------------------------------------------------------- one table, many files

message = pa.struct([("role", pa.string()), ("content", pa.string())])
schema = pa.schema([
    ("prompt", pa.list_(message)), ("chosen", pa.list_(message)), ("rejected", pa.list_(message)), ("id", pa.int64()), ("label", pa.bool_()), ("margin", pa.float32()), ("score", pa.float64()),
    ("small", pa.int8()), ("count", pa.uint32()), ("source", pa.string()), ("tags", pa.list_(pa.string())), ("grid", pa.list_(pa.list_(pa.int32()))),
    ("meta", pa.struct([("lang", pa.string()), ("turns", pa.list_(pa.struct([("n", pa.int32()), ("ok", pa.bool_())])))])), ("nothing", pa.null()), pa.field("always", pa.int32(), nullable=False),
])


def turn(role, content):
    return {"role": role, "content": content}


def make_row(i):
    return {
        "prompt": [turn("system", "Be brief.")] * (i % 3 == 0) + [turn("user", f"Question {i}: größer or ≤ {i * i}? 🙂")], "chosen": [turn("assistant", f"Answer {i}")],
        "rejected": [turn("assistant", "" if i % 5 == 0 else "no"), turn("user", "why")] if i % 2 else [turn("assistant", "")],
        "id": i * 10**15 - 3, "label": None if i % 7 == 6 else i % 3 == 1, "margin": None if i % 4 == 0 else i / 8, "score": math.nan if i % 9 == 5 else -i / 3, "small": i % 256 - 128 if i % 6 else None,
        "count": 2**32 - 1 - i, "source": ["alpha", "beta", "a longer name"][i * i % 3] if i % 5 != 4 else None, "tags": None if i % 6 == 0 else [] if i % 6 == 1 else ["x", None, f"t{i % 4}"][: i % 6],
        "grid": [[], [i], None, [i, None, -i]][: i % 5] if i % 8 else None,
        "meta": None if i % 4 == 3 else {"lang": "en" if i % 2 else None, "turns": None if i % 5 == 2 else [{"n": k, "ok": None if k == 1 else k > 0} if k != 2 else None for k in range(i % 4)]},
        "nothing": None, "always": i - 20,
    }


def clean(x, row=False):
    """Nulls leave objects and stay in lists and in the row itself; JSON has no NaN."""
    if isinstance(x, float) and math.isnan(x):
        return None
    if isinstance(x, dict):
        return {k: clean(v) for k, v in x.items() if row or clean(v) is not None}
    return [clean(v) for v in x] if isinstance(x, list) else x


table = pa.Table.from_pylist([make_row(i) for i in range(45)], schema=schema)
rows = [clean(r, row=True) for r in table.to_pylist()]
(out / "rows.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows), encoding="utf-8")


def write(name, t=table, **options):
    pq.write_table(t, out / f"{name}.parquet", **{"store_schema": False, "write_statistics": False, **options})


write("none-plain-v1", compression="none", use_dictionary=False)
write("snappy-dictionary-v1", compression="snappy")
write("zstd-dictionary-v2", compression="zstd", data_page_version="2.0")
write("gzip-plain-v2", compression="gzip", use_dictionary=False, data_page_version="2.0", write_page_checksum=True)
write("snappy-groups-pages-v1", compression="snappy", row_group_size=17, data_page_size=64, write_batch_size=5, write_page_checksum=True)
write("none-dictionary-overflows-v2", compression="none", data_page_version="2.0", dictionary_pagesize_limit=64, data_page_size=128, write_batch_size=4)
write("older-lists", compression="snappy", use_compliant_nested_type=False, version="1.0")
write("large-types", table.cast(pa.schema([pa.field(f.name, pa.large_string() if f.type == pa.string() else f.type, f.nullable) for f in schema])), compression="zstd", store_schema=True, write_statistics=True)

# ---------------------------------------------------------------- a folder as hubs lay it out, with names of its own

pairs = [(f"Once there was a {x}.", f" The {x} was happy.", " The end.") for x in ["cat", "dog", "tree", "boat", "girl"]]
(out / "folder/data").mkdir(parents=True, exist_ok=True)
for name, part in [("train-00000-of-00002", pairs[:2]), ("train-00001-of-00002", pairs[2:4]), ("test-00000-of-00001", pairs[4:])]:
    write(f"folder/data/{name}", pa.table({"ask": pa.StructArray.from_arrays([[p for p, _, _ in part]], ["question"]), "better": [b for _, b, _ in part], "worse": [w for _, _, w in part]}))

# ---------------------------------------------------------------- refused by name

text = pa.table({"prompt": ["one", "two", "three"] * 4})
write("refused-delta", text, use_dictionary=False, column_encoding={"prompt": "DELTA_BYTE_ARRAY"})
write("refused-lz4", text, compression="lz4")
write("refused-brotli", text, compression="brotli")
write("refused-not-utf8", pa.table({"prompt": pa.array([b"fine", b"\xff\xfe"])}))
write("refused-infinite", pa.table({"prompt": ["x"], "margin": [math.inf]}))
write("refused-unsigned", pa.table({"prompt": ["x"], "id": pa.array([2**63], pa.uint64())}))
write("left-out", pa.table({"prompt": ["x", "y"], "when": pa.array([0, 1], pa.timestamp("ms")), "map": pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int32())), "cost": pa.array([1, 2], pa.decimal128(5, 2)),
                            "blob": pa.array([b"abcd", b"efgh"], pa.binary(4)), "ok": [1, 2],
                            "image": pa.array([b"\x89PNG", b"text"]), "far": [math.inf, 0.5], "large": pa.array([2**64 - 1, 7], pa.uint64())}))

# ---------------------------------------------------------------- list shapes that pyarrow no longer writes, byte by byte


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def zigzag(n):
    return varint(n << 1 if n >= 0 else (-n << 1) - 1)


def thrift(value):
    """(type, bytes) of int, bytes, list or {field: value} in the compact protocol."""
    if isinstance(value, int):
        return 5, zigzag(value)
    if isinstance(value, bytes):
        return 8, varint(len(value)) + value
    if isinstance(value, list):
        parts = [thrift(v) for v in value]
        return 9, bytes([min(len(parts), 15) << 4 | parts[0][0]]) + (varint(len(parts)) if len(parts) > 14 else b"") + b"".join(p for _, p in parts)
    body, last = b"", 0
    for key in sorted(value):
        kind, data = thrift(value[key])
        body, last = body + bytes([(key - last) << 4 | kind]) + data, key
    return 12, body + b"\0"


def runs(values, width):
    """Every level or number as a run of one."""
    return b"".join(varint(2) + v.to_bytes((width + 7) // 8, "little") for v in values)


def leaf(name, repetition):
    return {1: 6, 3: repetition, 4: name, 6: 0}


def group(name, repetition, children, meaning=None):
    return {3: repetition, 4: name, 5: children, **({6: meaning} if meaning is not None else {})}


def write_by_hand(name, elements, columns, n_rows, n_value=None, change=None):
    """elements: the schema below a root with one column; columns: (path, values, runs of levels, number of values). change: fields of the first column's metadata."""
    data, chunks = b"PAR1", []
    for path, values, levels, n in columns:
        n = n_value or n
        page = b"".join(struct.pack("<I", len(x)) + x for x in levels) + b"".join(struct.pack("<I", len(v)) + v for v in values)
        header = thrift({1: 0, 2: len(page), 3: len(page), 5: {1: n, 2: 0, 3: 3, 4: 3}})[1]
        size = len(header) + len(page)
        meta = {1: 6, 2: [0, 3], 3: [p.encode() for p in path.split(".")], 4: 0, 5: n, 6: size, 7: size, 9: len(data), **(change or {})}
        chunks.append({2: len(data), 3: meta})
        data += header + page
    footer = thrift({1: 1, 2: [group(b"root", 0, 1)] + elements, 3: n_rows, 4: [{1: chunks, 2: len(data) - 4, 3: n_rows}]})[1]
    (out / f"{name}.parquet").write_bytes(data + footer + struct.pack("<I", len(footer)) + b"PAR1")


# rows: {"a": ["x", "y"]}, {"a": []}, {"a": ["z"]}
write_by_hand("list-bare", [leaf(b"a", 2)], [("a", [b"x", b"y", b"z"], [runs([0, 1, 0, 0], 1), runs([1, 1, 0, 1], 1)], 4)], 3)
# the same, and a null list
write_by_hand("list-two-levels", [group(b"a", 1, 1, 3), leaf(b"array", 2)], [("a.array", [b"x", b"y", b"z"], [runs([0, 1, 0, 0, 0], 1), runs([2, 2, 1, 2, 0], 2)], 5)], 4)
# {"a": [{"r": "u", "c": "x"}, {"r": "v", "c": "y"}]}, {}
structs = [group(b"a", 1, 1, 3), group(b"a_tuple", 2, 2), leaf(b"r", 0), leaf(b"c", 0)]
there, first = runs([2, 2, 0], 2), runs([0, 1, 0], 1)
write_by_hand("list-two-levels-struct", structs, [("a.a_tuple.r", [b"u", b"v"], [first, there], 3), ("a.a_tuple.c", [b"x", b"y"], [first, there], 3)], 2)

# ---------------------------------------------------------------- hostile

# c goes on with its list where r does not
write_by_hand("hostile-disagree", structs, [("a.a_tuple.r", [b"u", b"v"], [runs([0, 0, 0], 1), there], 3), ("a.a_tuple.c", [b"x", b"y"], [first, there], 3)], 3)
flat = [leaf(b"a", 1)]
one = [("a", [b"x"], [runs([1], 1)], 1)]
write_by_hand("hostile-offset", flat, one, 1, change={9: 10**9})
write_by_hand("hostile-size", flat, one, 1, change={7: 2**62})
write_by_hand("hostile-negative", flat, one, 1, change={9: -5})
write_by_hand("hostile-count", flat, one, 2**31 - 1, n_value=2**31 - 1)
write_by_hand("hostile-rows", flat, one, 2)
write_by_hand("hostile-values", flat, [("a", [b"x", b"y"], [runs([1, 1], 1)], 2)], 1)
write_by_hand("hostile-endless", flat, [("a", [], [varint((2**31 - 1) << 1) + b"\0"], 2**31 - 1)], 2**31 - 1)
write_by_hand("hostile-endless-list", [group(b"a", 1, 1, 3), group(b"list", 2, 1), leaf(b"element", 1)],
              [("a.list.element", [], [varint(2) + b"\0" + varint((2**31 - 2) << 1) + b"\1", varint((2**31 - 1) << 1) + b"\2"], 2**31 - 1)], 1)
write_by_hand("hostile-level", flat, [("a", [b"x"], [varint(2) + b"\7"], 1)], 1)
deep = [x for i in range(40) for x in [group(b"d", 1, 1)]] + [leaf(b"a", 1)]
write_by_hand("hostile-deep", deep, one, 1)
write_by_hand("hostile-children", [group(b"a", 1, 10**6), leaf(b"b", 1)], one, 1)
