/* A cursor over a column's values in one row group. */
#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "parquet/internal.h"

int column_refuse(const struct column *c, sail_err *err, const char *fmt, ...)
{
    char message[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    return err_set(err, SAIL_FAILED, "%s: column '%s', row group %zu: %s", c->file->path, c->leaf->path, c->file->group - 1, message);
}

void column_start(struct column *c, const struct parquet *p, int leaf, const struct chunk *chunk)
{
    column_release(c);
    *c = (struct column){.file = p, .leaf = &p->leaf[leaf], .chunk = *chunk, .left = chunk->n_value};
    c->at = p->map.data + chunk->start;
    c->end = c->at + chunk->len;
}

bool column_ended(const struct column *c) { return !c->peeked && !c->left && !c->page_left; }

static int next_level(const struct column *c, struct hybrid *h, int max, int *out, sail_err *err)
{
    uint32_t level = 0;
    if (max && !hybrid_next(h, &level)) return column_refuse(c, err, "its page has fewer levels than values");
    if (level > (uint32_t)max) return column_refuse(c, err, "a level of %u: expected at most %d", (unsigned)level, max);
    *out = (int)level;
    return SAIL_OK;
}

int column_peek(struct column *c, sail_err *err)
{
    if (c->peeked) return SAIL_OK;
    int rc = c->page_left ? SAIL_OK : page_next(c, err);
    if (!rc) rc = next_level(c, &c->rep, c->leaf->max_rep, &c->next_rep, err);
    if (!rc) rc = next_level(c, &c->def, c->leaf->max_def, &c->next_def, err);
    if (rc) return rc;
    c->page_left--;
    c->peeked = true;
    return SAIL_OK;
}

static int take_value(struct column *c, json_t **out, sail_err *err)
{
    uint32_t i = 0;
    if (c->encoding == ENCODING_PLAIN) return plain_next(c, out, err);
    if (!hybrid_next(&c->index, &i)) return column_refuse(c, err, "its page has fewer values than it says");
    if (c->encoding == ENCODING_RLE) {
        *out = json_boolean(i & 1);
        return SAIL_OK;
    }
    if (i >= c->n_dictionary) return column_refuse(c, err, "value %u of a dictionary of %zu", (unsigned)i, c->n_dictionary);
    *out = json_incref(c->dictionary[i]);
    return SAIL_OK;
}

int column_take(struct column *c, json_t **out, sail_err *err)
{
    int rc = column_peek(c, err);
    *out = NULL;
    if (rc) return rc;
    c->peeked = false;
    return c->next_def == c->leaf->max_def ? take_value(c, out, err) : SAIL_OK;
}
