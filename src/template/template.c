/* Runs a parsed template. Values are JSON values; NULL is undefined: printing it gives nothing, any other use of it is an error. Steps, depth and output are
 * bounded, so that a hostile template ends with a message. */
#include "template/template.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "io/gguf.h"
#include "template/ast.h"

enum { MAX_STEPS = 5000000, MAX_CALLS = 100, MAX_OUTPUT = 64 << 20 };

struct chat_template {
    struct ast ast;
    json_t *specials;
};

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

struct scope { /* names of a block; macros are kept beside */
    json_t *names;
    struct scope *outer;
};

struct run {
    struct scope *scope;
    json_t *macros; /* name -> index into macro */
    const struct node **macro;
    size_t n_macro, macro_capacity;
    const struct node *caller;    /* of the call block that a macro was called from */
    const struct node *loop;      /* the recursive loop that runs now */
    const struct template_options *options;
    int64_t steps;
    int calls;
    bool failed;
    const struct node *at;
    sail_err *err;
};

static json_t *eval(struct run *r, const struct node *n);
static enum flow run_body(struct run *r, struct node *const *body, size_t n, struct buf *out);

static json_t *fail(struct run *r, const char *fmt, const char *what)
{
    if (!r->failed) {
        char text[512];
        snprintf(text, sizeof text, fmt, what ? what : ""); // fmt is one of this file's own
        err_set(r->err, SAIL_FAILED, "template line %d: %s", r->at ? r->at->line : 0, text);
    }
    r->failed = true;
    return NULL;
}

/* ---------------------------------------------------------------- values */

static bool truth(const json_t *v)
{
    if (!v) return false;
    switch (json_typeof(v)) {
    case JSON_OBJECT: return json_object_size(v) > 0;
    case JSON_ARRAY: return json_array_size(v) > 0;
    case JSON_STRING: return json_string_length(v) > 0;
    case JSON_INTEGER: return json_integer_value(v) != 0;
    case JSON_REAL: return json_real_value(v) != 0;
    case JSON_TRUE: return true;
    default: return false;
    }
}

static void put_real(struct buf *b, double x)
{
    const size_t from = b->len;
    if (isfinite(x))
        buf_json_double(b, x);
    else
        buf_puts(b, isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    if (isfinite(x) && !strpbrk(b->data + from, ".e")) buf_puts(b, ".0");
}

/* Python's repr of a string. */
static void put_repr_string(struct buf *b, const json_t *v)
{
    const char *s = json_string_value(v), quote = strchr(s, '\'') && !strchr(s, '"') ? '"' : '\'';
    buf_putc(b, quote);
    for (size_t i = 0; i < json_string_length(v); i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == (unsigned char)quote || c == '\\') buf_putc(b, '\\');
        if (c == '\n') buf_puts(b, "\\n");
        else if (c == '\t') buf_puts(b, "\\t");
        else if (c == '\r') buf_puts(b, "\\r");
        else if (c < 0x20 || c == 0x7F) buf_printf(b, "\\x%02x", c);
        else buf_putc(b, (char)c);
    }
    buf_putc(b, quote);
}

