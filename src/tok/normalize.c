#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "tok/internal.h"

static int read_one(struct normalizers *v, json_t *spec, sail_err *err)
{
    static const struct {
        const char *name;
        enum normalizer_kind kind;
    } kinds[] = {{"NFC", NORM_NFC},         {"NFD", NORM_NFD},         {"NFKC", NORM_NFKC},   {"NFKD", NORM_NFKD},  {"Lowercase", NORM_LOWERCASE},
                 {"Replace", NORM_REPLACE}, {"Prepend", NORM_PREPEND}, {"Strip", NORM_STRIP}, {"StripAccents", NORM_STRIP_ACCENTS}};
    const char *type = json_string_value(json_object_get(spec, "type"));
    int rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err);
    for (size_t i = 0; !rc && type && i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].name)) continue;
        struct normalizer *s = &v->step[v->n++];
        *s = (struct normalizer){.kind = kinds[i].kind, .left = !json_is_false(json_object_get(spec, "strip_left")), .right = !json_is_false(json_object_get(spec, "strip_right"))};
        const char *content = json_string_value(json_object_get(spec, s->kind == NORM_PREPEND ? "prepend" : "content"));
        s->content = mem_strdup(content ? content : "");
        return s->kind == NORM_REPLACE ? pattern_read(&s->pattern, json_object_get(spec, "pattern"), "normalizer Replace", err) : SAIL_OK;
    }
    return rc ? rc : err_set(err, SAIL_FAILED, "normalizer '%s' is not supported", type ? type : "?");
}

int normalizers_read(struct normalizers *v, json_t *spec, sail_err *err)
{
    if (!spec || json_is_null(spec)) return SAIL_OK;
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type || strcmp(type, "Sequence")) return read_one(v, spec, err);
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(spec, "normalizers"), i, one)
    {
        int rc = normalizers_read(v, one, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

void normalizers_free(struct normalizers *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pattern_free(&v->step[i].pattern);
        free(v->step[i].content);
    }
    free(v->step);
}

static int map(const struct buf *in, int options, struct buf *out, sail_err *err)
{
    utf8proc_uint8_t *p = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)in->data, (utf8proc_ssize_t)in->len, &p, (utf8proc_option_t)options);
    if (n < 0) return err_set(err, SAIL_FAILED, "normalizer: %s", utf8proc_errmsg(n));
    buf_append(out, p, (size_t)n);
    free(p);
    return SAIL_OK;
}

static void each_char(const struct buf *in, struct buf *out, bool lower)
{
    for (size_t i = 0; i < in->len;) {
        uint32_t c;
        char piece[4];
        i += utf8_get(in->data + i, in->len - i, &c);
        if (lower) {
            if (c == 0x130) { // the one character whose lower case is two
                buf_puts(out, "i\xCC\x87");
                continue;
            }
            c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        } else if (utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN) {
            continue; // an accent
        }
        buf_append(out, piece, utf8_put(piece, c));
    }
}

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

static void strip(const struct normalizer *s, const struct buf *in, struct buf *out)
{
    size_t from = 0, to = in->len, n;
    uint32_t c;
    while (s->left && from < to && (n = utf8_get(in->data + from, to - from, &c), is_space(c))) from += n;
    while (s->right && to > from) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)in->data[at] & 0xC0) == 0x80) at--;
        utf8_get(in->data + at, to - at, &c);
        if (!is_space(c)) break;
        to = at;
    }
    buf_append(out, in->data + from, to - from);
}

static int replace(const struct normalizer *s, const struct buf *in, struct buf *out, sail_err *err)
{
    size_t at = 0, start, end;
    int rc = SAIL_OK;
    while (at < in->len && pattern_find(&s->pattern, in->data, in->len, at, &start, &end, &rc, err)) {
        buf_append(out, in->data + at, start - at);
        if (end == start) { // an empty match moves on by one byte
            buf_append(out, in->data + start, 1);
            end++;
        } else {
            buf_puts(out, s->content);
        }
        at = end;
    }
    if (!rc && at < in->len) buf_append(out, in->data + at, in->len - at);
    return rc;
}

static int run_one(const struct normalizer *s, const struct buf *in, struct buf *out, sail_err *err)
{
    switch (s->kind) {
    case NORM_NFC: return map(in, UTF8PROC_STABLE | UTF8PROC_COMPOSE, out, err);
    case NORM_NFD: return map(in, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, out, err);
    case NORM_NFKC: return map(in, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out, err);
    case NORM_NFKD: return map(in, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out, err);
    case NORM_LOWERCASE: each_char(in, out, true); return SAIL_OK;
    case NORM_STRIP_ACCENTS: each_char(in, out, false); return SAIL_OK;
    case NORM_STRIP: strip(s, in, out); return SAIL_OK;
    case NORM_REPLACE: return replace(s, in, out, err);
    case NORM_PREPEND:
        if (in->len) buf_puts(out, s->content);
        buf_append(out, in->data, in->len);
        return SAIL_OK;
    }
    return SAIL_OK;
}

int normalizers_run(const struct normalizers *v, const char *s, size_t n, struct buf *out, sail_err *err)
{
    struct buf a;
    buf_init(&a, 0);
    buf_clear(out);
    buf_append(out, s, n);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < v->n && out->len; i++) {
        struct buf t = a;
        a = *out;
        *out = t;
        buf_clear(out);
        rc = run_one(&v->step[i], &a, out, err);
    }
    if (!rc && out->failed) rc = err_memory(err, n);
    buf_release(&a);
    return rc;
}
