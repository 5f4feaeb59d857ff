#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "tok/internal.h"

static int read_bert(struct normalizer *s, json_t *spec, sail_err *err)
{
    static const char what[] = "normalizer BertNormalizer";
    int rc = member_bool(spec, "clean_text", true, &s->clean, what, err);
    if (!rc) rc = member_bool(spec, "handle_chinese_chars", true, &s->chinese, what, err);
    if (!rc) rc = member_bool(spec, "lowercase", true, &s->lowercase, what, err);
    return rc ? rc : member_bool(spec, "strip_accents", s->lowercase, &s->strip_accents, what, err);
}

static int read_details(struct normalizer *s, json_t *spec, sail_err *err)
{
    const char *content = "";
    int rc = SAIL_OK;
    switch (s->kind) {
    case NORM_BERT: return read_bert(s, spec, err);
    case NORM_STRIP:
        rc = member_bool(spec, "strip_left", true, &s->left, "normalizer Strip", err);
        return rc ? rc : member_bool(spec, "strip_right", true, &s->right, "normalizer Strip", err);
    case NORM_PRECOMPILED:
        rc = member_string(spec, "precompiled_charsmap", NULL, &content, "normalizer Precompiled", err);
        if (!rc) rc = member_bool(spec, "longest", false, &s->charsmap.longest, "normalizer Precompiled", err); // a SentencePiece model's
        return rc ? rc : charsmap_read(&s->charsmap, content, err);
    case NORM_PREPEND:
        rc = member_string(spec, "prepend", NULL, &content, "normalizer Prepend", err);
        break;
    case NORM_REPLACE:
        rc = member_string(spec, "content", NULL, &content, "normalizer Replace", err);
        if (!rc) rc = pattern_read(&s->pattern, json_object_get(spec, "pattern"), "normalizer Replace", err);
        break;
    default: return SAIL_OK;
    }
    s->content = mem_strdup(content);
    return rc;
}

int normalizers_read(struct normalizers *v, json_t *spec, sail_err *err)
{
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Replace", "Prepend", "Strip", "StripAccents", "Nmt", "BertNormalizer", "Precompiled", "ByteLevel"};
    if (!spec || json_is_null(spec)) return SAIL_OK;
    const char *type;
    json_t *list, *one;
    int rc = member_type(spec, "normalizers", &type, &list, "normalizer", err);
    size_t i;
    json_array_foreach(list, i, one) if (!rc) rc = normalizers_read(v, one, err);
    if (rc || list) return rc;
    if ((rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err))) return rc;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(type, names[i])) continue;
        v->step[v->n] = (struct normalizer){.kind = (enum normalizer_kind)i};
        return read_details(&v->step[v->n++], spec, err);
    }
    return err_set(err, SAIL_FAILED, "normalizer '%.60s' is not supported", type);
}

void normalizers_free(struct normalizers *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pattern_free(&v->step[i].pattern);
        charsmap_free(&v->step[i].charsmap);
        free(v->step[i].content);
    }
    free(v->step);
}

/* Steps that look at one character at a time append what becomes of it. */
static void put_lower(uint32_t c, struct buf *out)
{
    char piece[4];
    if (c == 0x130) // the one character whose lower case is two
        buf_puts(out, "i\xCC\x87");
    else
        buf_append(out, piece, utf8_put(piece, char_lower(c)));
}

static void put_nmt(uint32_t c, struct buf *out)
{
    char piece[4];
    const bool gone = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    if (!gone) buf_append(out, piece, utf8_put(piece, space ? ' ' : c));
}

static void put_clean(uint32_t c, struct buf *out)
{
    char piece[4];
    if (c && c != 0xFFFD && !char_is_control(c)) buf_append(out, piece, utf8_put(piece, char_is_space(c) ? ' ' : c));
}

static void put_chinese(uint32_t c, struct buf *out)
{
    char piece[4];
    const bool apart = char_is_chinese(c);
    if (apart) buf_putc(out, ' ');
    buf_append(out, piece, utf8_put(piece, c));
    if (apart) buf_putc(out, ' ');
}

static void put_unmarked(uint32_t c, struct buf *out)
{
    char piece[4];
    if (!char_is_mark(c)) buf_append(out, piece, utf8_put(piece, c));
}

static void put_unaccented(uint32_t c, struct buf *out)
{
    char piece[4];
    if (!char_is_accent(c)) buf_append(out, piece, utf8_put(piece, c));
}

static void each_char(const struct buf *in, void (*put)(uint32_t, struct buf *), struct buf *out)
{
    for (size_t i = 0; i < in->len;) {
        uint32_t c;
        i += utf8_get(in->data + i, in->len - i, &c);
        put(c, out);
    }
}

static void each_byte(const struct buf *in, struct buf *out)
{
    for (size_t i = 0; i < in->len; i++) {
        char piece[4];
        buf_append(out, piece, utf8_put(piece, byte_to_char((unsigned char)in->data[i])));
    }
}

