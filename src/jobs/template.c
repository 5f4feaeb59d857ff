#define _GNU_SOURCE
/* sail template: rows of messages in, rendered chats out, a JSON string a line (with ids and marks: an object). */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "data/assistant.h"
#include "jobs/jobs.h"
#include "template/template.h"

/* 2025-07-10T12:00:00Z; a fraction of the second is dropped. */
static int parse_now(const char *s, time_t *out, sail_err *err)
{
    struct tm tm = {0};
    const char *end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
    if (end && *end == '.') end += 1 + strspn(end + 1, "0123456789");
    if (!end || (*end && strcmp(end, "Z") && strcmp(end, "+00:00"))) return err_set(err, SAIL_USAGE, "--now: expected a UTC time like 2025-07-10T12:00:00Z, got '%s'", s);
    *out = timegm(&tm);
    return SAIL_OK;
}

struct renderer {
    struct chat_template *template;
    struct tokenizer *tokenizer; /* NULL: the text alone is asked for */
    struct template_options options;
    struct buf out;
};

static int put_masks(struct renderer *r, const struct buf *text, const struct template_spans *spans, sail_err *err)
{
    const char *s = text->data ? text->data : "";
    struct ids ids = {0};
    unsigned char *mark = NULL;
    int rc = tokenizer_encode(r->tokenizer, s, text->len, false, &ids, err);
    if (!rc) rc = mem_alloc(&mark, ids.n, 1, err);
    if (!rc) rc = assistant_mark(r->tokenizer, s, text->len, 0, spans, ids.id, ids.n, mark, err);
    buf_puts(&r->out, "{\"text\": ");
    buf_json_string(&r->out, s, text->len);
    buf_puts(&r->out, ", \"ids\": [");
    for (size_t i = 0; !rc && i < ids.n; i++) buf_printf(&r->out, i ? ", %d" : "%d", (int)ids.id[i]);
    buf_puts(&r->out, "], \"assistant_masks\": [");
    for (size_t i = 0; !rc && i < ids.n; i++) buf_puts(&r->out, i ? (mark[i] ? ", 1" : ", 0") : mark[i] ? "1" : "0");
    buf_puts(&r->out, "]}\n");
    free(mark);
    ids_release(&ids);
    return rc;
}

static int render_row(struct renderer *r, const char *line, size_t n, const char *path, int64_t number, sail_err *err)
{
    struct buf *out = &r->out;
    struct template_spans spans = {0};
    json_error_t why;
    json_t *row = json_loadb(line, n, JSON_ALLOW_NUL, &why);
    if (!row) return err_set(err, SAIL_FAILED, "%s:%lld: not JSON: %s", path, (long long)number, why.text);
    int rc = SAIL_OK;
    struct buf text;
    buf_init(&text, 0);
    sail_err refusal = {0};
    if (!json_is_object(row) || !json_object_get(row, "messages")) {
        rc = err_set(err, SAIL_FAILED, "%s:%lld: expected an object with 'messages'", path, (long long)number);
    } else if (template_render_spans(r->template, row, &r->options, &text, &spans, &refusal)) {
        buf_puts(out, "{\"error\": ");
        buf_json_string(out, refusal.message, strlen(refusal.message));
        buf_puts(out, "}\n");
    } else if (r->tokenizer) {
        if ((rc = put_masks(r, &text, &spans, err))) err_context(err, "%s:%lld", path, (long long)number);
    } else {
        buf_json_string(out, text.data ? text.data : "", text.len);
        buf_putc(out, '\n');
    }
    template_spans_release(&spans);
    buf_release(&text);
    json_decref(row);
    return rc;
}

static void flush(struct buf *out)
{
    if (out->len) fwrite(out->data, 1, out->len, stdout);
    buf_clear(out);
}

static int render_rows(struct renderer *r, const sail_config *c, sail_err *err)
{
    char *data = NULL;
    size_t len = 0;
    int64_t number = 0;
    int rc = file_read_gz(c->messages, (size_t)16 << 30, &data, &len, err);
    for (size_t at = 0; !rc && at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - data) - at : len - at;
        number++;
        if (strspn(data + at, " \t\r") < n) rc = render_row(r, data + at, n, c->messages, number, err);
        if (!rc && r->out.failed) rc = err_memory(err, r->out.len);
        if (!rc && r->out.len > 1 << 16) flush(&r->out);
        at += n + 1;
    }
    free(data);
    return rc;
}

int job_template(const sail_config *c, sail_err *err)
{
    int rc = config_require(c, OPTION_model, err);
    if (!rc) rc = config_require(c, OPTION_messages, err);
    struct renderer r = {.options = {.add_generation_prompt = c->add_generation_prompt}};
    buf_init(&r.out, (size_t)1 << 30);
    if (!rc && c->now) rc = parse_now(c->now, &r.options.now, err);
    if (!rc) rc = template_open_unchecked(&r.template, c->model, err); // a syntax that is refused is every row's error
    if (!rc && c->assistant_masks) rc = tokenizer_open(&r.tokenizer, c->model, err);
    if (!rc) rc = render_rows(&r, c, err);
    flush(&r.out);
    buf_release(&r.out);
    tokenizer_close(r.tokenizer);
    template_close(r.template);
    return rc;
}