static void put_value(struct buf *b, const json_t *v, bool repr)
{
    if (!v) return;
    const char *key;
    json_t *x;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_STRING:
        if (repr) put_repr_string(b, v);
        else buf_append(b, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER: buf_printf(b, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: put_real(b, json_real_value(v)); break;
    case JSON_TRUE: buf_puts(b, "True"); break;
    case JSON_FALSE: buf_puts(b, "False"); break;
    case JSON_NULL: buf_puts(b, "None"); break;
    case JSON_ARRAY:
        buf_putc(b, '[');
        json_array_foreach((json_t *)(uintptr_t)v, i, x)
        {
            if (i) buf_puts(b, ", ");
            put_value(b, x, true);
        }
        buf_putc(b, ']');
        break;
    case JSON_OBJECT:
        buf_putc(b, '{');
        i = 0;
        json_object_foreach((json_t *)(uintptr_t)v, key, x)
        {
            if (i++) buf_puts(b, ", ");
            json_t *k = json_string(key);
            put_repr_string(b, k);
            json_decref(k);
            buf_puts(b, ": ");
            put_value(b, x, true);
        }
        buf_putc(b, '}');
        break;
    }
}

static json_t *text_of(const json_t *v)
{
    struct buf b;
    buf_init(&b, MAX_OUTPUT);
    buf_puts(&b, "");
    put_value(&b, v, false);
    json_t *s = json_stringn(b.data, b.len);
    buf_release(&b);
    return s;
}

/* json.dumps(ensure_ascii=False, indent, separators) */
struct json_style {
    int indent; /* -1: one line */
    const char *item, *key;
};
static void put_json(struct buf *b, const json_t *v, const struct json_style *style, int depth)
{
    const int indent = style->indent;
    const char *key;
    json_t *x;
    size_t i = 0;
    if (json_is_string(v)) {
        buf_json_string(b, json_string_value(v), json_string_length(v));
        return;
    }
    if (json_is_true(v) || json_is_false(v) || json_is_null(v) || !v) {
        buf_puts(b, json_is_true(v) ? "true" : json_is_false(v) ? "false" : "null");
        return;
    }
    if (!json_is_array(v) && !json_is_object(v)) {
        put_value(b, v, false);
        return;
    }
    const bool object = json_is_object(v), empty = object ? !json_object_size(v) : !json_array_size(v);
    buf_putc(b, object ? '{' : '[');
#define SEPARATE()                                                                     \
    do {                                                                               \
        if (i) buf_puts(b, style->item);                                               \
        if (indent >= 0) {                                                             \
            buf_putc(b, '\n');                                                         \
            for (int k_ = 0; k_ < indent * (depth + 1); k_++) buf_putc(b, ' ');        \
        }                                                                              \
    } while (0)
    if (object) {
        json_object_foreach((json_t *)(uintptr_t)v, key, x)
        {
            SEPARATE();
            i++;
            buf_json_string(b, key, strlen(key));
            buf_puts(b, style->key);
            put_json(b, x, style, depth + 1);
        }
    } else {
        json_array_foreach((json_t *)(uintptr_t)v, i, x)
        {
            SEPARATE();
            put_json(b, x, style, depth + 1);
        }
    }
#undef SEPARATE
    if (indent >= 0 && !empty) {
        buf_putc(b, '\n');
        for (int k = 0; k < indent * depth; k++) buf_putc(b, ' ');
    }
    buf_putc(b, object ? '}' : ']');
}

/* ---------------------------------------------------------------- names */

static json_t *lookup(const struct run *r, const char *name)
{
    for (const struct scope *s = r->scope; s; s = s->outer) {
        json_t *v = json_object_get(s->names, name);
        if (v) return json_incref(v);
    }
    return NULL;
}

static void enter(struct run *r, struct scope *s)
{
    *s = (struct scope){json_object(), r->scope};
    r->scope = s;
}

static void leave(struct run *r)
{
    struct scope *s = r->scope;
    r->scope = s->outer;
    json_decref(s->names);
}

static void assign(struct run *r, const struct node *target, json_t *value)
{
    if (target->kind == EXPR_NAME) {
        if (value) json_object_set(r->scope->names, target->name, value);
        else json_object_del(r->scope->names, target->name);
    } else if (target->kind == EXPR_ATTRIBUTE) { // of a namespace
        json_t *space = eval(r, target->a);
        if (!json_is_object(space) || !json_object_get(space, "__namespace__")) fail(r, "only a namespace's attribute can be set%s", NULL);
        else if (value) json_object_set(space, target->name, value);
        json_decref(space);
    } else {
        fail(r, "cannot assign to this%s", NULL);
    }
}

static void assign_all(struct run *r, struct node *const *target, size_t n, json_t *value)
{
    if (n == 1) {
        assign(r, target[0], value);
        return;
    }
    if (!json_is_array(value) || json_array_size(value) != n) {
        fail(r, "cannot unpack this value%s", NULL);
        return;
    }
    for (size_t i = 0; i < n; i++) assign(r, target[i], json_array_get(value, i));
}

/* ---------------------------------------------------------------- arguments */

struct args {
    json_t *positional[16];
    json_t *named; /* object */
    int n;
};

static void eval_args(struct run *r, const struct node *n, struct args *a)
{
    *a = (struct args){.named = json_object()};
    for (size_t i = 0; i < n->n && !r->failed; i++) {
        json_t *v = eval(r, n->list[i]);
        if (n->keyword && n->keyword[i]) {
            if (v) json_object_set_new(a->named, n->keyword[i], v);
        } else if (a->n < 16) {
            a->positional[a->n++] = v;
        } else {
            json_decref(v);
            fail(r, "too many arguments%s", NULL);
        }
    }
}

static void free_args(struct args *a)
{
    for (int i = 0; i < a->n; i++) json_decref(a->positional[i]);
    json_decref(a->named);
}

static json_t *arg(const struct args *a, int i, const char *name)
{
    json_t *v = name ? json_object_get(a->named, name) : NULL;
    return v ? v : i < a->n ? a->positional[i] : NULL;
}

/* ---------------------------------------------------------------- sequences */

static size_t utf8_next(const char *s, size_t n, size_t i)
{
    i++;
    while (i < n && ((unsigned char)s[i] & 0xC0) == 0x80) i++;
    return i;
}

/* A string as a list of characters, a mapping as its keys, a list as it is; NULL: not iterable. */
static json_t *items_of(struct run *r, const json_t *v)
{
    json_t *out;
    if (json_is_array(v)) return json_incref((json_t *)(uintptr_t)v);
    if (!json_is_object(v) && !json_is_string(v)) return fail(r, v ? "a value is not iterable%s" : "an undefined value is not iterable%s", NULL);
    out = json_array();
    const char *key;
    json_t *x;
    if (json_is_object(v)) {
        json_object_foreach((json_t *)(uintptr_t)v, key, x) json_array_append_new(out, json_string(key));
        return out;
    }
    const char *s = json_string_value(v);
    for (size_t i = 0, n = json_string_length(v); i < n;) {
        const size_t to = utf8_next(s, n, i);
        json_array_append_new(out, json_stringn(s + i, to - i));
        i = to;
    }
    return out;
}

static json_t *joined(const json_t *list)
{
    struct buf b;
    buf_init(&b, MAX_OUTPUT);
    buf_puts(&b, "");
    size_t i;
    json_t *x;
    json_array_foreach((json_t *)(uintptr_t)list, i, x) put_value(&b, x, false);
    json_t *s = json_stringn(b.data, b.len);
    buf_release(&b);
    return s;
}

static json_t *slice(struct run *r, const struct node *n)
{
    json_t *of = eval(r, n->a), *bound[3] = {n->b ? eval(r, n->b) : NULL, n->c ? eval(r, n->c) : NULL, n->n ? eval(r, n->list[0]) : NULL}, *out = NULL;
    if (!r->failed && !json_is_array(of) && !json_is_string(of)) fail(r, "this value cannot be sliced%s", NULL);
    json_t *list = r->failed ? NULL : items_of(r, of);
    if (list) {
        const int64_t len = (int64_t)json_array_size(list), step = json_is_integer(bound[2]) ? json_integer_value(bound[2]) : 1;
        int64_t from = json_is_integer(bound[0]) ? json_integer_value(bound[0]) : step > 0 ? 0 : len - 1, to = json_is_integer(bound[1]) ? json_integer_value(bound[1]) : step > 0 ? len : -len - 1;
        if (from < 0) from += len;
        if (to < 0) to += len;
        if (step > 0) {
            from = from < 0 ? 0 : from;
            to = to > len ? len : to;
        } else {
            from = from >= len ? len - 1 : from;
            to = to < -1 ? -1 : to;
        }
        out = json_array();
        if (!step) fail(r, "slice step is zero%s", NULL);
        for (int64_t i = from; step && (step > 0 ? i < to : i > to); i += step)
            if (i >= 0 && i < len) json_array_append(out, json_array_get(list, (size_t)i));
        if (json_is_string(of)) {
            json_t *s = joined(out);
            json_decref(out);
            out = s;
        }
    }
    json_decref(list);
    json_decref(of);
    for (int i = 0; i < 3; i++) json_decref(bound[i]);
    return out;
}

static json_t *item(struct run *r, json_t *of, const json_t *index)
{
    if (!of) return fail(r, "an undefined value has no items%s", NULL);
    if (json_is_object(of)) return json_is_string(index) ? json_incref(json_object_get(of, json_string_value(index))) : NULL;
    if (!json_is_integer(index)) return NULL;
    json_t *list = items_of(r, of);
    if (!list) return NULL;
    int64_t i = json_integer_value(index), n = (int64_t)json_array_size(list);
    if (i < 0) i += n;
    json_t *v = i >= 0 && i < n ? json_incref(json_array_get(list, (size_t)i)) : NULL;
    json_decref(list);
    return v;
}

static json_t *attribute(struct run *r, json_t *of, const char *name)
{
    if (!of) return fail(r, "'%s' of an undefined value", name);
    return json_is_object(of) ? json_incref(json_object_get(of, name)) : NULL;
}

/* ---------------------------------------------------------------- operators */

static bool equal(const json_t *a, const json_t *b)
{
    if (!a || !b) return a == b;
    const bool na = json_is_number(a) || json_is_boolean(a), nb = json_is_number(b) || json_is_boolean(b);
    if (na && nb) return (json_is_boolean(a) ? json_is_true(a) : json_number_value(a)) == (json_is_boolean(b) ? json_is_true(b) : json_number_value(b));
    return json_equal(a, b);
}

static bool contains(struct run *r, const json_t *list, const json_t *x)
{
    if (json_is_string(list)) {
        if (!json_is_string(x)) return fail(r, "'in' a string needs a string%s", NULL), false;
        return strstr(json_string_value(list), json_string_value(x)) != NULL;
    }
    if (json_is_object(list)) return json_is_string(x) && json_object_get(list, json_string_value(x));
    if (!json_is_array(list)) return fail(r, "'in' needs something to look in%s", NULL), false;
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)(uintptr_t)list, i, v) if (equal(v, x)) return true;
    return false;
}

