#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

void pieces_release(struct pieces *p)
{
    buf_release(&p->text);
    free(p->piece);
    *p = (struct pieces){0};
}

void pieces_clear(struct pieces *p)
{
    buf_clear(&p->text);
    p->n = 0;
}

int pieces_add(struct pieces *p, const char *s, size_t n, sail_err *err)
{
    int rc = mem_grow(&p->piece, p->n, &p->capacity, sizeof *p->piece, err);
    if (rc) return rc;
    p->piece[p->n++] = (struct piece){p->text.len, n};
    return buf_append(&p->text, s, n) ? SAIL_OK : err_set(err, SAIL_FAILED, "tokenizer: the decoders make more than %zu bytes of a text", p->text.max);
}

static int read_details(struct decoder *s, json_t *spec, const char *what, sail_err *err)
{
    const char *content = "", *delimiter = "";
    int rc = SAIL_OK;
    enum prepend_scheme scheme = PREPEND_ALWAYS;
    switch (s->kind) {
    case DEC_REPLACE:
        rc = member_string(spec, "content", NULL, &content, what, err);
        if (!rc) rc = pattern_read(&s->pattern, json_object_get(spec, "pattern"), what, err);
        break;
    case DEC_STRIP:
        rc = member_string(spec, "content", NULL, &content, what, err);
        if (!rc) rc = member_count(spec, "start", 0, &s->start, what, err);
        if (!rc) rc = member_count(spec, "stop", 0, &s->stop, what, err);
        break;
    case DEC_METASPACE:
        rc = member_string(spec, "replacement", "\xE2\x96\x81", &content, what, err);
        if (!rc) rc = prepend_scheme_read(spec, &scheme, what, err);
        s->keep_first = scheme == PREPEND_NEVER;
        break;
    case DEC_WORDPIECE:
        rc = member_string(spec, "prefix", "##", &content, what, err);
        if (!rc) rc = member_bool(spec, "cleanup", true, &s->cleanup, what, err);
        break;
    case DEC_BPE: rc = member_string(spec, "suffix", "</w>", &content, what, err); break;
    case DEC_CTC:
        rc = member_string(spec, "pad_token", "<pad>", &content, what, err);
        if (!rc) rc = member_string(spec, "word_delimiter_token", "|", &delimiter, what, err);
        if (!rc) rc = member_bool(spec, "cleanup", true, &s->cleanup, what, err);
        break;
    default: break;
    }
    s->content = mem_strdup(content);
    s->delimiter = mem_strdup(delimiter);
    return rc;
}

static int read_steps(struct decoders *v, json_t *spec, sail_err *err)
{
    static const char *const names[DEC_KIND_COUNT] = {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "WordPiece", "BPEDecoder", "CTC"};
    const char *type;
    json_t *list, *one;
    size_t i;
    int rc = member_type(spec, "decoders", &type, &list, "decoder", err);
    json_array_foreach(list, i, one) if (!rc) rc = read_steps(v, one, err);
    if (rc || list) return rc;
    if ((rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err))) return rc;
    for (i = 0; i < DEC_KIND_COUNT; i++) {
        if (strcmp(type, names[i])) continue;
        char what[32];
        snprintf(what, sizeof what, "decoder %s", type);
        v->step[v->n] = (struct decoder){.kind = (enum decoder_kind)i};
        return read_details(&v->step[v->n++], spec, what, err);
    }
    return err_set(err, SAIL_FAILED, "decoder '%.60s' is not supported", type);
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
        free(v->step[i].delimiter);
    }
    free(v->step);
}

void decoding_release(struct decoding *w)
{
    for (int i = 0; i < 2; i++) {
        pieces_release(&w->pieces[i]);
        buf_release(&w->text[i]);
    }
}

/* An empty one for at most so many bytes; 0: as buf_init. */
static struct buf *empty(struct buf *b, size_t max)
{
    buf_clear(b);
    b->max = max;
    return b;
}

static int add_text(struct pieces *out, const struct buf *b, sail_err *err) { return b->failed ? err_memory(err, b->len) : pieces_add(out, b->data ? b->data : "", b->len, err); }

/* All tokens to one string of bytes; a token with a character outside the alphabet stays as it is. */
static int byte_level(const struct pieces *in, struct decoding *w, struct pieces *out, sail_err *err)
{
    struct buf *bytes = empty(&w->text[0], 0), *text = empty(&w->text[1], 0);
    for (size_t i = 0; i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const size_t n = in->piece[i].n, before = bytes->len;
        bool all = true;
        for (size_t k = 0; all && k < n;) {
            uint32_t c;
            k += utf8_get(s + k, n - k, &c);
            const int b = char_to_byte(c);
            all = b >= 0;
            if (all) buf_putc(bytes, (char)b);
        }
        if (all) continue;
        bytes->len = before;
        buf_append(bytes, s, n);
    }
    if (bytes->len) utf8_lossy(bytes->data, bytes->len, text);
    return bytes->failed ? err_memory(err, in->text.len) : add_text(out, text, err);
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

int token_byte(const char *s, size_t n)
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

static int byte_fallback(const struct pieces *in, struct decoding *w, struct pieces *out, sail_err *err)
{
    struct buf *run = empty(&w->text[0], 0);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const int b = token_byte(s, in->piece[i].n);
        if (b >= 0) {
            buf_putc(run, (char)b);
            continue;
        }
        rc = flush_bytes(run, out, err);
        buf_clear(run);
        if (!rc) rc = pieces_add(out, s, in->piece[i].n, err);
    }
    return rc ? rc : flush_bytes(run, out, err);
}

