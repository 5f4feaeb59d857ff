/* The schema: a flat list of elements, each followed by its children, into a tree of values with their levels.
 * Lists are written in several shapes (LogicalTypes.md, "Lists", backward compatibility): three levels, two levels, a bare repeated field. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "parquet/internal.h"

enum { MAX_ELEMENTS = 100000, MAX_NAME = 512, MAX_DEPTH = 24 };

/* What a value means beside how it is stored: one name for the format's two ways to say it (ConvertedType and LogicalType). */
enum meaning {
    MEANS_NOTHING, MEANS_TEXT, MEANS_LIST, MEANS_MAP, MEANS_INT, MEANS_UINT, MEANS_NULL, MEANS_DECIMAL, MEANS_DATE, MEANS_TIME, MEANS_TIMESTAMP, MEANS_INTERVAL, MEANS_BSON, MEANS_UUID,
    MEANS_FLOAT16, MEANS_OTHER
};
static const char *const meaning_name[] = {"",     "text", "list",      "map",      "integer", "integer", "null",         "decimal",
                                           "date", "time", "timestamp", "interval", "BSON",    "UUID",    "16-bit float", "logical type"};

static const enum meaning converted_meaning[] = {MEANS_TEXT,      MEANS_MAP,       MEANS_MAP,  MEANS_LIST, MEANS_TEXT, MEANS_DECIMAL, MEANS_DATE, MEANS_TIME, MEANS_TIME, MEANS_TIMESTAMP,
                                                 MEANS_TIMESTAMP, MEANS_UINT,      MEANS_UINT, MEANS_UINT, MEANS_UINT, MEANS_INT,     MEANS_INT,  MEANS_INT,  MEANS_INT,  MEANS_TEXT,
                                                 MEANS_BSON,      MEANS_INTERVAL};
static const enum meaning logical_meaning[] = {MEANS_OTHER,     MEANS_TEXT,  MEANS_MAP, MEANS_LIST, MEANS_TEXT, MEANS_DECIMAL, MEANS_DATE, MEANS_TIME,
                                               MEANS_TIMESTAMP, MEANS_OTHER, MEANS_INT, MEANS_NULL, MEANS_TEXT, MEANS_BSON,    MEANS_UUID, MEANS_FLOAT16};

struct element {
    struct thrift_text name; /* at most MAX_NAME bytes of UTF-8 without NUL */
    int64_t physical, repetition, n_child; /* physical -1: a group */
    enum meaning meaning;
};

struct builder {
    struct parquet *p;
    struct element *e;
    size_t n, at, leaf_capacity;
    int top, depth;
    char *refused; /* of the first-level column that is being built */
    sail_err *err;
};

/* ---------------------------------------------------------------- elements */

/* LogicalType is a union: the field that is there says which. */
static enum meaning read_logical(struct thrift *t)
{
    enum meaning meaning = MEANS_OTHER;
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id < (int)(sizeof logical_meaning / sizeof *logical_meaning)) meaning = logical_meaning[f.id];
        if (meaning != MEANS_INT || !thrift_struct(t, &f)) {
            thrift_skip(t, &f);
            continue;
        }
        for (struct thrift_field g = {0}; thrift_next(t, &g);) {
            if (g.id == 2 && !thrift_bool(t, &g)) meaning = MEANS_UINT;
            if (g.id != 2) thrift_skip(t, &g);
        }
    }
    return meaning;
}

static int read_name(const struct builder *b, struct element *e, struct thrift_text name)
{
    json_t *text = name.n <= MAX_NAME && !memchr(name.data, '\0', name.n) ? json_stringn(name.data, name.n) : NULL;
    if (!text) return err_set(b->err, SAIL_FAILED, "%s: a column's name of %zu bytes: expected UTF-8 of at most %d bytes", b->p->path, name.n, MAX_NAME);
    e->name = name;
    json_decref(text);
    return SAIL_OK;
}

static int read_element(const struct builder *b, struct thrift *t, struct element *e)
{
    struct thrift_text name = {"", 0};
    *e = (struct element){.physical = -1, .repetition = REQUIRED};
    bool logical = false;
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id == 1)
            e->physical = thrift_int(t, &f);
        else if (f.id == 3)
            e->repetition = thrift_int(t, &f);
        else if (f.id == 4)
            name = thrift_text(t, &f);
        else if (f.id == 5)
            e->n_child = thrift_int(t, &f);
        else if (f.id == 6 && !logical) {
            const int64_t c = thrift_int(t, &f);
            e->meaning = c >= 0 && c < (int64_t)(sizeof converted_meaning / sizeof *converted_meaning) ? converted_meaning[c] : MEANS_OTHER;
        } else if (f.id == 10 && thrift_struct(t, &f)) {
            e->meaning = read_logical(t);
            logical = true;
        } else
            thrift_skip(t, &f);
    }
    if (t->failed) return parquet_damaged(b->p, "schema", t, b->err);
    if (e->repetition < REQUIRED || e->repetition > REPEATED || e->n_child < 0 || (e->n_child == 0 && (e->physical < 0 || e->physical >= PHYSICAL_COUNT)))
        return err_set(b->err, SAIL_FAILED, "%s: schema element '%.*s' is neither a value nor a group (type %lld, repetition %lld, %lld children)", b->p->path,
                       (int)(name.n < 100 ? name.n : 100), name.data, (long long)e->physical, (long long)e->repetition, (long long)e->n_child);
    return read_name(b, e, name);
}

