/* Parquet files: every column asked for, and none, so that those of unknown kinds are left out. */
#include "fuzz.h"

#include "parquet/parquet.h"

enum { MOST_ROWS = 1000 }; /* a small file may mean millions: the limit on them is tested elsewhere */

static bool needs(const void *context, const char *column) { return context && column; }

static void read_rows(const char *path, const void *context)
{
    struct parquet *p;
    json_t *row = NULL;
    sail_err err = {0};
    int rc = parquet_open(&p, path, needs, context, &err);
    for (int i = 0; !rc && i < MOST_ROWS && !(rc = parquet_next(p, &row, &err)) && row; i++) {
        BUG_ON(!json_is_object(row), "a row that is no object");
        json_decref(row);
    }
    fuzz_check_refusal(rc, &err);
    parquet_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("rows.parquet", data, size);
    read_rows(path, NULL);
    read_rows(path, "all");
    return 0;
}
