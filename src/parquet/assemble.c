/* Nested values from columns (Dremel): the definition level says how deep a value is there, the repetition level which list goes on.
 * Columns of one value must agree on both; a file in which they don't is damaged. */
#include "base/err.h"
#include "parquet/internal.h"

enum { VALUE_COST = 64 }; /* about what a JSON value takes in memory */

static int count(struct parquet *p, size_t bytes, sail_err *err)
{
    p->given += bytes;
    if (p->given <= p->most) return SAIL_OK;
    return err_set(err, SAIL_FAILED, "%s: its %zu bytes make more than %zu bytes of rows", p->path, p->map.len, p->most);
}

static int disagree(const struct column *c, sail_err *err)
{
    return column_refuse(c, err, "damaged levels: it does not agree with its neighbours on where lists and missing values are");
}

/* A missing value: every column below says so with the same levels. */
static int take_missing(struct parquet *p, const struct node *n, int rep, int def, sail_err *err)
{
    for (int i = n->leaf; i < n->leaf + n->n_leaf; i++) {
        struct column *c = &p->column[i];
        json_t *none;
        int rc = column_peek(c, err);
        if (!rc && (c->next_rep != rep || c->next_def != def)) rc = disagree(c, err);
        if (!rc) rc = column_take(c, &none, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

static int assemble(struct parquet *p, const struct node *n, int rep, int floor, json_t **out, sail_err *err);

/* Nulls of the row itself stay: the row has the column. */
static int assemble_struct(struct parquet *p, const struct node *n, int rep, json_t *object, sail_err *err)
{
    const bool is_row = n == &p->root;
    for (int i = 0; i < n->n_child; i++) {
        json_t *value;
        if (n->child[i].refused) continue;
        int rc = assemble(p, &n->child[i], rep, n->def, &value, err);
        if (!rc && !value && is_row) value = json_null();
        if (!rc && value && json_object_set_new(object, n->child[i].name, value)) rc = err_memory(err, 0);
        if (rc) return rc;
    }
    return SAIL_OK;
}

static int assemble_list(struct parquet *p, const struct node *n, int rep, json_t *list, sail_err *err)
{
    struct column *first = &p->column[n->leaf];
    int rc;
    do {
        json_t *value;
        if ((rc = assemble(p, n->child, rep, n->def + 1, &value, err))) return rc;
        if (json_array_append_new(list, value ? value : json_null())) return err_memory(err, 0);
        rep = n->rep;
        if (column_ended(first)) return SAIL_OK;
        rc = column_peek(first, err);
    } while (!rc && first->next_rep == rep);
    return rc;
}

/* One value of the schema from the columns below it, whose next entries must repeat at level rep and reach at least level floor. */
static int assemble(struct parquet *p, const struct node *n, int rep, int floor, json_t **out, sail_err *err)
{
    struct column *first = &p->column[n->leaf];
    *out = NULL;
    int rc = count(p, VALUE_COST, err);
    if (!rc) rc = column_peek(first, err);
    if (rc) return rc;
    if (first->next_rep != rep || first->next_def < floor) return disagree(first, err);
    if (first->next_def < n->def) return take_missing(p, n, rep, first->next_def, err);
    if (n->kind == NODE_LEAF) {
        rc = column_take(first, out, err);
        if (!rc) rc = count(p, json_is_string(*out) ? json_string_length(*out) : 0, err); // a dictionary's text counts every time
        if (!rc && json_is_null(*out)) { // a NaN
            json_decref(*out);
            *out = NULL;
        }
    } else if (n->kind == NODE_STRUCT) {
        *out = json_object();
        rc = *out ? SAIL_OK : err_memory(err, 0);
        if (!rc) rc = assemble_struct(p, n, rep, *out, err);
    } else {
        *out = json_array();
        rc = *out ? SAIL_OK : err_memory(err, 0);
        if (!rc) rc = first->next_def > n->def ? assemble_list(p, n, rep, *out, err) : take_missing(p, n, rep, n->def, err);
    }
    if (rc) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

int assemble_row(struct parquet *p, json_t **out, sail_err *err)
{
    json_t *row = json_object();
    int rc = row ? count(p, VALUE_COST, err) : err_memory(err, 0);
    if (!rc) rc = assemble_struct(p, &p->root, 0, row, err);
    *out = rc ? NULL : row;
    if (rc) json_decref(row);
    return rc;
}