/* ---------------------------------------------------------------- tree */

static void refuse_column(struct builder *b, const char *what, const char *name)
{
    if (!b->refused) b->refused = mem_printf("'%s' is %s", name, what);
}

static int build(struct builder *b, struct node *out, const char *above, int def, int rep);

/* How the values of a leaf become JSON; NULL when they do, else what they are. */
static const char *kind_of(const struct element *e, enum value_kind *kind)
{
    static char what[64];
    const bool is_uint = e->meaning == MEANS_UINT, plain = e->meaning == MEANS_NOTHING || e->meaning == MEANS_NULL;
    static const enum value_kind of[PHYSICAL_COUNT] = {VALUE_BOOL, VALUE_INT32, VALUE_INT64, VALUE_BOOL, VALUE_FLOAT, VALUE_DOUBLE, VALUE_TEXT, VALUE_TEXT};
    *kind = of[e->physical];
    if (e->physical == PHYSICAL_INT96) return "a timestamp (INT96)";
    if (e->physical == PHYSICAL_FIXED && plain) return "binary data of fixed length";
    if (plain || (e->physical == PHYSICAL_BYTE_ARRAY && e->meaning == MEANS_TEXT)) return NULL;
    if ((e->physical == PHYSICAL_INT32 || e->physical == PHYSICAL_INT64) && (is_uint || e->meaning == MEANS_INT)) {
        if (is_uint) *kind = e->physical == PHYSICAL_INT32 ? VALUE_UINT32 : VALUE_UINT64;
        return NULL;
    }
    snprintf(what, sizeof what, "of a kind that is not read (%s)", meaning_name[e->meaning]);
    return what;
}

static int build_leaf(struct builder *b, const struct element *e, struct node *out, const char *path, int def, int rep)
{
    struct parquet *p = b->p;
    int rc = mem_grow(&p->leaf, (size_t)p->n_leaf, &b->leaf_capacity, sizeof *p->leaf, b->err);
    if (rc) return rc;
    struct leaf *leaf = &p->leaf[p->n_leaf++];
    *leaf = (struct leaf){.path = mem_strdup(path), .physical = (enum physical)e->physical, .max_def = def, .max_rep = rep, .top = b->top};
    const char *unknown = kind_of(e, &leaf->kind);
    if (unknown) refuse_column(b, unknown, path);
    out->kind = NODE_LEAF;
    return SAIL_OK;
}

static int too_deep(const struct builder *b, const char *path) { return err_set(b->err, SAIL_FAILED, "%s: '%.200s' is nested in more than %d levels", b->p->path, path, MAX_DEPTH); }

static int add_children(struct builder *b, struct node *out, int64_t n, const char *path, int def, int rep)
{
    if ((size_t)n > b->n - b->at)
        return err_set(b->err, SAIL_FAILED, "%s: '%s' has %lld children in a schema that has %zu elements after it", b->p->path, path, (long long)n, b->n - b->at);
    int rc = mem_alloc(&out->child, (size_t)n, sizeof *out->child, b->err);
    for (int64_t i = 0; !rc && i < n; i++) {
        if (!b->depth) b->top = (int)i;
        b->depth++;
        rc = b->depth > MAX_DEPTH ? too_deep(b, path) : build(b, &out->child[out->n_child++], path, def, rep);
        b->depth--;
        if (!rc && !b->depth) {
            out->child[i].refused = b->refused;
            b->refused = NULL;
        }
    }
    return rc;
}

static bool is_element_itself(const struct builder *b, const struct element *list, const struct element *repeated)
{
    const struct thrift_text *name = &repeated->name;
    const size_t n = list->name.n;
    const bool array = name->n == 5 && !memcmp(name->data, "array", 5);
    const bool tuple = name->n == n + 6 && !memcmp(name->data, list->name.data, n) && !memcmp(name->data + n, "_tuple", 6);
    return repeated->n_child != 1 || array || tuple || (b->at < b->n && b->e[b->at].repetition == REPEATED);
}

static int build_value(struct builder *b, const struct element *e, struct node *out, const char *path, int def, int rep);

