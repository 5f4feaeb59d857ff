#include "parquet/parquet.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "parquet/internal.h"

/* What a file's rows may take in memory: a little file that means endless rows is refused. */
static const size_t rows_any_size = (size_t)64 << 20, rows_most_growth = 1100;

static int find_footer(struct parquet *p, const uint8_t **footer, size_t *len, sail_err *err)
{
    const uint8_t *data = p->map.data;
    const size_t n = p->map.len;
    if (n < 12) return err_set(err, SAIL_FAILED, "%s: %zu bytes: expected a Parquet file, which has 12 at least", p->path, n);
    if (!memcmp(data + n - 4, "PARE", 4)) return err_set(err, SAIL_FAILED, "%s: an encrypted Parquet file (PARE): expected a plain one", p->path);
    if (memcmp(data, "PAR1", 4) || memcmp(data + n - 4, "PAR1", 4))
        return err_set(err, SAIL_FAILED, "%s: expected a Parquet file, PAR1 at its beginning and its end%s", p->path, memcmp(data, "PAR1", 4) ? "" : "; it is cut short");
    *len = (size_t)data[n - 8] | (size_t)data[n - 7] << 8 | (size_t)data[n - 6] << 16 | (size_t)data[n - 5] << 24;
    if (*len > n - 12) return err_set(err, SAIL_FAILED, "%s: a footer of %zu bytes in a file of %zu", p->path, *len, n);
    p->data_end = n - 8 - *len;
    *footer = data + p->data_end;
    return SAIL_OK;
}

static int mark_needed(struct parquet *p, parquet_needs needs, const void *context, sail_err *err)
{
    for (int i = 0; i < p->n_leaf; i++) {
        const struct node *n = &p->root.child[p->leaf[i].top];
        p->leaf[i].needed = needs(context, n->name);
        if (n->refused && p->leaf[i].needed) return err_set(err, SAIL_FAILED, "%s: column '%s' cannot be read: %s", p->path, n->name, n->refused);
    }
    return SAIL_OK;
}

int parquet_open(struct parquet **out, const char *path, parquet_needs needs, const void *context, sail_err *err)
{
    struct parquet *p;
    const uint8_t *footer = NULL;
    size_t len = 0;
    *out = NULL;
    int rc = mem_alloc(&p, 1, sizeof *p, err);
    if (rc) return rc;
    p->path = mem_strdup(path);
    rc = file_map_open(&p->map, path, err);
    if (!rc) rc = find_footer(p, &footer, &len, err);
    if (!rc) rc = footer_read(p, footer, len, err);
    if (!rc) rc = mark_needed(p, needs, context, err);
    if (!rc) rc = mem_alloc(&p->column, (size_t)p->n_leaf, sizeof *p->column, err);
    if (!rc && !size_mul(&p->most, p->map.len, rows_most_growth)) p->most = SIZE_MAX / 2;
    p->most += rows_any_size;
    if (rc)
        parquet_close(p);
    else
        *out = p;
    return rc;
}

void parquet_close(struct parquet *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_leaf; i++) {
        if (p->column) column_release(&p->column[i]);
        free(p->leaf[i].path);
    }
    free(p->column);
    free(p->leaf);
    free(p->chunk);
    free(p->group_rows);
    node_release(&p->root);
    file_map_close(&p->map);
    free(p->path);
    free(p);
}

void parquet_warn_left_out(const struct parquet *p)
{
    for (int i = 0; i < p->root.n_child; i++)
        if (p->root.child[i].refused) log_warning("%s: column '%s' is left out: %s", p->path, p->root.child[i].name, p->root.child[i].refused);
}

static int check_ended(const struct parquet *p, sail_err *err)
{
    for (int i = 0; p->group && i < p->n_leaf; i++) {
        const struct column *c = &p->column[i];
        if (c->file && !column_ended(c)) return column_refuse(c, err, "it has more values than its %lld rows take", (long long)p->group_rows[p->group - 1]);
    }
    return SAIL_OK;
}

static int next_group(struct parquet *p, sail_err *err)
{
    int rc = check_ended(p, err);
    if (rc) return rc;
    const struct chunk *chunk = p->chunk + p->group * (size_t)p->n_leaf;
    p->rows_left = p->group_rows[p->group++];
    for (int i = 0; i < p->n_leaf; i++)
        if (!p->root.child[p->leaf[i].top].refused) column_start(&p->column[i], p, i, &chunk[i]);
    return SAIL_OK;
}

int parquet_next(struct parquet *p, json_t **row, sail_err *err)
{
    *row = NULL;
    while (!p->rows_left) {
        int rc = p->group < p->n_group ? next_group(p, err) : check_ended(p, err);
        if (rc || (!p->rows_left && p->group == p->n_group)) return rc;
    }
    p->rows_left--;
    return assemble_row(p, row, err);
}
