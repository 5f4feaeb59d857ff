/* Where tokens lie in the text that they came from: each is found again at the end of the one before it, in the text as it is or, where that
 * fails, in what the normalizers make of its characters one by one. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

static const char blank_mark[] = "\xE2\x96\x81"; // stands for a blank in SentencePiece's vocabularies

enum { LONGEST_UNKNOWN = 256 };

struct walk {
    const struct tokenizer *t;
    bool byte_level;
    const char *prefix, *suffix; /* marks of a piece inside a word, at the end of a word; NULL: none */
    const char *text;
    size_t len;
    const int32_t *id;
    size_t n;
};

static bool is_byte_level(const struct tokenizer *t)
{
    for (size_t i = 0; i < t->pretokenizers.n; i++)
        if (t->pretokenizers.step[i].kind == PRE_BYTE_LEVEL) return true;
    for (size_t i = 0; i < t->normalizers.n; i++)
        if (t->normalizers.step[i].kind == NORM_BYTE_LEVEL) return true;
    return false;
}

static const struct token *token_of(const struct walk *w, size_t i)
{
    static const struct token outside;
    return i < w->n && w->id[i] >= 0 && w->id[i] < w->t->n_token && w->t->token[w->id[i]].known ? &w->t->token[w->id[i]] : &outside;
}

/* The text begins with the token's bytes, written in the byte-level alphabet. */
static bool match_bytes(const char *token, size_t len, const char *s, size_t n, size_t *used)
{
    size_t k = 0;
    for (size_t i = 0; i < len; k++) {
        uint32_t c;
        i += utf8_get(token + i, len - i, &c);
        if (k == n || char_to_byte(c) != (unsigned char)s[k]) return false;
    }
    return *used = k, true;
}

static bool match_text(const char *token, size_t len, const char *s, size_t n, size_t *used)
{
    const int byte = token_byte(token, len);
    size_t k = 0;
    if (byte >= 0 && n && (unsigned char)s[0] == byte) return *used = 1, true;
    for (size_t i = 0; i < len; k++) {
        if (k == n) return false;
        if (s[k] == ' ' && len - i >= 3 && !memcmp(token + i, blank_mark, 3))
            i += 3;
        else if (token[i++] != s[k])
            return false;
    }
    return *used = k, true;
}

static bool match_piece(const struct walk *w, const char *token, size_t len, size_t at, size_t *used)
{
    return (w->byte_level ? match_bytes : match_text)(token, len, w->text + at, w->len - at, used);
}

/* The token as it is; without the marks of its place in a word; without a blank in front that the text has not (tokenizers put one there). */
static bool match(const struct walk *w, size_t i, size_t at, size_t *used)
{
    const struct token *token = token_of(w, i);
    if (!token->known) return false;
    const char *s = token->text;
    size_t len = strlen(s);
    if (token->added) return *used = len, len && len <= w->len - at && !memcmp(s, w->text + at, len);
    if (match_piece(w, s, len, at, used)) return true;
    const size_t prefix = w->prefix ? strlen(w->prefix) : 0, suffix = w->suffix ? strlen(w->suffix) : 0;
    const bool inside = prefix && len > prefix && !memcmp(s, w->prefix, prefix), ends = suffix && len > suffix && !memcmp(s + len - suffix, w->suffix, suffix);
    s += inside ? prefix : 0;
    len -= (inside ? prefix : 0) + (ends ? suffix : 0);
    if ((inside || ends) && match_piece(w, s, len, at, used)) return true;
    char blank[4];
    const size_t n_blank = w->byte_level ? utf8_put(blank, byte_to_char(' ')) : 3;
    if (len < n_blank || memcmp(s, w->byte_level ? blank : blank_mark, n_blank)) return false;
    return match_piece(w, s + n_blank, len - n_blank, at, used);
}

static size_t blanks_at(const struct walk *w, size_t at)
{
    const size_t from = at;
    size_t len;
    uint32_t c;
    while (at < w->len && (len = utf8_get(w->text + at, w->len - at, &c), char_is_space(c))) at += len;
    return at - from;
}

/* Token *i is not what the text has at `at`: an unknown one, up to where the next is found; else all tokens up to an added one begin together. */
static size_t pass_unknown(const struct walk *w, size_t *i, size_t at)
{
    size_t used;
    const size_t last = w->len - at < LONGEST_UNKNOWN ? w->len : at + LONGEST_UNKNOWN;
    for (size_t k = utf8_next(w->text, w->len, at); *i + 1 < w->n && k < last; k = utf8_next(w->text, w->len, k))
        if (match(w, *i + 1, k, &used) && used) return ++*i, k;
    for (++*i; *i < w->n; ++*i) {
        const struct token *token = token_of(w, *i);
        const char *found = token->added && !token->added->normalized ? memmem(w->text + at, w->len - at, token->text, strlen(token->text)) : NULL;
        if (found) return (size_t)(found - w->text);
    }
    return w->len;
}