static int order(struct run *r, const json_t *a, const json_t *b)
{
    if ((json_is_number(a) || json_is_boolean(a)) && (json_is_number(b) || json_is_boolean(b))) {
        const double x = json_is_boolean(a) ? json_is_true(a) : json_number_value(a), y = json_is_boolean(b) ? json_is_true(b) : json_number_value(b);
        return x < y ? -1 : x > y;
    }
    if (json_is_string(a) && json_is_string(b)) return strcmp(json_string_value(a), json_string_value(b));
    fail(r, "values of different kinds cannot be ordered%s", NULL);
    return 0;
}

static json_t *compare(struct run *r, const struct node *n)
{
    json_t *left = eval(r, n->a);
    bool all = true;
    for (size_t i = 0; i < n->n && all && !r->failed; i++) {
        json_t *right = eval(r, n->list[i]);
        const char *op = n->keyword[i];
        if (r->failed) all = false;
        else if (!strcmp(op, "==")) all = equal(left, right);
        else if (!strcmp(op, "!=")) all = !equal(left, right);
        else if (!strcmp(op, "in")) all = contains(r, right, left);
        else if (!strcmp(op, "not in")) all = !contains(r, right, left);
        else {
            const int o = order(r, left, right);
            all = !strcmp(op, "<") ? o < 0 : !strcmp(op, ">") ? o > 0 : !strcmp(op, "<=") ? o <= 0 : o >= 0;
        }
        json_decref(left);
        left = right;
    }
    json_decref(left);
    return json_boolean(all);
}

static json_t *arithmetic(struct run *r, const char *op, const json_t *a, const json_t *b)
{
    const double x = json_is_boolean(a) ? json_is_true(a) : json_number_value(a), y = json_is_boolean(b) ? json_is_true(b) : json_number_value(b);
    const bool whole = !json_is_real(a) && !json_is_real(b);
    if (strchr("/%", op[0]) && y == 0) return fail(r, "division by zero%s", NULL);
    double z = op[0] == '+' ? x + y : op[0] == '-' ? x - y : !strcmp(op, "**") ? pow(x, y) : op[0] == '*' ? x * y : !strcmp(op, "//") ? floor(x / y) : op[0] == '/' ? x / y : x - y * floor(x / y);
    if (whole && strcmp(op, "/") && fabs(z) < 9e15) return json_integer((json_int_t)z);
    return isfinite(z) ? json_real(z) : fail(r, "a number is out of range%s", NULL);
}

static json_t *binary(struct run *r, const struct node *n)
{
    json_t *a = eval(r, n->a), *b = r->failed ? NULL : eval(r, n->b), *out = NULL;
    const char *op = n->name;
    const bool numbers = (json_is_number(a) || json_is_boolean(a)) && (json_is_number(b) || json_is_boolean(b));
    if (r->failed) {
    } else if (op[0] == '~') {
        struct buf s;
        buf_init(&s, MAX_OUTPUT);
        buf_puts(&s, "");
        put_value(&s, a, false);
        put_value(&s, b, false);
        out = json_stringn(s.data, s.len);
        buf_release(&s);
    } else if (numbers) {
        out = arithmetic(r, op, a, b);
    } else if (!strcmp(op, "+") && json_is_string(a) && json_is_string(b)) {
        out = json_pack("s#+#", json_string_value(a), (int)json_string_length(a), json_string_value(b), (int)json_string_length(b));
    } else if (!strcmp(op, "+") && json_is_array(a) && json_is_array(b)) {
        out = json_copy(a);
        json_array_extend(out, b);
    } else if (!strcmp(op, "*") && json_is_string(a) && json_is_integer(b) && json_integer_value(b) * (json_int_t)json_string_length(a) < MAX_OUTPUT) {
        json_t *list = json_array();
        for (json_int_t i = 0; i < json_integer_value(b); i++) json_array_append(list, a);
        out = joined(list);
        json_decref(list);
    } else {
        fail(r, "operator '%s' does not take these values", op);
    }
    json_decref(a);
    json_decref(b);
    return out;
}

/* ---------------------------------------------------------------- text */

static json_t *strip(const json_t *v, const char *set, bool left, bool right)
{
    const char *s = json_string_value(v);
    size_t from = 0, to = json_string_length(v);
    if (!set) set = " \t\n\r\f\v";
    while (left && from < to && s[from] && strchr(set, s[from])) from++;
    while (right && to > from && s[to - 1] && strchr(set, s[to - 1])) to--;
    return json_stringn(s + from, to - from);
}

static json_t *replace(const json_t *v, const char *old, const char *new, int64_t most)
{
    struct buf b;
    buf_init(&b, MAX_OUTPUT);
    buf_puts(&b, "");
    const char *s = json_string_value(v), *at;
    const size_t n = strlen(old);
    for (; n && most-- != 0 && (at = strstr(s, old)); s = at + n) {
        buf_append(&b, s, (size_t)(at - s));
        buf_puts(&b, new);
    }
    buf_puts(&b, s);
    json_t *out = json_stringn(b.data, b.len);
    buf_release(&b);
    return out;
}

static json_t *cased(const json_t *v, int how) /* 0 lower, 1 upper, 2 capitalize, 3 title */
{
    char *s = mem_strdup(json_string_value(v));
    bool start = true;
    for (char *c = s; *c; c++) {
        const bool letter = isalpha((unsigned char)*c) || (unsigned char)*c >= 0x80;
        const bool up = how == 1 || (how >= 2 && start && isalpha((unsigned char)*c));
        if ((unsigned char)*c < 0x80) *c = (char)(up ? toupper((unsigned char)*c) : tolower((unsigned char)*c));
        start = how == 3 ? !letter : false;
    }
    json_t *out = json_string(s);
    free(s);
    return out;
}

static json_t *split(const json_t *v, const char *separator, int64_t most)
{
    json_t *out = json_array();
    const char *s = json_string_value(v);
    if (!separator) {
        while (*s) {
            while (*s && isspace((unsigned char)*s)) s++;
            size_t n = 0;
            while (s[n] && !isspace((unsigned char)s[n])) n++;
            if (n) json_array_append_new(out, json_stringn(s, n));
            s += n;
        }
        return out;
    }
    const size_t k = strlen(separator);
    for (const char *at; k && most-- != 0 && (at = strstr(s, separator)); s = at + k) json_array_append_new(out, json_stringn(s, (size_t)(at - s)));
    json_array_append_new(out, json_string(s));
    return out;
}

