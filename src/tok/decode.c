#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

static int read_one(struct decoders *v, json_t *spec, sail_err *err)
{
    static const char *const names[] = {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"};
    const char *type = json_string_value(json_object_get(spec, "type"));
    int rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err);
    for (int i = 0; !rc && type && i < 6; i++) {
        if (strcmp(type, names[i])) continue;
        struct decoder *s = &v->step[v->n++];
        *s = (struct decoder){.kind = (enum decoder_kind)i, .start = json_integer_value(json_object_get(spec, "start")), .stop = json_integer_value(json_object_get(spec, "stop"))};
        const char *content = json_string_value(json_object_get(spec, s->kind == DEC_METASPACE ? "replacement" : "content"));
        const char *scheme = json_string_value(json_object_get(spec, "prepend_scheme"));
        s->content = mem_strdup(content ? content : s->kind == DEC_METASPACE ? "\xE2\x96\x81" : "");
        s->keep_first = (scheme && !strcmp(scheme, "never")) || json_is_false(json_object_get(spec, "add_prefix_space"));
        return s->kind == DEC_REPLACE ? pattern_read(&s->pattern, json_object_get(spec, "pattern"), "decoder Replace", err) : SAIL_OK;
    }
    return rc ? rc : err_set(err, SAIL_FAILED, "decoder '%s' is not supported", type ? type : "?");
}

static int read_steps(struct decoders *v, json_t *spec, sail_err *err)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type || strcmp(type, "Sequence")) return read_one(v, spec, err);
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(spec, "decoders"), i, one)
    {
        int rc = read_steps(v, one, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

int decoders_read(struct decoders *v, json_t *spec, sail_err *err)
{
    v->none = !spec || json_is_null(spec);
    return v->none ? SAIL_OK : read_steps(v, spec, err);
}

void decoders_free(struct decoders *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pattern_free(&v->step[i].pattern);
        free(v->step[i].content);
    }
    free(v->step);
}

/* All tokens to one string of bytes; a token with a character outside the alphabet stays as it is. */
static int byte_level(const struct pieces *in, struct pieces *out, sail_err *err)
{
    struct buf bytes, text;
    buf_init(&bytes, 0);
    buf_init(&text, 0);
    for (size_t i = 0; i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const size_t n = in->piece[i].n, before = bytes.len;
        bool all = true;
        for (size_t k = 0; all && k < n;) {
            uint32_t c;
            k += utf8_get(s + k, n - k, &c);
            const int b = char_to_byte(c);
            all = b >= 0;
            if (all) buf_putc(&bytes, (char)b);
        }
        if (all) continue;
        bytes.len = before;
        buf_append(&bytes, s, n);
    }
    if (bytes.len) utf8_lossy(bytes.data, bytes.len, &text);
    int rc = bytes.failed || text.failed ? err_memory(err, in->text.len) : pieces_add(out, text.data ? text.data : "", text.len, err);
    buf_release(&bytes);
    buf_release(&text);
    return rc;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static int byte_of(const char *s, size_t n)
{
    if (n != 6 || strncmp(s, "<0x", 3) || s[5] != '>' || hex(s[3]) < 0 || hex(s[4]) < 0) return -1;
    return hex(s[3]) * 16 + hex(s[4]);
}

/* A run of <0xHH>: text when it is valid UTF-8 as a whole, else one U+FFFD for each byte. */
static int flush_bytes(const struct buf *bytes, struct pieces *out, sail_err *err)
{
    bool valid = true;
    for (size_t i = 0; valid && i < bytes->len;) {
        uint32_t c;
        const size_t n = utf8_get(bytes->data + i, bytes->len - i, &c);
        valid = c != 0xFFFD || n == 3;
        i += n;
    }
    if (valid) return bytes->len ? pieces_add(out, bytes->data, bytes->len, err) : SAIL_OK;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < bytes->len; i++) rc = pieces_add(out, "\xEF\xBF\xBD", 3, err);
    return rc;
}

static int byte_fallback(const struct pieces *in, struct pieces *out, sail_err *err)
{
    struct buf run;
    buf_init(&run, 0);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const int b = byte_of(s, in->piece[i].n);
        if (b >= 0) {
            buf_putc(&run, (char)b);
            continue;
        }
        rc = flush_bytes(&run, out, err);
        buf_clear(&run);
        if (!rc) rc = pieces_add(out, s, in->piece[i].n, err);
    }
    if (!rc) rc = flush_bytes(&run, out, err);
    buf_release(&run);
    return rc;
}

static int replace_in(const struct decoder *d, const char *s, size_t n, struct pieces *out, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    size_t at = 0, start, end;
    int rc = SAIL_OK;
    while (at < n && pattern_find(&d->pattern, s, n, at, &start, &end, &rc, err) && end > start) {
        buf_append(&b, s + at, start - at);
        buf_puts(&b, d->content);
        at = end;
    }
    buf_append(&b, s + at, n - at);
    if (!rc) rc = pieces_add(out, b.data ? b.data : "", b.len, err);
    buf_release(&b);
    return rc;
}

static int strip_in(const struct decoder *d, const char *s, size_t n, struct pieces *out, sail_err *err)
{
    const size_t c = strlen(d->content);
    for (int64_t i = 0; c && i < d->start && n >= c && !memcmp(s, d->content, c); i++) {
        s += c;
        n -= c;
    }
    for (int64_t i = 0; c && i < d->stop && n >= c && !memcmp(s + n - c, d->content, c); i++) n -= c;
    return pieces_add(out, s, n, err);
}

static int metaspace_in(const struct decoder *d, const char *s, size_t n, bool first, struct pieces *out, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    const size_t r = strlen(d->content);
    for (size_t i = 0; i < n;) {
        if (r && n - i >= r && !memcmp(s + i, d->content, r)) {
            if (!(first && i == 0 && !d->keep_first)) buf_putc(&b, ' ');
            i += r;
        } else {
            buf_putc(&b, s[i++]);
        }
    }
    int rc = pieces_add(out, b.data ? b.data : "", b.len, err);
    buf_release(&b);
    return rc;
}

static int run_one(const struct decoder *d, const struct pieces *in, struct pieces *out, sail_err *err)
{
    if (d->kind == DEC_BYTE_LEVEL) return byte_level(in, out, err);
    if (d->kind == DEC_BYTE_FALLBACK) return byte_fallback(in, out, err);
    if (d->kind == DEC_FUSE) return pieces_add(out, in->text.data ? in->text.data : "", in->text.len, err);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const size_t n = in->piece[i].n;
        rc = d->kind == DEC_REPLACE ? replace_in(d, s, n, out, err) : d->kind == DEC_STRIP ? strip_in(d, s, n, out, err) : metaspace_in(d, s, n, i == 0, out, err);
    }
    return rc;
}

int decoders_run(const struct decoders *v, struct pieces *tokens, struct pieces *spare, struct buf *out, sail_err *err)
{
    struct pieces *a = tokens, *b = spare;
    for (size_t i = 0; i < v->n; i++) {
        pieces_clear(b);
        int rc = run_one(&v->step[i], a, b, err);
        if (rc) return rc;
        struct pieces *t = a;
        a = b;
        b = t;
    }
    for (size_t i = 0; i < a->n; i++) {
        if (v->none && i) buf_putc(out, ' ');
        buf_append(out, a->text.data + a->piece[i].start, a->piece[i].n);
    }
    return out->failed ? err_memory(err, out->len) : SAIL_OK;
}