static size_t without_blanks(const struct walk *w, size_t from, size_t to)
{
    uint32_t c;
    size_t len;
    while (to > from && (len = utf8_before(w->text, to, &c)) <= to - from && char_is_space(c)) to -= len;
    return to;
}

/* False: a token was not found. */
static bool walk(const struct walk *w, struct token_extent *out)
{
    bool all = true;
    for (size_t i = 0, at = 0; i < w->n;) {
        const struct token *token = token_of(w, i);
        const size_t blanks = blanks_at(w, at);
        size_t used;
        if (match(w, i, at, &used)) {
            out[i++] = (struct token_extent){at, at + used};
            at += used;
        } else if (blanks && match(w, i, at + blanks, &used)) {
            out[i++] = (struct token_extent){at + (token->added && token->added->lstrip ? 0 : blanks), at + blanks + used};
            at += blanks + used;
        } else {
            const size_t from = i, behind = pass_unknown(w, &i, at);
            const struct token_extent all_of_it = {at, without_blanks(w, at, behind)};
            for (size_t k = from; k < i; k++) out[k] = all_of_it;
            at = behind;
            all = false;
        }
        if (token->added && token->added->rstrip) at += blanks_at(w, at);
    }
    return all;
}

/* ---------------------------------------------------------------- text that normalizers change */

struct aligned {
    struct buf text;
    struct token_extent *origin; /* (text.len) what every byte comes from */
    size_t n, capacity;
};

static int put(struct aligned *a, const char *s, size_t n, struct token_extent origin, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n; i++) {
        rc = mem_grow(&a->origin, a->n, &a->capacity, sizeof *a->origin, err);
        if (!rc) a->origin[a->n++] = origin;
    }
    return rc || buf_append(&a->text, s, n) ? rc : err_memory(err, n);
}

/* A character with the marks behind it at a time. */
static int put_normalized(struct aligned *a, const struct normalizers *v, const char *s, size_t n, size_t origin, sail_err *err)
{
    struct normal made = {0};
    int rc = SAIL_OK;
    for (size_t i = 0, end; !rc && i < n; i = end) {
        uint32_t c;
        size_t len;
        end = utf8_next(s, n, i);
        while (end < n && (len = utf8_get(s + end, n - end, &c), char_is_mark(c))) end += len;
        rc = normalizers_run(v, s + i, end - i, &made, NULL, err);
        if (!rc) rc = put(a, made.text.data, made.text.len, (struct token_extent){origin + i, origin + end}, err);
    }
    normal_release(&made);
    return rc;
}

static int align(struct aligned *a, const struct tokenizer *t, const char *s, size_t n, sail_err *err)
{
    struct normalizers v = {0}; // without what happens at the ends of a text alone
    int rc = mem_alloc(&v.step, t->normalizers.n, sizeof *v.step, err);
    for (size_t i = 0; !rc && i < t->normalizers.n; i++)
        if (t->normalizers.step[i].kind != NORM_PREPEND && t->normalizers.step[i].kind != NORM_STRIP) v.step[v.n++] = t->normalizers.step[i];
    size_t from = 0, search = 0, start, end;
    while (!rc && added_next(&t->added, false, s, n, from, &search, &start, &end)) {
        if (start < from) start = from; // the one before took the blanks that this one begins with
        if (end < start) continue;
        rc = put_normalized(a, &v, s + from, start - from, from, err);
        if (!rc) rc = put(a, s + start, end - start, (struct token_extent){start, end}, err);
        from = end;
    }
    if (!rc) rc = put_normalized(a, &v, s + from, n - from, from, err);
    free(v.step);
    return rc;
}

static struct token_extent original(const struct aligned *a, struct token_extent e, size_t len)
{
    const size_t start = e.start < a->n ? a->origin[e.start].start : len;
    return (struct token_extent){start, e.end > e.start ? a->origin[e.end - 1].end : start};
}

int tokenizer_extents(const struct tokenizer *t, const char *text, size_t len, const int32_t *id, size_t n, struct token_extent *out, sail_err *err)
{
    const struct model *m = &t->model;
    struct walk w = {.t = t, .byte_level = is_byte_level(t), .text = text, .len = len, .id = id, .n = n};
    w.prefix = m->kind == MODEL_WORDPIECE ? m->wordpiece.prefix : m->kind == MODEL_BPE ? m->bpe.subword_prefix : NULL;
    w.suffix = m->kind == MODEL_BPE ? m->bpe.word_suffix : NULL;
    if (walk(&w, out) || !t->normalizers.n) return SAIL_OK;
    struct aligned a = {0};
    buf_init(&a.text, 0);
    int rc = align(&a, t, text, len, err);
    if (!rc) {
        w.text = a.text.data ? a.text.data : "";
        w.len = a.text.len;
        walk(&w, out);
        for (size_t i = 0; i < n; i++) out[i] = original(&a, out[i], len);
    }
    buf_release(&a.text);
    free(a.origin);
    return rc;
}
