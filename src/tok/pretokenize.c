#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "tok/internal.h"

static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

static bool flag(json_t *spec, const char *name, bool fallback)
{
    json_t *v = json_object_get(spec, name);
    return json_is_boolean(v) ? json_is_true(v) : fallback;
}

static int read_behaviour(json_t *spec, enum split_behaviour *out, sail_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name = json_string_value(json_object_get(spec, "behavior"));
    for (int i = 0; i < 5; i++)
        if (name && !strcmp(name, names[i])) return *out = (enum split_behaviour)i, SAIL_OK;
    return err_set(err, SAIL_FAILED, "pre-tokenizer: behavior '%s' is unknown", name ? name : "?");
}

static int read_metaspace(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    const char *r = json_string_value(json_object_get(spec, "replacement")), *scheme = json_string_value(json_object_get(spec, "prepend_scheme"));
    s->replacement = mem_strdup(r ? r : "\xE2\x96\x81");
    s->split = flag(spec, "split", true);
    if (!scheme) scheme = flag(spec, "add_prefix_space", true) ? "always" : "never";
    s->prepend = !strcmp(scheme, "always") ? 2 : !strcmp(scheme, "first") ? 1 : 0;
    if (!s->prepend && strcmp(scheme, "never")) return err_set(err, SAIL_FAILED, "Metaspace: prepend_scheme '%s' is unknown", scheme);
    s->pattern.plain = mem_strdup(s->replacement);
    s->pattern.plain_len = strlen(s->replacement);
    return SAIL_OK;
}

static int read_one(struct pretokenizers *v, json_t *spec, sail_err *err)
{
    const char *type = json_string_value(json_object_get(spec, "type"));
    int rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err);
    if (rc) return rc;
    struct pretokenizer *s = &v->step[v->n++];
    *s = (struct pretokenizer){.kind = PRE_SPLIT};
    if (!type) type = "?";
    if (!strcmp(type, "ByteLevel")) {
        s->kind = PRE_BYTE_LEVEL;
        s->prefix_space = flag(spec, "add_prefix_space", true);
        s->use_regex = flag(spec, "use_regex", true);
        return pattern_regex(&s->pattern, gpt2_pattern, "ByteLevel", err);
    }
    if (!strcmp(type, "Split")) {
        s->invert = flag(spec, "invert", false);
        rc = read_behaviour(spec, &s->behaviour, err);
        return rc ? rc : pattern_read(&s->pattern, json_object_get(spec, "pattern"), "pre-tokenizer Split", err);
    }
    if (!strcmp(type, "Digits")) {
        s->kind = PRE_DIGITS;
        s->behaviour = flag(spec, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
        return SAIL_OK;
    }
    if (!strcmp(type, "Metaspace")) {
        s->kind = PRE_METASPACE;
        s->behaviour = SPLIT_NEXT;
        return read_metaspace(s, spec, err);
    }
    if (!strcmp(type, "Punctuation")) {
        s->kind = PRE_PUNCTUATION;
        return json_object_get(spec, "behavior") ? read_behaviour(spec, &s->behaviour, err) : SAIL_OK;
    }
    if (!strcmp(type, "Whitespace") || !strcmp(type, "WhitespaceSplit")) {
        const bool plain = type[10] != '\0';
        s->behaviour = SPLIT_REMOVED;
        s->invert = !plain;
        return pattern_regex(&s->pattern, plain ? "\\s+" : "\\w+|[^\\w\\s]+", type, err);
    }
    return err_set(err, SAIL_FAILED, "pre-tokenizer '%s' is not supported", type);
}

int pretokenizers_read(struct pretokenizers *v, json_t *spec, sail_err *err)
{
    if (!spec || json_is_null(spec)) return SAIL_OK;
    const char *type = json_string_value(json_object_get(spec, "type"));
    if (!type || strcmp(type, "Sequence")) return read_one(v, spec, err);
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(spec, "pretokenizers"), i, one)
    {
        int rc = pretokenizers_read(v, one, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

void pretokenizers_free(struct pretokenizers *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pattern_free(&v->step[i].pattern);
        free(v->step[i].replacement);
    }
    free(v->step);
}

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
    return buf_append(&p->text, s, n) ? SAIL_OK : err_memory(err, n);
}

/* Spans of a piece, matches and what lies between, joined as the behaviour says. */
struct spans {
    struct span_of {
        size_t start, end;
        bool match;
    } *span;
    size_t n, capacity;
};

static int add_span(struct spans *v, size_t start, size_t end, bool match, sail_err *err)
{
    if (start == end) return SAIL_OK;
    int rc = mem_grow(&v->span, v->n, &v->capacity, sizeof *v->span, err);
    if (!rc) v->span[v->n++] = (struct span_of){start, end, match};
    return rc;
}

