#include "config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <yaml.h>

#include "base/err.h"
#include "base/file.h"

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *path;
};

static int next_event(struct reader *r, sail_err *err)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = false;
    if (!yaml_parser_parse(&r->parser, &r->event))
        return err_set(err, SAIL_USAGE, "%s:%zu: not YAML: %s", r->path, r->parser.problem_mark.line + 1, r->parser.problem ? r->parser.problem : "unreadable");
    r->has_event = true;
    return SAIL_OK;
}

static int refuse(const struct reader *r, const char *expected, sail_err *err)
{
    return err_set(err, SAIL_USAGE, "%s:%zu: expected %s", r->path, r->event.start_mark.line + 1, expected);
}

void yaml_put_json(struct buf *out, const char *value, bool plain)
{
    char *end;
    const double x = strtod(value, &end);
    if (plain && isfinite(x) && end != value && !*end)
        buf_puts(out, value);
    else
        buf_json_string(out, value, strlen(value));
}

/* What follows a mapping's start, as a JSON object: numbers stay numbers. */
static int read_map(struct reader *r, struct buf *value, sail_err *err)
{
    int rc;
    buf_putc(value, '{');
    for (bool is_key = true; !(rc = next_event(r, err)) && r->event.type != YAML_MAPPING_END_EVENT; is_key = !is_key) {
        if (r->event.type != YAML_SCALAR_EVENT) return refuse(r, "plain keys and values in the mapping", err);
        if (is_key && value->len > 1) buf_puts(value, ", ");
        yaml_put_json(value, (const char *)r->event.data.scalar.value, !is_key && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE);
        if (is_key) buf_puts(value, ": ");
    }
    buf_putc(value, '}');
    return rc;
}

/* A scalar; a sequence of scalars, joined by commas; a mapping to scalars, as JSON. */
static int read_value(struct reader *r, struct buf *value, sail_err *err)
{
    int rc = next_event(r, err);
    if (rc) return rc;
    buf_clear(value);
    if (r->event.type == YAML_SCALAR_EVENT) {
        buf_append(value, r->event.data.scalar.value, r->event.data.scalar.length);
        return SAIL_OK;
    }
    if (r->event.type == YAML_MAPPING_START_EVENT) return read_map(r, value, err);
    if (r->event.type != YAML_SEQUENCE_START_EVENT) return refuse(r, "a value, a list of values or a mapping to values", err);
    while (!(rc = next_event(r, err)) && r->event.type != YAML_SEQUENCE_END_EVENT) {
        if (r->event.type != YAML_SCALAR_EVENT) return refuse(r, "a plain value in the list", err);
        if (value->len) buf_putc(value, ',');
        buf_append(value, r->event.data.scalar.value, r->event.data.scalar.length);
    }
    return rc;
}

/* Whether a key came before, with - or _; it has from now on. */
static bool seen_before(struct buf *seen, const char *key)
{
    const size_t at = seen->len;
    buf_putc(seen, '\n');
    buf_puts(seen, key);
    buf_putc(seen, '\n');
    if (seen->failed) return false;
    for (char *c = seen->data + at; *c; c++)
        if (*c == '-') *c = '_';
    return strstr(seen->data, seen->data + at) != seen->data + at;
}

static int read_pairs(struct reader *r, int (*set)(void *, const char *, const char *, sail_err *), void *context, sail_err *err)
{
    int rc;
    do { // stream start, document start
        if ((rc = next_event(r, err))) return rc;
        if (r->event.type == YAML_STREAM_END_EVENT) return SAIL_OK; // an empty file
    } while (r->event.type == YAML_STREAM_START_EVENT || r->event.type == YAML_DOCUMENT_START_EVENT);
    if (r->event.type != YAML_MAPPING_START_EVENT) return refuse(r, "a mapping (key: value)", err);
    struct buf key, value, seen;
    buf_init(&key, 4096);
    buf_init(&seen, 0);
    buf_init(&value, (size_t)1 << 20);
    while (!rc && !(rc = next_event(r, err)) && r->event.type != YAML_MAPPING_END_EVENT) {
        if (r->event.type != YAML_SCALAR_EVENT) {
            rc = refuse(r, "an option's name", err);
            break;
        }
        size_t line = r->event.start_mark.line + 1;
        buf_clear(&key);
        buf_append(&key, r->event.data.scalar.value, r->event.data.scalar.length);
        if (seen_before(&seen, key.data ? key.data : ""))
            rc = err_set(err, SAIL_USAGE, "%s:%zu: '%s' is there twice", r->path, line, key.data);
        if (!rc) rc = read_value(r, &value, err);
        if (!rc && (key.failed || value.failed)) rc = err_set(err, SAIL_USAGE, "%s:%zu: too long", r->path, line);
        if (!rc && (rc = set(context, key.data ? key.data : "", value.data ? value.data : "", err))) err_context(err, "%s:%zu", r->path, line);
    }
    buf_release(&key);
    buf_release(&value);
    buf_release(&seen);
    return rc;
}

int yaml_read_flat(const char *path, int (*set)(void *, const char *, const char *, sail_err *), void *context, sail_err *err)
{
    if (path_is_dir(path)) return err_set(err, SAIL_USAGE, "%s: expected a YAML file, got a folder", path);
    FILE *f = fopen(path, "rb");
    if (!f) return err_set(err, SAIL_USAGE, "%s: %s", path, strerror(errno));
    struct reader r = {.path = path};
    if (!yaml_parser_initialize(&r.parser)) {
        fclose(f);
        return err_memory(err, sizeof r.parser);
    }
    yaml_parser_set_input_file(&r.parser, f);
    int rc = read_pairs(&r, set, context, err);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    fclose(f);
    return rc;
}