static int build_list(struct builder *b, const struct element *list, struct node *out, const char *path, int def, int rep)
{
    if (list->n_child != 1 || b->at >= b->n || b->e[b->at].repetition != REPEATED) {
        refuse_column(b, "a list of unknown shape", path);
        out->kind = NODE_STRUCT;
        return add_children(b, out, list->n_child, path, def, rep);
    }
    const struct element *repeated = &b->e[b->at++];
    int rc = mem_alloc(&out->child, 1, sizeof *out->child, b->err);
    if (rc) return rc;
    out->kind = NODE_LIST;
    out->rep = rep + 1;
    out->n_child = 1;
    char *inner = mem_printf("%s.%.*s", path, (int)repeated->name.n, repeated->name.data);
    if (++b->depth > MAX_DEPTH)
        rc = too_deep(b, path);
    else if (is_element_itself(b, list, repeated))
        rc = build_value(b, repeated, out->child, inner, def + 1, rep + 1);
    else
        rc = build(b, out->child, inner, def + 1, rep + 1);
    b->depth--;
    free(inner);
    return rc;
}

/* The element's own repetition is in the levels already. */
static int build_value(struct builder *b, const struct element *e, struct node *out, const char *path, int def, int rep)
{
    out->name = mem_printf("%.*s", (int)e->name.n, e->name.data);
    out->def = def;
    out->leaf = b->p->n_leaf;
    int rc;
    if (!e->n_child) {
        rc = build_leaf(b, e, out, path, def, rep);
    } else if (e->meaning == MEANS_LIST) {
        rc = build_list(b, e, out, path, def, rep);
    } else {
        if (e->meaning != MEANS_NOTHING) refuse_column(b, e->meaning == MEANS_MAP ? "a map" : "a group of unknown meaning", path);
        out->kind = NODE_STRUCT;
        rc = add_children(b, out, e->n_child, path, def, rep);
    }
    out->n_leaf = b->p->n_leaf - out->leaf;
    return rc;
}

static int build(struct builder *b, struct node *out, const char *above, int def, int rep)
{
    if (b->at >= b->n) return err_set(b->err, SAIL_FAILED, "%s: the schema ends inside '%.200s'", b->p->path, above);
    const struct element *e = &b->e[b->at++];
    char *path = mem_printf("%s%s%.*s", above, *above ? "." : "", (int)e->name.n, e->name.data);
    int rc;
    if (e->repetition == REPEATED) { // a list without a group around it: never null
        *out = (struct node){.kind = NODE_LIST, .name = mem_printf("%.*s", (int)e->name.n, e->name.data), .def = def, .rep = rep + 1, .leaf = b->p->n_leaf, .n_child = 1};
        rc = mem_alloc(&out->child, 1, sizeof *out->child, b->err);
        if (!rc) rc = build_value(b, e, out->child, path, def + 1, rep + 1);
        out->n_leaf = b->p->n_leaf - out->leaf;
    } else {
        out->optional = e->repetition == OPTIONAL;
        rc = build_value(b, e, out, path, def + out->optional, rep);
    }
    free(path);
    return rc;
}

static int check_names(const struct parquet *p, const struct node *n, sail_err *err)
{
    json_t *seen = json_object();
    int rc = seen ? SAIL_OK : err_memory(err, 0);
    for (int i = 0; !rc && i < n->n_child; i++) {
        if (n->kind == NODE_STRUCT && json_object_get(seen, n->child[i].name))
            rc = err_set(err, SAIL_FAILED, "%s: two columns are called '%s'", p->path, n->child[i].name);
        else if (json_object_set_new(seen, n->child[i].name, json_true()))
            rc = err_memory(err, 0);
        if (!rc) rc = check_names(p, &n->child[i], err);
    }
    json_decref(seen);
    return rc;
}

int schema_read(struct parquet *p, struct thrift *t, const struct thrift_field *f, sail_err *err)
{
    struct builder b = {.p = p, .err = err, .n = thrift_list(t, f, THRIFT_STRUCT)};
    if (t->failed) return parquet_damaged(p, "schema", t, err);
    if (p->root.child) return err_set(err, SAIL_FAILED, "%s: two schemas", p->path);
    if (b.n < 2 || b.n > MAX_ELEMENTS) return err_set(err, SAIL_FAILED, "%s: a schema of %zu elements: expected 2 to %d (a root and its columns)", p->path, b.n, MAX_ELEMENTS);
    int rc = mem_alloc(&b.e, b.n, sizeof *b.e, err);
    for (size_t i = 0; !rc && i < b.n; i++) rc = read_element(&b, t, &b.e[i]);
    if (!rc && !b.e[0].n_child) rc = err_set(err, SAIL_FAILED, "%s: the schema's root has no columns", p->path);
    b.at = 1;
    p->root.kind = NODE_STRUCT;
    if (!rc) rc = add_children(&b, &p->root, b.e[0].n_child, "", 0, 0);
    if (!rc && b.at != b.n) rc = err_set(err, SAIL_FAILED, "%s: %zu schema elements belong to no column", p->path, b.n - b.at);
    p->root.n_leaf = p->n_leaf;
    if (!rc) rc = check_names(p, &p->root, err);
    free(b.refused);
    free(b.e);
    return rc;
}

void node_release(struct node *n)
{
    for (int i = 0; i < n->n_child; i++) node_release(&n->child[i]);
    free(n->child);
    free(n->name);
    free(n->refused);
    *n = (struct node){0};
}
