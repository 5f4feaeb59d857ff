#include "config/study.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "config/yaml.h"

struct reader {
    struct study *study;
    yaml_document_t document;
    sail_err *err;
};

static int line_of(const yaml_node_t *n) { return (int)n->start_mark.line + 1; }

static int refuse(const struct reader *r, int line, const char *expected)
{
    return err_set(r->err, SAIL_USAGE, "%s:%d: expected %s", r->study->path, line, expected);
}

static const char *text_of(const yaml_node_t *n) { return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL; }

/* A mapping to plain values as a JSON object. */
static int read_map(struct reader *r, const yaml_node_t *node, char **out)
{
    struct buf b;
    buf_init(&b, (size_t)1 << 20);
    buf_putc(&b, '{');
    int rc = SAIL_OK;
    for (yaml_node_pair_t *p = node->data.mapping.pairs.start; !rc && p < node->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, p->key), *value = yaml_document_get_node(&r->document, p->value);
        if (!text_of(key) || !text_of(value)) {
            rc = refuse(r, line_of(node), "plain keys and values in the mapping");
            break;
        }
        if (b.len > 1) buf_puts(&b, ", ");
        buf_json_string(&b, text_of(key), strlen(text_of(key)));
        buf_puts(&b, ": ");
        yaml_put_json(&b, text_of(value), value->data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
    }
    buf_putc(&b, '}');
    *out = mem_strdup(b.data);
    buf_release(&b);
    return rc;
}

/* A value; a list of values, joined by commas; a mapping to values, as JSON. */
static int read_value(struct reader *r, const yaml_node_t *node, char **out)
{
    if (text_of(node)) {
        *out = mem_strdup(text_of(node));
        return SAIL_OK;
    }
    if (node->type == YAML_MAPPING_NODE) return read_map(r, node, out);
    struct buf b;
    buf_init(&b, (size_t)1 << 20);
    int rc = SAIL_OK;
    for (yaml_node_item_t *i = node->data.sequence.items.start; !rc && i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        if (!text_of(item)) rc = refuse(r, line_of(item), "a plain value in the list");
        if (!rc) buf_printf(&b, "%s%s", b.len ? "," : "", text_of(item));
    }
    *out = mem_strdup(b.data ? b.data : "");
    buf_release(&b);
    return rc;
}

typedef int entry_reader(struct reader *r, void *context, const char *key, const yaml_node_t *key_node, const yaml_node_t *value);

/* Calls read for each entry; keys are plain, and none comes twice. */
static int each_entry(struct reader *r, const yaml_node_t *node, const char *what, entry_reader *read, void *context)
{
    if (node->type != YAML_MAPPING_NODE) return refuse(r, line_of(node), what);
    int rc = SAIL_OK;
    const yaml_node_pair_t *start = node->data.mapping.pairs.start, *top = node->data.mapping.pairs.top;
    for (const yaml_node_pair_t *p = start; !rc && p < top; p++) {
        const yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
        if (!text_of(key)) return refuse(r, line_of(key), "a plain name");
        for (const yaml_node_pair_t *q = start; q < p; q++)
            if (!strcmp(text_of(yaml_document_get_node(&r->document, q->key)), text_of(key)))
                return err_set(r->err, SAIL_USAGE, "%s:%d: '%s' is there twice", r->study->path, line_of(key), text_of(key));
        rc = read(r, context, text_of(key), key, yaml_document_get_node(&r->document, p->value));
    }
    return rc;
}

static int read_option(struct reader *r, void *context, const char *key, const yaml_node_t *key_node, const yaml_node_t *value)
{
    struct study_options *o = context;
    int rc = mem_grow(&o->item, o->n, &o->capacity, sizeof *o->item, r->err);
    if (rc) return rc;
    o->item[o->n] = (struct study_option){.key = mem_strdup(key), .line = line_of(key_node)};
    return read_value(r, value, &o->item[o->n++].value);
}

bool study_has_seed(const struct study_seeds *seeds, int64_t seed)
{
    for (size_t i = 0; i < seeds->n; i++)
        if (seeds->item[i] == seed) return true;
    return false;
}

static int set_seeds(struct study_seeds *seeds, const char *list, const char *what, sail_err *err)
{
    seeds->n = 0;
    for (const char *p = list;; p++) {
        char *end;
        errno = 0;
        const long long seed = strtoll(p, &end, 10);
        if (end == p || (*end && *end != ',') || errno || seed < 0 || seed > 9007199254740992LL)
            return err_set(err, SAIL_USAGE, "%s: seeds: expected whole numbers from 0 on with commas between them, got '%.80s'", what, list);
        if (study_has_seed(seeds, seed)) return err_set(err, SAIL_USAGE, "%s: seed %lld is there twice", what, seed);
        int rc = mem_grow(&seeds->item, seeds->n, &seeds->capacity, sizeof *seeds->item, err);
        if (rc) return rc;
        seeds->item[seeds->n++] = seed;
        p = end;
        if (!*p) return SAIL_OK;
    }
}