static bool char_matches(enum pretokenizer_kind kind, uint32_t c)
{
    const utf8proc_category_t g = utf8proc_category((utf8proc_int32_t)c);
    if (kind == PRE_DIGITS) return g == UTF8PROC_CATEGORY_ND || g == UTF8PROC_CATEGORY_NL || g == UTF8PROC_CATEGORY_NO;
    const bool ascii = (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return ascii || (g >= UTF8PROC_CATEGORY_PC && g <= UTF8PROC_CATEGORY_PO);
}

static int find_spans(const struct pretokenizer *s, const char *text, size_t n, struct spans *v, sail_err *err)
{
    size_t at = 0, start, end, search = 0;
    int rc = SAIL_OK;
    v->n = 0;
    if (s->kind == PRE_DIGITS || s->kind == PRE_PUNCTUATION) {
        for (size_t i = 0; !rc && i < n;) {
            uint32_t c;
            const size_t len = utf8_get(text + i, n - i, &c);
            if (char_matches(s->kind, c)) {
                rc = add_span(v, at, i, false, err);
                if (!rc) rc = add_span(v, i, i + len, true, err);
                at = i + len;
            }
            i += len;
        }
        return rc ? rc : add_span(v, at, n, false, err);
    }
    while (!rc && search <= n && pattern_find(&s->pattern, text, n, search, &start, &end, &rc, err)) {
        if (end == start) { // nothing matched: look further on
            search = end + 1;
            while (search < n && ((unsigned char)text[search] & 0xC0) == 0x80) search++;
            continue;
        }
        rc = add_span(v, at, start, s->invert, err);
        if (!rc) rc = add_span(v, start, end, !s->invert, err);
        at = search = end;
    }
    return rc ? rc : add_span(v, at, n, s->invert, err);
}

/* The joins of tokenizers' SplitDelimiterBehavior, in place; the result is v->span[*from ..). */
static void join_spans(enum split_behaviour behaviour, struct spans *v)
{
    size_t n = 0;
    bool previous = false;
    if (behaviour == SPLIT_NEXT) {
        size_t to = v->n;
        for (size_t i = v->n; i-- > 0;) {
            struct span_of s = v->span[i];
            if (s.match && !previous && to < v->n)
                v->span[to].start = s.start;
            else
                v->span[--to] = s;
            previous = s.match;
        }
        memmove(v->span, v->span + to, (v->n - to) * sizeof *v->span);
        v->n -= to;
        return;
    }
    for (size_t i = 0; i < v->n; i++) {
        struct span_of s = v->span[i];
        const bool join = behaviour == SPLIT_CONTIGUOUS ? n && s.match == previous : behaviour == SPLIT_PREVIOUS ? s.match && !previous && n : false;
        if (behaviour == SPLIT_REMOVED && s.match) continue;
        if (join)
            v->span[n - 1].end = s.end;
        else
            v->span[n++] = s;
        previous = s.match;
    }
    v->n = n;
}

static int add_bytes(struct pieces *out, const char *s, size_t n, sail_err *err)
{
    int rc = pieces_add(out, "", 0, err);
    const size_t start = out->text.len;
    for (size_t i = 0; i < n; i++) {
        char c[4];
        buf_append(&out->text, c, utf8_put(c, byte_to_char((unsigned char)s[i])));
    }
    if (rc || out->text.failed) return rc ? rc : err_memory(err, n);
    out->piece[out->n - 1] = (struct piece){start, out->text.len - start};
    return SAIL_OK;
}

/* What is split: the piece itself, with a space or the replacement put in front where the step says so. */
static void prepare(const struct pretokenizer *s, const char *text, size_t n, bool first, struct buf *b)
{
    buf_clear(b);
    if (s->kind == PRE_BYTE_LEVEL && s->prefix_space && n && text[0] != ' ') buf_putc(b, ' ');
    if (s->kind != PRE_METASPACE) {
        buf_append(b, text, n);
        return;
    }
    const size_t r = strlen(s->replacement);
    const bool has = (n && text[0] == ' ') || (n >= r && !memcmp(text, s->replacement, r));
    if (!has && (s->prepend == 2 || (s->prepend == 1 && first))) buf_puts(b, s->replacement);
    for (size_t i = 0; i < n; i++) {
        if (text[i] == ' ')
            buf_puts(b, s->replacement);
        else
            buf_putc(b, text[i]);
    }
}

static int run_one(const struct pretokenizer *s, const struct pieces *in, bool first, struct pieces *out, struct spans *v, struct buf *b, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < in->n; i++) {
        prepare(s, in->text.data + in->piece[i].start, in->piece[i].n, first && i == 0, b);
        const bool whole = (s->kind == PRE_METASPACE && !s->split) || (s->kind == PRE_BYTE_LEVEL && !s->use_regex);
        v->n = 0;
        if (whole)
            rc = add_span(v, 0, b->len, false, err);
        else if (!(rc = find_spans(s, b->data, b->len, v, err)))
            join_spans(s->behaviour, v);
        for (size_t k = 0; !rc && k < v->n; k++) {
            const char *p = b->data + v->span[k].start;
            const size_t n = v->span[k].end - v->span[k].start;
            rc = s->kind == PRE_BYTE_LEVEL ? add_bytes(out, p, n, err) : pieces_add(out, p, n, err);
        }
    }
    return rc;
}

int pretokenizers_run(const struct pretokenizers *v, const char *s, size_t n, bool first, struct pieces *a, struct pieces *b, struct pieces **result, sail_err *err)
{
    struct spans spans = {0};
    struct buf scratch;
    buf_init(&scratch, 0);
    pieces_clear(a);
    int rc = pieces_add(a, s, n, err);
    for (size_t i = 0; !rc && i < v->n; i++) {
        pieces_clear(b);
        rc = run_one(&v->step[i], a, first, b, &spans, &scratch, err);
        struct pieces *t = a;
        a = b;
        b = t;
    }
    free(spans.span);
    buf_release(&scratch);
    *result = a;
    return rc;
}
