/* sail template: chats rendered by a model's template, a JSON string a line; a row that the template refuses gives {"error": ...} in its line. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/file.h"
#include "jobs/jobs.h"
#include "template/template.h"

static int read_clock(const sail_config *c, time_t *now, sail_err *err)
{
    struct tm t = {0};
    *now = time(NULL);
    if (!c->now) return SAIL_OK;
    const char *end = strptime(c->now, "%Y-%m-%dT%H:%M:%SZ", &t);
    if (!end || *end) return err_set(err, SAIL_USAGE, "--now: expected a time like 2025-07-10T12:00:00Z, got '%s'", c->now);
    *now = timegm(&t);
    return SAIL_OK;
}

static int render_line(const struct chat_template *t, const sail_config *c, const struct template_options *o, const char *line, size_t n, int64_t number, struct buf *out, sail_err *err)
{
    json_error_t why;
    json_t *row = json_loadb(line, n, JSON_ALLOW_NUL, &why);
    if (!json_is_object(row) || !json_is_array(json_object_get(row, "messages"))) {
        json_decref(row);
        return err_set(err, SAIL_FAILED, "%s:%lld: expected {\"messages\": [...]}%s%s", c->messages, (long long)number, row ? "" : ": ", row ? "" : why.text);
    }
    struct buf text;
    sail_err refused = {0};
    buf_init(&text, 0);
    if (template_render(t, row, o, &text, &refused)) {
        buf_puts(out, "{\"error\": ");
        buf_json_string(out, refused.message, strlen(refused.message));
        buf_puts(out, "}\n");
    } else {
        buf_json_string(out, text.data ? text.data : "", text.len);
        buf_putc(out, '\n');
    }
    buf_release(&text);
    json_decref(row);
    return out->failed ? err_memory(err, out->len) : SAIL_OK;
}

int job_template(const sail_config *c, sail_err *err)
{
    struct chat_template *t = NULL;
    struct template_options o = {.add_generation_prompt = c->add_generation_prompt};
    struct buf out;
    char *data = NULL;
    size_t len = 0;
    buf_init(&out, 0);
    int rc = config_require(c, OPTION_model, err);
    if (!rc) rc = config_require(c, OPTION_messages, err);
    if (!rc) rc = read_clock(c, &o.now, err);
    if (!rc) rc = template_open(&t, c->model, err);
    if (!rc) rc = file_read(c->messages, (size_t)4 << 30, &data, &len, err);
    int64_t number = 0;
    for (size_t at = 0; !rc && at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - data) - at : len - at;
        number++;
        if (n) rc = render_line(t, c, &o, data + at, n, number, &out, err);
        at += n + 1;
    }
    if (!rc && out.len) fwrite(out.data, 1, out.len, stdout);
    buf_release(&out);
    free(data);
    template_close(t);
    return rc;
}
