/* Rows as JSON objects from a list of files, one after another: JSON lines, a JSON array, gzip of both, Parquet. Known by their contents. */
#ifndef SAIL_DATA_ROW_READER_H
#define SAIL_DATA_ROW_READER_H

#include <jansson.h>
#include <stdbool.h>

#include "data/files.h"

struct row_reader;

/* files must outlive it. needs says which Parquet columns must be readable (parquet.h). */
int row_reader_open(struct row_reader **out, const struct data_files *files, bool (*needs)(const void *context, const char *column), const void *context, sail_err *err);
/* The next row, a new reference; NULL after the last. */
int row_reader_next(struct row_reader *s, json_t **row, sail_err *err);
/* Where the newest row stands: the file's number in the list, and line (JSON lines) or row, from 1. */
int32_t row_reader_file(const struct row_reader *s);
int64_t row_reader_line(const struct row_reader *s);
void row_reader_close(struct row_reader *s);

#endif