/* s with every `what` replaced. */
static void put_replaced(const char *s, size_t n, const char *what, const char *by, struct buf *out)
{
    const size_t len = strlen(what);
    size_t at = 0;
    for (const char *found; len && (found = memmem(s + at, n - at, what, len)); at = (size_t)(found - s) + len) {
        buf_append(out, s + at, (size_t)(found - s) - at);
        buf_puts(out, by);
    }
    buf_append(out, s + at, n - at);
}

/* Blanks that English writing has not, in place; spare: room of the caller's. */
static void clean_up(struct buf *text, struct buf *spare)
{
    static const char *const changes[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes && text->len; i++) {
        put_replaced(text->data, text->len, changes[i][0], changes[i][1], empty(spare, 0));
        spare->failed = spare->failed || text->failed;
        const struct buf next = *spare;
        *spare = *text;
        *text = next;
    }
}

static int replace_in(const struct decoder *d, const char *s, size_t n, struct buf *text, struct pieces *out, sail_err *err)
{
    int rc = pattern_replace(&d->pattern, s, n, d->content, empty(text, out->text.max), err);
    return rc ? rc : add_text(out, text, err);
}

/* Pieces of a word are put together, words apart. */
static int wordpiece_in(const struct decoder *d, const char *s, size_t n, bool first, struct decoding *w, struct pieces *out, sail_err *err)
{
    const size_t prefix = strlen(d->content);
    const bool goes_on = !first && n >= prefix && !memcmp(s, d->content, prefix);
    struct buf *b = empty(&w->text[0], 0);
    if (!first && !goes_on) buf_putc(b, ' ');
    buf_append(b, s + (goes_on ? prefix : 0), n - (goes_on ? prefix : 0));
    if (d->cleanup) clean_up(b, &w->text[1]);
    return add_text(out, b, err);
}

static int suffix_in(const struct decoder *d, const char *s, size_t n, bool last, struct buf *text, struct pieces *out, sail_err *err)
{
    put_replaced(s, n, d->content, last ? "" : " ", empty(text, 0));
    return add_text(out, text, err);
}

/* Speech models say a token as long as it is heard: repetitions and pauses go. */
static int ctc(const struct decoder *d, const struct pieces *in, struct decoding *w, struct pieces *out, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const size_t n = in->piece[i].n;
        if (i && in->piece[i - 1].n == n && (!n || !memcmp(s, in->text.data + in->piece[i - 1].start, n))) continue;
        struct buf *a = empty(&w->text[0], 0), *b = &w->text[1];
        put_replaced(s, n, d->content, "", a);
        if (d->cleanup) clean_up(a, b);
        empty(b, 0);
        if (a->len) put_replaced(a->data, a->len, d->cleanup ? d->delimiter : "", " ", b);
        if (b->len || b->failed) rc = add_text(out, b, err);
    }
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

static int metaspace_in(const struct decoder *d, const char *s, size_t n, bool first, struct buf *text, struct pieces *out, sail_err *err)
{
    empty(text, 0);
    const size_t r = strlen(d->content);
    for (size_t i = 0; i < n;) {
        if (r && n - i >= r && !memcmp(s + i, d->content, r)) {
            if (!first || d->keep_first) buf_putc(text, ' ');
            i += r;
        } else {
            buf_putc(text, s[i++]);
        }
    }
    return add_text(out, text, err);
}

static int run_one(const struct decoder *d, const struct pieces *in, struct decoding *w, struct pieces *out, sail_err *err)
{
    if (d->kind == DEC_BYTE_LEVEL) return byte_level(in, w, out, err);
    if (d->kind == DEC_BYTE_FALLBACK) return byte_fallback(in, w, out, err);
    if (d->kind == DEC_FUSE) return pieces_add(out, in->text.data ? in->text.data : "", in->text.len, err);
    if (d->kind == DEC_CTC) return ctc(d, in, w, out, err);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        const char *s = in->text.data + in->piece[i].start;
        const size_t n = in->piece[i].n;
        switch (d->kind) {
        case DEC_REPLACE: rc = replace_in(d, s, n, &w->text[0], out, err); break;
        case DEC_STRIP: rc = strip_in(d, s, n, out, err); break;
        case DEC_WORDPIECE: rc = wordpiece_in(d, s, n, i == 0, w, out, err); break;
        case DEC_BPE: rc = suffix_in(d, s, n, i + 1 == in->n, &w->text[0], out, err); break;
        default: rc = metaspace_in(d, s, n, i == 0, &w->text[0], out, err);
        }
    }
    return rc;
}

int decoders_run(const struct decoders *v, struct decoding *w, struct buf *out, sail_err *err)
{
    struct pieces *a = &w->pieces[0], *b = &w->pieces[1];
    a->text.max = b->text.max = MOST_OF(a->text.len);
    for (size_t i = 0; i < v->n; i++) {
        pieces_clear(b);
        int rc = run_one(&v->step[i], a, w, b, err);
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