static size_t strip(const struct normalizer *s, const struct buf *in, struct buf *out)
{
    size_t from = 0, to = in->len, n;
    uint32_t c;
    while (s->left && from < to && (n = utf8_get(in->data + from, to - from, &c), char_is_space(c))) from += n;
    while (s->right && to > from && (n = utf8_before(in->data, to, &c), char_is_space(c))) to -= n;
    buf_append(out, in->data + from, to - from);
    return from;
}

static int bert(const struct normalizer *s, const struct buf *in, struct buf *out, sail_err *err)
{
    struct buf a, b;
    buf_init(&a, out->max);
    buf_init(&b, out->max);
    int rc = SAIL_OK;
    buf_append(&a, in->data, in->len);
    void (*const puts[4])(uint32_t, struct buf *) = {s->clean ? put_clean : NULL, s->chinese ? put_chinese : NULL, s->strip_accents ? put_unaccented : NULL, s->lowercase ? put_lower : NULL};
    for (int k = 0; !rc && k < 4; k++) {
        if (!puts[k]) continue;
        struct buf t;
        if (k == 2) {
            buf_clear(&b);
            rc = a.len ? compose_text(a.data, a.len, UTF8PROC_DECOMPOSE, &b, err) : SAIL_OK;
            t = a, a = b, b = t;
        }
        buf_clear(&b);
        each_char(&a, puts[k], &b);
        t = a, a = b, b = t;
    }
    if (!rc) buf_append(out, a.data, a.len);
    if (!rc && (a.failed || b.failed)) rc = err_memory(err, in->len);
    buf_release(&a);
    buf_release(&b);
    return rc;
}

static int run_one(const struct normalizer *s, const struct buf *in, struct buf *out, sail_err *err)
{
    switch (s->kind) {
    case NORM_NFC: return compose_text(in->data, in->len, UTF8PROC_COMPOSE, out, err);
    case NORM_NFD: return compose_text(in->data, in->len, UTF8PROC_DECOMPOSE, out, err);
    case NORM_NFKC: return compose_text(in->data, in->len, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out, err);
    case NORM_NFKD: return compose_text(in->data, in->len, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out, err);
    case NORM_LOWERCASE: each_char(in, put_lower, out); return SAIL_OK;
    case NORM_STRIP_ACCENTS: each_char(in, put_unmarked, out); return SAIL_OK;
    case NORM_NMT: each_char(in, put_nmt, out); return SAIL_OK;
    case NORM_BYTE_LEVEL: each_byte(in, out); return SAIL_OK;
    case NORM_STRIP: strip(s, in, out); return SAIL_OK;
    case NORM_REPLACE: return pattern_replace(&s->pattern, in->data, in->len, s->content, out, err);
    case NORM_BERT: return bert(s, in, out, err);
    case NORM_PRECOMPILED: charsmap_run(&s->charsmap, in->data, in->len, out); return SAIL_OK;
    case NORM_PREPEND:
        buf_puts(out, s->content);
        buf_append(out, in->data, in->len);
        return SAIL_OK;
    }
    return SAIL_OK;
}

/* How much of a step's output stands for the text's first character. */
static int follow_head(const struct normalizer *s, const struct buf *in, struct buf *made, size_t *head, sail_err *err)
{
    const struct buf first = {.data = in->data, .len = *head};
    if (!*head) return SAIL_OK;
    buf_clear(made);
    made->max = in->max;
    if (s->kind == NORM_STRIP) {
        if (strip(s, in, made) >= *head) *head = 0; // the first character is gone
        return SAIL_OK;
    }
    const int rc = run_one(s, &first, made, err);
    *head = made->len;
    return rc;
}

void normal_release(struct normal *w)
{
    buf_release(&w->text);
    buf_release(&w->before);
    buf_release(&w->first);
}

int normalizers_run(const struct normalizers *v, const char *s, size_t n, struct normal *w, size_t *head, sail_err *err)
{
    struct buf *in = &w->before, *out = &w->text;
    buf_clear(in);
    buf_clear(out);
    in->max = out->max = MOST_OF(n);
    buf_append(out, s, n);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < v->n && out->len; i++) {
        const struct buf t = *in;
        *in = *out;
        *out = t;
        buf_clear(out);
        if (head && *head > in->len) *head = in->len;
        const bool was = head && *head;
        if (head) rc = follow_head(&v->step[i], in, &w->first, head, err);
        if (!rc) rc = run_one(&v->step[i], in, out, err);
        // a character map that takes the first character away gives its place to the next one
        if (head && was && !*head && v->step[i].kind == NORM_PRECOMPILED && out->len) *head = utf8_next(out->data, out->len, 0);
    }
    if (!rc && (out->failed || in->failed)) rc = err_set(err, SAIL_FAILED, "tokenizer: the normalizers make more than %zu bytes of a text of %zu", in->max, n);
    return rc;
}