static json_t *pairs_of(const json_t *v, bool keys, bool values)
{
    json_t *out = json_array(), *x;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)v, key, x)
    {
        if (!strcmp(key, "__namespace__")) continue;
        json_array_append_new(out, keys && values ? json_pack("[sO]", key, x) : keys ? json_string(key) : json_incref(x));
    }
    return out;
}

static bool affix(const json_t *v, const json_t *a, bool end)
{
    if (json_is_array(a)) {
        size_t i;
        json_t *x;
        json_array_foreach((json_t *)(uintptr_t)a, i, x) if (affix(v, x, end)) return true;
        return false;
    }
    const size_t n = json_string_length(v), k = json_string_length(a);
    return json_is_string(a) && k <= n && !memcmp(json_string_value(v) + (end ? n - k : 0), json_string_value(a), k);
}

static json_t *method(struct run *r, json_t *of, const char *name, const struct args *a)
{
    const char *s0 = json_string_value(arg(a, 0, NULL)), *s1 = json_string_value(arg(a, 1, NULL));
    json_t *count = arg(a, 2, NULL);
    if (json_is_string(of)) {
        if (!strcmp(name, "strip")) return strip(of, s0, true, true);
        if (!strcmp(name, "lstrip")) return strip(of, s0, true, false);
        if (!strcmp(name, "rstrip")) return strip(of, s0, false, true);
        if (!strcmp(name, "split")) return split(of, json_string_value(arg(a, 0, "sep")), json_is_integer(arg(a, 1, "maxsplit")) ? json_integer_value(arg(a, 1, "maxsplit")) : -1);
        if (!strcmp(name, "startswith")) return json_boolean(affix(of, arg(a, 0, NULL), false));
        if (!strcmp(name, "endswith")) return json_boolean(affix(of, arg(a, 0, NULL), true));
        if (!strcmp(name, "replace") && s0 && s1) return replace(of, s0, s1, json_is_integer(count) ? json_integer_value(count) : -1);
        if (!strcmp(name, "lower")) return cased(of, 0);
        if (!strcmp(name, "upper")) return cased(of, 1);
        if (!strcmp(name, "capitalize")) return cased(of, 2);
        if (!strcmp(name, "title")) return cased(of, 3);
        if (!strcmp(name, "find") && s0) {
            const char *at = strstr(json_string_value(of), s0);
            return json_integer(at ? at - json_string_value(of) : -1);
        }
        if (!strcmp(name, "join")) {
            json_t *list = items_of(r, arg(a, 0, NULL)), *parts = json_array(), *x;
            size_t i;
            json_array_foreach(list, i, x)
            {
                if (i) json_array_append(parts, of);
                json_array_append(parts, x);
            }
            json_t *out = joined(parts);
            json_decref(parts);
            json_decref(list);
            return out;
        }
    } else if (json_is_object(of)) {
        if (!strcmp(name, "items")) return pairs_of(of, true, true);
        if (!strcmp(name, "keys")) return pairs_of(of, true, false);
        if (!strcmp(name, "values")) return pairs_of(of, false, true);
        if (!strcmp(name, "get")) {
            json_t *v = s0 ? json_object_get(of, s0) : NULL, *fallback = arg(a, 1, NULL);
            return v ? json_incref(v) : fallback ? json_incref(fallback) : json_null();
        }
    } else if (json_is_array(of) && (!strcmp(name, "index") || !strcmp(name, "count"))) {
        int64_t n = 0;
        size_t i;
        json_t *x;
        json_array_foreach(of, i, x)
        {
            if (!equal(x, arg(a, 0, NULL))) continue;
            if (name[0] == 'i') return json_integer((json_int_t)i);
            n++;
        }
        return name[0] == 'c' ? json_integer(n) : fail(r, "index: the value is not in the list%s", NULL);
    }
    return fail(r, of ? "there is no method '%s' here" : "method '%s' of an undefined value", name);
}

/* ---------------------------------------------------------------- tests and filters */

