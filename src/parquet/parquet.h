/* Parquet files, reading only: rows as JSON objects, one after another, a page of every column in memory.
 *
 * Known: text, integers, floats, booleans, structs and lists of them in any nesting, nulls; data pages v1 and v2; plain, dictionary and RLE encodings;
 * none, snappy, gzip and zstd. Whatever else a file holds is refused by name with file and column: dates, decimals, maps, delta encodings,
 * other codecs, encryption. A null inside a value is left out of its object, as in TRL, and stays in
 * its list; a null column of the row stays. */
#ifndef SAIL_PARQUET_PARQUET_H
#define SAIL_PARQUET_PARQUET_H

#include <jansson.h>
#include <stdbool.h>

#include "sail.h"

struct parquet;

/* Whether a column of the first level must be there: of the others, those that the reader does not know are left out of the rows. */
typedef bool (*parquet_needs)(const void *context, const char *column);

int parquet_open(struct parquet **out, const char *path, parquet_needs needs, const void *context, sail_err *err);
void parquet_close(struct parquet *p);
/* Says as a warning which columns are left out, and why. */
void parquet_warn_left_out(const struct parquet *p);
/* The next row, a new reference; NULL after the last. */
int parquet_next(struct parquet *p, json_t **row, sail_err *err);

#endif