/* A method's own seeds are some of the study's. */
static int check_seeds(const struct study *s, const char *what, sail_err *err)
{
    for (size_t i = 0; i < s->n_method; i++) {
        const struct study_method *m = &s->method[i];
        size_t n = 0;
        for (size_t k = 0; k < s->seeds.n; k++) n += study_has_seed(&m->seeds, s->seeds.item[k]);
        if (m->seeds.n && !n) return err_set(err, SAIL_USAGE, "%s: none of the seeds that %s has for itself (%s:%d)", what, m->name, s->path, m->line);
    }
    return SAIL_OK;
}

int study_set_seeds(struct study *s, const char *list, const char *what, sail_err *err)
{
    int rc = set_seeds(&s->seeds, list, what, err);
    return rc ? rc : check_seeds(s, what, err);
}

static int read_seeds(struct reader *r, struct study_seeds *seeds, int line, const yaml_node_t *node)
{
    char *list = NULL, *what = mem_printf("%s:%d", r->study->path, line);
    int rc = read_value(r, node, &list);
    if (!rc) rc = set_seeds(seeds, list, what, r->err);
    free(list);
    free(what);
    return rc;
}

static bool is_empty(const yaml_node_t *n) { return text_of(n) && (!*text_of(n) || !strcmp(text_of(n), "~") || !strcmp(text_of(n), "null")); }

static int read_options(struct reader *r, struct study_options *o, int line, const yaml_node_t *node)
{
    o->line = line;
    return is_empty(node) ? SAIL_OK : each_entry(r, node, "options (name: value)", read_option, o);
}

/* The name becomes a folder's. */
static bool good_name(const char *s)
{
    const size_t n = strlen(s);
    return n && n <= 64 && s[0] != '.' && s[0] != '-' && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

static int read_method_option(struct reader *r, void *context, const char *key, const yaml_node_t *key_node, const yaml_node_t *value)
{
    struct study_method *m = context;
    return strcmp(key, "seeds") ? read_option(r, &m->options, key, key_node, value) : read_seeds(r, &m->seeds, line_of(key_node), value);
}

static bool has_method(const struct study *s, const char *name)
{
    for (size_t i = 0; i < s->n_method; i++)
        if (!strcmp(s->method[i].name, name)) return true;
    return false;
}

static int add_method(struct reader *r, const char *name, int line, const yaml_node_t *options)
{
    struct study *s = r->study;
    if (!good_name(name)) return err_set(r->err, SAIL_USAGE, "%s:%d: '%.64s': expected a name of at most 64 letters, digits, '.', '_' or '-'", s->path, line, name);
    if (has_method(s, name)) return err_set(r->err, SAIL_USAGE, "%s:%d: '%s' is there twice", s->path, line, name);
    int rc = mem_grow(&s->method, s->n_method, &s->method_capacity, sizeof *s->method, r->err);
    if (rc) return rc;
    struct study_method *m = &s->method[s->n_method++];
    *m = (struct study_method){.name = mem_strdup(name), .line = line};
    m->options.line = line;
    return options && !is_empty(options) ? each_entry(r, options, "options (name: value)", read_method_option, m) : SAIL_OK;
}

static int read_method(struct reader *r, void *context, const char *key, const yaml_node_t *key_node, const yaml_node_t *value)
{
    (void)context;
    return add_method(r, key, line_of(key_node), value);
}

/* name -> options, or a plain list of names. */
static int read_methods(struct reader *r, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE) return each_entry(r, node, "methods (name: options)", read_method, NULL);
    int rc = SAIL_OK;
    for (yaml_node_item_t *i = node->data.sequence.items.start; !rc && i < node->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(&r->document, *i);
        rc = text_of(item) ? add_method(r, text_of(item), line_of(item), NULL) : refuse(r, line_of(item), "a method's name");
    }
    return rc;
}

static int read_against(struct reader *r, int line, const yaml_node_t *node)
{
    struct study *s = r->study;
    char *list = NULL, *save = NULL;
    int rc = read_value(r, node, &list);
    s->against_line = line;
    if (rc) return rc;
    for (char *name = strtok_r(list, ",", &save); !rc && name; name = strtok_r(NULL, ",", &save)) {
        rc = mem_grow(&s->against, s->n_against, &s->against_capacity, sizeof *s->against, r->err);
        if (!rc) s->against[s->n_against++] = mem_strdup(name);
    }
    free(list);
    return rc;
}

