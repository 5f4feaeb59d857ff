/* What --data names, as a list of files: a file; a folder of shards (*.jsonl, *.json, gzip of them, *.parquet), sorted by name; or one split of
 * a folder, DIR:train. Splits are known by the shards' names (train-00000-of-00002.parquet), by words such as train and test, and by subfolders. */
#ifndef SAIL_DATA_FILES_H
#define SAIL_DATA_FILES_H

#include <stdint.h>

#include "sail.h"

struct data_files {
    char **path;
    int32_t n;
};
/* A folder with several splits needs :split; missing shards are an error that names them. */
int data_files_find(struct data_files *out, const char *name, sail_err *err);
void data_files_release(struct data_files *f);

#endif