static bool test(struct run *r, const char *name, const json_t *v, const struct args *a)
{
    const json_t *other = arg(a, 0, NULL);
    if (!strcmp(name, "defined")) return v != NULL;
    if (!strcmp(name, "undefined")) return v == NULL;
    if (!strcmp(name, "none")) return v && json_is_null(v);
    if (!strcmp(name, "string")) return json_is_string(v);
    if (!strcmp(name, "mapping")) return json_is_object(v);
    if (!strcmp(name, "iterable") || !strcmp(name, "sequence")) return json_is_array(v) || json_is_object(v) || json_is_string(v);
    if (!strcmp(name, "number")) return json_is_number(v) || json_is_boolean(v);
    if (!strcmp(name, "integer")) return json_is_integer(v);
    if (!strcmp(name, "float")) return json_is_real(v);
    if (!strcmp(name, "boolean")) return json_is_boolean(v);
    if (!strcmp(name, "true")) return json_is_true(v);
    if (!strcmp(name, "false")) return json_is_false(v);
    if (!strcmp(name, "equalto") || !strcmp(name, "eq") || !strcmp(name, "sameas")) return equal(v, other);
    if (!strcmp(name, "ne")) return !equal(v, other);
    if (!strcmp(name, "in")) return contains(r, other, v);
    if (!strcmp(name, "odd") && json_is_integer(v)) return json_integer_value(v) % 2 != 0;
    if (!strcmp(name, "even") && json_is_integer(v)) return json_integer_value(v) % 2 == 0;
    if (!strcmp(name, "divisibleby") && json_is_integer(v) && json_integer_value(other)) return json_integer_value(v) % json_integer_value(other) == 0;
    if (!strcmp(name, "lower") && json_is_string(v)) return !strpbrk(json_string_value(v), "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    if (!strcmp(name, "upper") && json_is_string(v)) return !strpbrk(json_string_value(v), "abcdefghijklmnopqrstuvwxyz");
    fail(r, "unknown test '%s'", name);
    return false;
}

static json_t *apply_filter(struct run *r, const char *name, json_t *v, const struct args *a);

/* select, reject, selectattr, rejectattr, map */
static json_t *choose(struct run *r, const char *name, json_t *v, const struct args *a)
{
    json_t *list = items_of(r, v), *out = json_array(), *x;
    const bool by_attribute = strstr(name, "attr") != NULL, reject = name[0] == 'r', maps = name[0] == 'm';
    const char *attr = by_attribute ? json_string_value(arg(a, 0, NULL)) : json_string_value(json_object_get(a->named, "attribute"));
    const int at = by_attribute ? 1 : 0;
    struct args rest = {.named = a->named};
    for (int i = at + 1; i < a->n; i++) rest.positional[rest.n++] = a->positional[i];
    size_t i;
    json_array_foreach(list, i, x)
    {
        if (r->failed) break;
        json_t *value = attr ? attribute(r, x, attr) : json_incref(x);
        const char *check = json_string_value(arg(a, at, NULL));
        if (maps) {
            json_t *fallback = json_object_get(a->named, "default"), *y = attr ? json_incref(value ? value : fallback) : check ? apply_filter(r, check, x, &rest) : NULL;
            if (y) json_array_append_new(out, y);
        } else {
            const bool yes = check ? test(r, check, value, &rest) : truth(value);
            if (yes != reject) json_array_append(out, x);
        }
        json_decref(value);
    }
    json_decref(list);
    return out;
}

static json_t *join_filter(struct run *r, json_t *v, const struct args *a)
{
    json_t *list = items_of(r, v), *separator = arg(a, 0, "d"), *parts = json_array(), *x;
    const char *attr = json_string_value(arg(a, 1, "attribute"));
    size_t i;
    json_array_foreach(list, i, x)
    {
        if (i && separator) json_array_append(parts, separator);
        json_t *y = attr ? attribute(r, x, attr) : json_incref(x);
        if (y) json_array_append_new(parts, y);
    }
    json_t *out = joined(parts);
    json_decref(parts);
    json_decref(list);
    return out;
}

static json_t *indent_filter(json_t *v, const struct args *a)
{
    json_t *width = arg(a, 0, "width");
    const bool first = truth(arg(a, 1, "first")), blank = truth(arg(a, 2, "blank"));
    const char *s = json_string_value(v);
    struct buf b, pad;
    buf_init(&b, MAX_OUTPUT);
    buf_init(&pad, 0);
    buf_puts(&b, "");
    buf_puts(&pad, "");
    if (json_is_string(width)) buf_puts(&pad, json_string_value(width));
    else
        for (int64_t k = 0; k < (json_is_integer(width) ? json_integer_value(width) : 4) && k < 1000; k++) buf_putc(&pad, ' ');
    for (bool start = true; *s; start = false) {
        const size_t n = strcspn(s, "\n");
        if (start ? first : n || blank) buf_puts(&b, pad.data);
        buf_append(&b, s, n);
        s += n;
        if (*s) buf_putc(&b, *s++);
    }
    json_t *out = json_stringn(b.data, b.len);
    buf_release(&b);
    buf_release(&pad);
    return out;
}

static json_t *tojson(const json_t *v, const struct args *a)
{
    json_t *indent = arg(a, 0, "indent");
    struct buf b;
    buf_init(&b, MAX_OUTPUT);
    buf_puts(&b, "");
    json_t *separators = json_object_get(a->named, "separators");
    const char *given[2] = {json_string_value(json_array_get(separators, 0)), json_string_value(json_array_get(separators, 1))};
    const int width = json_is_integer(indent) && json_integer_value(indent) <= 100 ? (int)json_integer_value(indent) : -1;
    const struct json_style style = {width, given[0] ? given[0] : width >= 0 ? "," : ", ", given[1] ? given[1] : ": "};
    put_json(&b, v, &style, 0);
    json_t *out = json_stringn(b.data, b.len);
    buf_release(&b);
    return out;
}

static json_t *sorted(struct run *r, json_t *v, const char *attr, bool reverse)
{
    json_t *out = json_copy(v);
    for (size_t i = 1; i < json_array_size(out) && !r->failed; i++) // stable, and lists in templates are short
        for (size_t k = i; k > 0; k--) {
            json_t *a = json_array_get(out, k - 1), *b = json_array_get(out, k), *x = attr ? attribute(r, a, attr) : json_incref(a), *y = attr ? attribute(r, b, attr) : json_incref(b);
            const int o = r->failed ? 0 : order(r, x, y);
            json_decref(x);
            json_decref(y);
            if (reverse ? o >= 0 : o <= 0) break;
            json_incref(a);
            json_array_set(out, k - 1, b);
            json_array_set_new(out, k, a);
        }
    return out;
}

static json_t *list_filter(struct run *r, const char *name, json_t *v, const struct args *a)
{
    json_t *list = items_of(r, v), *out = NULL, *x;
    if (!list) return NULL;
    const size_t n = json_array_size(list);
    size_t i;
    if (!strcmp(name, "list")) out = json_copy(list);
    else if (!strcmp(name, "first")) out = n ? json_incref(json_array_get(list, 0)) : NULL;
    else if (!strcmp(name, "last")) out = n ? json_incref(json_array_get(list, n - 1)) : NULL;
    else if (!strcmp(name, "length") || !strcmp(name, "count")) out = json_integer((json_int_t)n);
    else if (!strcmp(name, "reverse")) {
        out = json_array();
        for (i = n; i-- > 0;) json_array_append(out, json_array_get(list, i));
        if (json_is_string(v)) {
            json_t *s = joined(out);
            json_decref(out);
            out = s;
        }
    } else if (!strcmp(name, "unique")) {
        out = json_array();
        json_array_foreach(list, i, x) if (!contains(r, out, x)) json_array_append(out, x);
    } else if (!strcmp(name, "sort")) {
        out = sorted(r, list, json_string_value(arg(a, 2, "attribute")), truth(arg(a, 0, "reverse")));
    } else if (!strcmp(name, "min") || !strcmp(name, "max")) {
        json_array_foreach(list, i, x) if (!out || (order(r, x, out) < 0) == (name[1] == 'i')) out = x;
        out = json_incref(out);
    } else if (!strcmp(name, "sum")) {
        out = json_integer(0);
        json_array_foreach(list, i, x)
        {
            json_t *next = r->failed ? NULL : arithmetic(r, "+", out, x);
            json_decref(out);
            out = next;
        }
    }
    json_decref(list);
    return out;
}

static json_t *apply_filter(struct run *r, const char *name, json_t *v, const struct args *a)
{
    static const char *const lists[] = {"list", "first", "last", "length", "count", "reverse", "unique", "sort", "min", "max", "sum"};
    static const char *const choices[] = {"select", "reject", "selectattr", "rejectattr", "map"};
    static const char *const texts[] = {"trim", "lower", "upper", "capitalize", "title", "replace", "indent", "escape", "e", "string", "safe"};
    if (!strcmp(name, "default") || !strcmp(name, "d")) {
        json_t *fallback = arg(a, 0, "default_value");
        const bool use = !v || (truth(arg(a, 1, "boolean")) && !truth(v));
        return use ? (fallback ? json_incref(fallback) : json_string("")) : json_incref(v);
    }
    if (!strcmp(name, "tojson")) return v ? tojson(v, a) : fail(r, "tojson of an undefined value%s", NULL);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!strcmp(name, lists[i])) return !v && name[0] == 'l' && name[1] == 'e' ? json_integer(0) : list_filter(r, name, v, a);
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
        if (!strcmp(name, choices[i])) return choose(r, name, v, a);
    if (!strcmp(name, "join")) return join_filter(r, v, a);
    if (!strcmp(name, "items") || !strcmp(name, "dictsort")) {
        if (!json_is_object(v)) return fail(r, "'%s' needs a mapping", name);
        json_t *pairs = pairs_of(v, true, true), *out = NULL;
        if (name[0] == 'i') return pairs;
        json_t *keys = pairs_of(v, true, false), *ordered = sorted(r, keys, NULL, false), *k;
        size_t i;
        out = json_array();
        json_array_foreach(ordered, i, k) json_array_append_new(out, json_pack("[OO]", k, json_object_get(v, json_string_value(k))));
        json_decref(pairs);
        json_decref(keys);
        json_decref(ordered);
        return out;
    }
    if (!strcmp(name, "int")) return json_is_string(v) ? json_integer(strtoll(json_string_value(v), NULL, 10)) : json_integer((json_int_t)json_number_value(v));
    if (!strcmp(name, "float")) return json_real(json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v));
    if (!strcmp(name, "abs") && json_is_number(v)) return json_is_integer(v) ? json_integer(llabs(json_integer_value(v))) : json_real(fabs(json_real_value(v)));
    if (!strcmp(name, "round") && json_is_number(v)) return json_real(round(json_number_value(v)));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(name, texts[i])) continue;
        json_t *s = text_of(v), *out;
        const char *old = json_string_value(arg(a, 0, "old")), *new = json_string_value(arg(a, 1, "new"));
        if (i == 0) out = strip(s, json_string_value(arg(a, 0, "chars")), true, true);
        else if (i < 5) out = cased(s, (int)i - 1);
        else if (i == 5) out = old && new ? replace(s, old, new, -1) : fail(r, "replace needs two strings%s", NULL);
        else if (i == 6) out = indent_filter(s, a);
        else if (i < 9) {
            json_t *x = replace(s, "&", "&amp;", -1), *y = replace(x, "<", "&lt;", -1), *z = replace(y, ">", "&gt;", -1), *q = replace(z, "\"", "&#34;", -1);
            out = replace(q, "'", "&#39;", -1);
            json_decref(x);
            json_decref(y);
            json_decref(z);
            json_decref(q);
        } else out = json_incref(s);
        json_decref(s);
        return out;
    }
    return fail(r, "unknown filter '%s'", name);
}