static int read_reach(struct reader *r, int line, const yaml_node_t *node)
{
    const char *text = text_of(node);
    char *end = NULL;
    r->study->reach = text ? strtod(text, &end) : NAN;
    return end && end != text && !*end && isfinite(r->study->reach) ? SAIL_OK : refuse(r, line, "reach: a reward");
}

static int read_section(struct reader *r, void *context, const char *key, const yaml_node_t *key_node, const yaml_node_t *value)
{
    struct study *s = context;
    const int line = line_of(key_node);
    if (!strcmp(key, "base")) return read_options(r, &s->base, line, value);
    if (!strcmp(key, "eval")) return read_options(r, &s->eval, line, value);
    if (!strcmp(key, "methods")) return read_methods(r, value);
    if (!strcmp(key, "seeds")) return read_seeds(r, &s->seeds, line, value);
    if (!strcmp(key, "against")) return read_against(r, line, value);
    if (!strcmp(key, "reach")) return read_reach(r, line, value);
    if (!strcmp(key, "out")) return read_value(r, value, &s->out);
    return err_set(r->err, SAIL_USAGE, "%s:%d: unknown section '%.64s': expected base, methods, seeds, against, reach, eval or out", s->path, line, key);
}

static int check_against(struct study *s, sail_err *err)
{
    for (size_t i = 0; i < s->n_against; i++)
        if (!has_method(s, s->against[i])) return err_set(err, SAIL_USAGE, "%s:%d: against: there is no '%.64s' in methods", s->path, s->against_line, s->against[i]);
    if (s->n_against > STUDY_AGAINST) return err_set(err, SAIL_USAGE, "%s:%d: against: %zu methods, expected at most %d", s->path, s->against_line, s->n_against, (int)STUDY_AGAINST);
    if (s->n_against) return SAIL_OK;
    int rc = mem_grow(&s->against, 0, &s->against_capacity, sizeof *s->against, err);
    if (!rc) s->against[s->n_against++] = mem_strdup(s->method[0].name);
    return rc;
}

static int read_document(struct reader *r)
{
    struct study *s = r->study;
    const yaml_node_t *root = yaml_document_get_root_node(&r->document);
    if (!root) return refuse(r, 1, "base, methods and seeds, got an empty file");
    int rc = each_entry(r, root, "a mapping with base, methods and seeds", read_section, s);
    if (rc) return rc;
    if (!s->base.line) return err_set(r->err, SAIL_USAGE, "%s:%d: 'base' is missing: the options common to all runs", s->path, line_of(root));
    if (!s->n_method) return err_set(r->err, SAIL_USAGE, "%s:%d: 'methods' is missing or empty: what is compared", s->path, line_of(root));
    if (!s->seeds.n) return err_set(r->err, SAIL_USAGE, "%s:%d: 'seeds' is missing: a list of whole numbers", s->path, line_of(root));
    rc = check_seeds(s, s->path, r->err);
    return rc ? rc : check_against(s, r->err);
}

int study_open(struct study **out, const char *path, sail_err *err)
{
    char *text;
    size_t n;
    *out = NULL;
    int rc = file_read(path, (size_t)1 << 20, &text, &n, err);
    if (rc) return SAIL_USAGE;
    struct reader r = {.err = err};
    yaml_parser_t parser;
    rc = mem_alloc(&r.study, 1, sizeof *r.study, err);
    if (!rc && !yaml_parser_initialize(&parser)) rc = err_memory(err, sizeof parser);
    if (rc) {
        free(r.study);
        free(text);
        return rc;
    }
    r.study->path = mem_strdup(path);
    r.study->reach = NAN;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    if (yaml_parser_load(&parser, &r.document)) {
        rc = read_document(&r);
        yaml_document_delete(&r.document);
    } else {
        rc = err_set(err, SAIL_USAGE, "%s:%zu: not YAML: %s", path, parser.problem_mark.line + 1, parser.problem ? parser.problem : "unreadable");
    }
    yaml_parser_delete(&parser);
    free(text);
    if (rc)
        study_free(r.study);
    else
        *out = r.study;
    return rc;
}

static void free_options(struct study_options *o)
{
    for (size_t i = 0; i < o->n; i++) {
        free(o->item[i].key);
        free(o->item[i].value);
    }
    free(o->item);
}

void study_free(struct study *s)
{
    if (!s) return;
    free_options(&s->base);
    free_options(&s->eval);
    for (size_t i = 0; i < s->n_method; i++) {
        free(s->method[i].name);
        free(s->method[i].seeds.item);
        free_options(&s->method[i].options);
    }
    free(s->method);
    for (size_t i = 0; i < s->n_against; i++) free(s->against[i]);
    free(s->against);
    free(s->seeds.item);
    free(s->path);
    free(s->out);
    free(s);
}