/* ---------------------------------------------------------------- calls */

static json_t *call_body(struct run *r, const struct node *m, const struct args *a, const struct node *caller)
{
    struct scope own;
    struct buf out;
    if (++r->calls > MAX_CALLS) return fail(r, "calls are nested too deeply%s", NULL);
    buf_init(&out, MAX_OUTPUT);
    buf_puts(&out, "");
    enter(r, &own);
    for (size_t i = 0; i < m->n && !r->failed; i++) {
        json_t *v = arg(a, (int)i, m->list[i]->name);
        json_t *value = v ? json_incref(v) : m->list[i]->a ? eval(r, m->list[i]->a) : NULL;
        if (value) json_object_set_new(r->scope->names, m->list[i]->name, value);
    }
    const struct node *before = r->caller;
    r->caller = caller;
    run_body(r, m->body, m->n_body, &out);
    r->caller = before;
    leave(r);
    r->calls--;
    json_t *s = json_stringn(out.data, out.len);
    buf_release(&out);
    return s;
}

static void run_loop(struct run *r, const struct node *n, json_t *iterable, int depth, struct buf *out);

static json_t *global(struct run *r, const char *name, const struct args *a, bool *known)
{
    *known = true;
    if (!strcmp(name, "raise_exception")) {
        const char *s = json_string_value(arg(a, 0, NULL));
        if (!r->failed) err_set(r->err, SAIL_FAILED, "%.900s", s ? s : "raise_exception");
        r->failed = true;
        return NULL;
    }
    if (!strcmp(name, "strftime_now")) {
        char text[256];
        struct tm t;
        const char *format = json_string_value(arg(a, 0, NULL));
        gmtime_r(&r->options->now, &t);
        return json_stringn(text, strftime(text, sizeof text, format ? format : "", &t));
    }
    if (!strcmp(name, "range")) {
        json_int_t v[3] = {0, 0, 1};
        for (int i = 0; i < a->n && i < 3; i++) v[i] = json_integer_value(a->positional[i]);
        if (a->n == 1) v[1] = v[0], v[0] = 0;
        json_t *out = json_array();
        if (!v[2] || (v[1] - v[0]) / v[2] > MAX_STEPS) return json_decref(out), fail(r, "range is too large%s", NULL);
        for (json_int_t i = v[0]; v[2] > 0 ? i < v[1] : i > v[1]; i += v[2]) json_array_append_new(out, json_integer(i));
        return out;
    }
    if (!strcmp(name, "namespace") || !strcmp(name, "dict")) {
        json_t *out = json_copy(a->named);
        if (json_is_object(arg(a, 0, NULL))) json_object_update(out, arg(a, 0, NULL));
        if (name[0] == 'n') json_object_set_new(out, "__namespace__", json_true());
        return out;
    }
    *known = false;
    return NULL;
}

static json_t *call(struct run *r, const struct node *n, const struct node *caller)
{
    struct args a;
    json_t *out = NULL;
    eval_args(r, n, &a);
    if (r->failed) {
    } else if (n->a->kind == EXPR_ATTRIBUTE) {
        json_t *of = eval(r, n->a->a);
        if (!r->failed && json_is_object(of) && json_object_get(of, "__loop__") && !strcmp(n->a->name, "cycle") && a.n)
            out = json_incref(a.positional[json_integer_value(json_object_get(of, "index0")) % a.n]);
        else if (!r->failed)
            out = method(r, of, n->a->name, &a);
        json_decref(of);
    } else if (n->a->kind == EXPR_NAME) {
        bool known;
        json_t *macro = json_object_get(r->macros, n->a->name);
        if (macro) out = call_body(r, r->macro[json_integer_value(macro)], &a, caller);
        else if (!strcmp(n->a->name, "caller") && r->caller) out = call_body(r, r->caller, &a, NULL);
        else if (!strcmp(n->a->name, "loop") && r->loop) {
            struct buf b;
            buf_init(&b, MAX_OUTPUT);
            buf_puts(&b, "");
            if (++r->calls > MAX_CALLS) fail(r, "calls are nested too deeply%s", NULL);
            else run_loop(r, r->loop, arg(&a, 0, NULL), r->calls, &b);
            r->calls--;
            out = json_stringn(b.data, b.len);
            buf_release(&b);
        } else {
            out = global(r, n->a->name, &a, &known);
            if (!known && !r->failed) fail(r, "'%s' is not a function", n->a->name);
        }
    } else {
        fail(r, "this value cannot be called%s", NULL);
    }
    free_args(&a);
    return out;
}

static json_t *eval(struct run *r, const struct node *n)
{
    json_t *a, *b, *out = NULL;
    struct args args;
    r->at = n;
    if (r->failed) return NULL;
    if (++r->steps > MAX_STEPS) return fail(r, "the template runs too long%s", NULL);
    switch (n->kind) {
    case EXPR_LITERAL: return json_incref(n->value);
    case EXPR_NAME: return lookup(r, n->name);
    case EXPR_ATTRIBUTE:
        a = eval(r, n->a);
        if (!r->failed) out = attribute(r, a, n->name);
        json_decref(a);
        return out;
    case EXPR_ITEM:
        a = eval(r, n->a);
        b = r->failed ? NULL : eval(r, n->b);
        if (!r->failed) out = item(r, a, b);
        json_decref(a);
        json_decref(b);
        return out;
    case EXPR_SLICE: return slice(r, n);
    case EXPR_CALL: return call(r, n, NULL);
    case EXPR_FILTER:
    case EXPR_TEST:
        a = eval(r, n->a);
        if (r->failed) return json_decref(a), NULL;
        eval_args(r, n, &args);
        r->at = n;
        if (!r->failed && n->kind == EXPR_FILTER) out = apply_filter(r, n->name, a, &args);
        else if (!r->failed) out = json_boolean(test(r, n->name, a, &args) != n->negated);
        free_args(&args);
        json_decref(a);
        return out;
    case EXPR_BINARY: return binary(r, n);
    case EXPR_NEGATE:
        a = eval(r, n->a);
        if (json_is_integer(a)) out = json_integer(-json_integer_value(a));
        else if (json_is_real(a)) out = json_real(-json_real_value(a));
        else if (!r->failed) fail(r, "minus needs a number%s", NULL);
        json_decref(a);
        return out;
    case EXPR_NOT:
        a = eval(r, n->a);
        out = json_boolean(!truth(a));
        json_decref(a);
        return out;
    case EXPR_AND:
    case EXPR_OR:
        a = eval(r, n->a);
        if (truth(a) == (n->kind == EXPR_OR)) return a;
        json_decref(a);
        return eval(r, n->b);
    case EXPR_COMPARE: return compare(r, n);
    case EXPR_CHOOSE:
        a = eval(r, n->a);
        b = truth(a) ? eval(r, n->b) : n->c ? eval(r, n->c) : NULL;
        json_decref(a);
        return b;
    case EXPR_LIST:
        out = json_array();
        for (size_t i = 0; i < n->n && !r->failed; i++) {
            a = eval(r, n->list[i]);
            json_array_append_new(out, a ? a : json_null());
        }
        return out;
    case EXPR_DICT:
        out = json_object();
        for (size_t i = 0; i + 1 < n->n && !r->failed; i += 2) {
            a = eval(r, n->list[i]);
            b = r->failed ? NULL : eval(r, n->list[i + 1]);
            if (json_is_string(a)) json_object_set_new(out, json_string_value(a), b ? b : json_null());
            else if (!r->failed) fail(r, "a mapping's key must be a string%s", NULL);
            json_decref(a);
        }
        return out;
    default: return fail(r, "not an expression%s", NULL);
    }
}

/* ---------------------------------------------------------------- statements */

static json_t *loop_values(json_t *list, size_t i, int depth)
{
    const size_t n = json_array_size(list);
    json_t *l = json_pack("{sb si si si si si sb sb si si}", "__loop__", 1, "index", (int)i + 1, "index0", (int)i, "revindex", (int)(n - i), "revindex0", (int)(n - i - 1), "length", (int)n, "first", i == 0,
                          "last", i + 1 == n, "depth", depth + 1, "depth0", depth);
    if (i) json_object_set(l, "previtem", json_array_get(list, i - 1));
    if (i + 1 < n) json_object_set(l, "nextitem", json_array_get(list, i + 1));
    return l;
}

static void run_loop(struct run *r, const struct node *n, json_t *iterable, int depth, struct buf *out)
{
    json_t *all = items_of(r, iterable), *list = all, *x;
    size_t i;
    if (n->b && all) { // the filter sees the targets
        list = json_array();
        json_array_foreach(all, i, x)
        {
            struct scope own;
            enter(r, &own);
            assign_all(r, n->list, n->n, x);
            json_t *keep = eval(r, n->b);
            if (truth(keep)) json_array_append(list, x);
            json_decref(keep);
            leave(r);
        }
        json_decref(all);
    }
    const struct node *outer = r->loop;
    json_array_foreach(list, i, x)
    {
        if (r->failed) break;
        struct scope own;
        enter(r, &own);
        assign_all(r, n->list, n->n, x);
        json_object_set_new(r->scope->names, "loop", loop_values(list, i, depth));
        if (n->recursive) r->loop = n;
        const enum flow f = run_body(r, n->body, n->n_body, out);
        r->loop = outer;
        leave(r);
        if (f == FLOW_BREAK) break;
    }
    if (!r->failed && !json_array_size(list)) run_body(r, n->other, n->n_other, out);
    json_decref(list);
}

static void run_set_block(struct run *r, const struct node *n, bool filter, struct buf *out)
{
    struct buf text;
    struct scope own;
    buf_init(&text, MAX_OUTPUT);
    buf_puts(&text, "");
    enter(r, &own);
    run_body(r, n->body, n->n_body, &text);
    leave(r);
    json_t *v = json_stringn(text.data, text.len);
    // A filter chain ends in a node without name of its own: it stands for the text.
    const struct node *end = n->a;
    while (end && end->kind == EXPR_FILTER) end = end->a;
    if (end && v) {
        struct scope with;
        ((struct node *)(uintptr_t)end)->kind = EXPR_LITERAL;
        ((struct node *)(uintptr_t)end)->value = v;
        enter(r, &with);
        json_t *filtered = eval(r, n->a);
        leave(r);
        ((struct node *)(uintptr_t)end)->value = NULL;
        json_decref(v);
        v = filtered;
    }
    if (filter) put_value(out, v, false);
    else if (!r->failed) assign_all(r, n->list, n->n, v);
    json_decref(v);
    buf_release(&text);
}

static enum flow run_one(struct run *r, const struct node *n, struct buf *out)
{
    json_t *v;
    r->at = n;
    if (++r->steps > MAX_STEPS) fail(r, "the template runs too long%s", NULL);
    if (r->failed) return FLOW_BREAK;
    switch (n->kind) {
    case STMT_TEXT: buf_append(out, json_string_value(n->value), json_string_length(n->value)); break;
    case STMT_OUTPUT:
        v = eval(r, n->a);
        put_value(out, v, false);
        json_decref(v);
        break;
    case STMT_IF: {
        v = eval(r, n->a);
        const bool yes = truth(v);
        json_decref(v);
        if (r->failed) return FLOW_BREAK;
        return yes ? run_body(r, n->body, n->n_body, out) : run_body(r, n->other, n->n_other, out);
    }
    case STMT_FOR:
        v = eval(r, n->a);
        if (!r->failed) run_loop(r, n, v, 0, out);
        json_decref(v);
        break;
    case STMT_SET:
        v = eval(r, n->a);
        if (!r->failed) assign_all(r, n->list, n->n, v);
        json_decref(v);
        break;
    case STMT_SET_BLOCK: run_set_block(r, n, false, out); break;
    case STMT_FILTER: run_set_block(r, n, true, out); break;
    case STMT_MACRO:
        if (mem_grow(&r->macro, r->n_macro, &r->macro_capacity, sizeof *r->macro, r->err)) r->failed = true;
        else {
            json_object_set_new(r->macros, n->name, json_integer((json_int_t)r->n_macro));
            r->macro[r->n_macro++] = n;
        }
        break;
    case STMT_CALL:
        v = n->a->kind == EXPR_CALL ? call(r, n->a, n) : fail(r, "call needs a macro%s", NULL);
        put_value(out, v, false);
        json_decref(v);
        break;
    case STMT_BLOCK: return run_body(r, n->body, n->n_body, out);
    case STMT_BREAK: return FLOW_BREAK;
    case STMT_CONTINUE: return FLOW_CONTINUE;
    default: fail(r, "not a statement%s", NULL);
    }
    if (out->failed) fail(r, "the output is too long%s", NULL);
    return r->failed ? FLOW_BREAK : FLOW_ON;
}

static enum flow run_body(struct run *r, struct node *const *body, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        const enum flow f = run_one(r, body[i], out);
        if (f != FLOW_ON) return f;
    }
    return FLOW_ON;
}

/* ---------------------------------------------------------------- the outside */

int template_parse(struct chat_template **out, const char *source, json_t *specials, sail_err *err)
{
    struct chat_template *t;
    *out = NULL;
    int rc = mem_alloc(&t, 1, sizeof *t, err);
    if (rc) return rc;
    char *text = mem_strdup(source);
    const size_t n = strlen(text);
    if (n && text[n - 1] == '\n') text[n - 1] = '\0'; // Jinja drops one line break at the end of the source
    rc = ast_parse(&t->ast, text, err);
    free(text);
    t->specials = specials ? json_incref(specials) : json_object();
    if (rc)
        template_close(t);
    else
        *out = t;
    return rc;
}

void template_close(struct chat_template *t)
{
    if (!t) return;
    ast_free(&t->ast);
    json_decref(t->specials);
    free(t);
}

int template_render(const struct chat_template *t, json_t *row, const struct template_options *o, struct buf *out, sail_err *err)
{
    struct scope top = {.names = json_copy(t->specials)};
    struct template_options options = *o;
    struct run r = {.scope = &top, .macros = json_object(), .options = &options, .err = err};
    struct buf text;
    if (!options.now) options.now = time(NULL);
    buf_init(&text, MAX_OUTPUT);
    buf_puts(&text, "");
    json_object_set_new(top.names, "add_generation_prompt", json_boolean(o->add_generation_prompt));
    json_object_update(top.names, row);
    run_body(&r, t->ast.body, t->ast.n_body, &text);
    if (!r.failed && o->continue_final_message) { // cut behind the last message's own text
        json_t *messages = json_object_get(row, "messages"), *last = json_array_get(messages, json_array_size(messages) - 1), *content = json_object_get(last, "content");
        json_t *trimmed = json_is_string(content) ? strip(content, NULL, true, true) : NULL;
        const char *found = NULL, *mark = json_string_value(trimmed);
        for (const char *s = text.data; mark && (s = strstr(s, mark)); s++) found = s;
        if (!found) fail(&r, "continue_final_message: the last message's text is not in the rendering%s", NULL);
        else text.len = (size_t)(found - text.data) + strlen(mark);
        json_decref(trimmed);
    }
    if (!r.failed && !buf_append(out, text.data, text.len)) err_memory(err, text.len);
    buf_release(&text);
    json_decref(top.names);
    json_decref(r.macros);
    free(r.macro);
    return r.failed ? SAIL_FAILED : SAIL_OK;
}

static json_t *load(const char *folder, const char *name)
{
    char *path = path_join(folder, name), *text;
    size_t n;
    json_t *j = NULL;
    if (path_exists(path) && !file_read(path, (size_t)1 << 28, &text, &n, NULL)) {
        j = json_loadb(text, n, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, NULL);
        free(text);
    }
    free(path);
    return j;
}

/* The template's text of a folder or GGUF (free it), and the special tokens by name. */
static char *find_source(const char *path, json_t *specials)
{
    const size_t n = strlen(path);
    char *source = NULL;
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) {
        struct gguf *g;
        if (gguf_open(&g, path, NULL)) return NULL;
        const char *s = gguf_string(g, "tokenizer.chat_template");
        if (s) source = mem_strdup(s);
        static const char *const names[][2] = {{"bos_token", "tokenizer.ggml.bos_token_id"}, {"eos_token", "tokenizer.ggml.eos_token_id"}, {"pad_token", "tokenizer.ggml.padding_token_id"}, {"unk_token", "tokenizer.ggml.unknown_token_id"}};
        for (size_t i = 0; i < 4; i++) {
            uint64_t id;
            size_t len;
            const char *token = gguf_u64(g, names[i][1], &id) ? gguf_array_string(g, "tokenizer.ggml.tokens", (int64_t)id, &len) : NULL;
            if (token) json_object_set_new(specials, names[i][0], json_stringn(token, len));
        }
        gguf_close(g);
        return source;
    }
    json_t *config = load(path, "tokenizer_config.json"), *t = json_object_get(config, "chat_template"), *v, *one;
    const char *key;
    size_t i;
    json_object_foreach(config, key, v)
    {
        const size_t k = strlen(key);
        const char *s = json_is_object(v) ? json_string_value(json_object_get(v, "content")) : json_string_value(v);
        if (s && k > 6 && !strcmp(key + k - 6, "_token")) json_object_set_new(specials, key, json_string(s));
    }
    char *file = path_join(path, "chat_template.jinja"), *text;
    size_t len;
    if (path_exists(file) && !file_read(file, (size_t)1 << 24, &text, &len, NULL)) source = text;
    free(file);
    if (!source && json_is_string(t)) source = mem_strdup(json_string_value(t));
    json_array_foreach(t, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "name")), *s = json_string_value(json_object_get(one, "template"));
        if (!source && name && s && !strcmp(name, "default")) source = mem_strdup(s);
    }
    json_decref(config);
    return source;
}

char *template_source(const char *path)
{
    json_t *specials = json_object();
    char *source = find_source(path, specials);
    json_decref(specials);
    return source;
}

bool template_exists(const char *path)
{
    char *source = template_source(path);
    const bool there = source != NULL;
    free(source);
    return there;
}

int template_open(struct chat_template **out, const char *path, sail_err *err)
{
    json_t *specials = json_object();
    char *source = find_source(path, specials);
    int rc = source ? template_parse(out, source, specials, err) : err_set(err, SAIL_FAILED, "%s: no chat template", path);
    if (rc && source) err_context(err, "%s", path);
    free(source);
    json_decref(specials);
    return rc;
}
