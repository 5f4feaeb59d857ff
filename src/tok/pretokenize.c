#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

/* ---------------------------------------------------------------- reading */

static int read_behaviour(json_t *spec, const char *fallback, enum split_behaviour *out, sail_err *err)
{
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"};
    const char *name;
    int rc = member_string(spec, "behavior", fallback, &name, "pre-tokenizer", err);
    for (int i = 0; !rc && i < 5; i++)
        if (!strcmp(name, names[i])) return *out = (enum split_behaviour)i, SAIL_OK;
    return rc ? rc : err_set(err, SAIL_FAILED, "pre-tokenizer: behavior '%.60s': expected Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext", name);
}

int prepend_scheme_read(json_t *spec, enum prepend_scheme *out, const char *what, sail_err *err)
{
    bool add;
    const char *scheme = "";
    int rc = member_bool(spec, "add_prefix_space", true, &add, what, err);
    if (!rc) rc = member_string(spec, "prepend_scheme", add ? "always" : "never", &scheme, what, err);
    if (rc) return rc;
    if (strcmp(scheme, "never") && strcmp(scheme, "first") && strcmp(scheme, "always"))
        return err_set(err, SAIL_FAILED, "%s: prepend_scheme '%.60s': expected always, first or never", what, scheme);
    *out = *scheme == 'a' ? PREPEND_ALWAYS : *scheme == 'f' ? PREPEND_FIRST : PREPEND_NEVER;
    return SAIL_OK;
}

static int read_metaspace(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    const char *r = "";
    int rc = member_string(spec, "replacement", "\xE2\x96\x81", &r, "pre-tokenizer Metaspace", err);
    if (!rc && !*r) rc = err_set(err, SAIL_FAILED, "pre-tokenizer Metaspace: replacement: expected a character");
    if (!rc) rc = member_bool(spec, "split", true, &s->split, "pre-tokenizer Metaspace", err);
    s->behaviour = SPLIT_NEXT;
    s->replacement = mem_strdup(r);
    s->pattern.plain = mem_strdup(r);
    s->pattern.plain_len = strlen(r);
    return rc ? rc : prepend_scheme_read(spec, &s->prepend, "pre-tokenizer Metaspace", err);
}

static int read_byte_level(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    s->scan = scanner_for(gpt2_pattern);
    int rc = member_bool(spec, "add_prefix_space", true, &s->prefix_space, "pre-tokenizer ByteLevel", err);
    return rc ? rc : member_bool(spec, "use_regex", true, &s->use_regex, "pre-tokenizer ByteLevel", err);
}

static int read_split(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    int rc = member_bool(spec, "invert", false, &s->invert, "pre-tokenizer Split", err);
    if (!rc) rc = read_behaviour(spec, NULL, &s->behaviour, err);
    json_t *pattern = json_object_get(spec, "pattern"), *regex = json_object_get(pattern, "Regex");
    // a known pattern matches every byte, so what is kept of matches alone is all of it
    if (json_is_string(regex) && (s->behaviour == SPLIT_ISOLATED || (s->behaviour == SPLIT_REMOVED && s->invert))) s->scan = scanner_for(json_string_value(regex));
    return rc ? rc : pattern_read(&s->pattern, pattern, "pre-tokenizer Split", err);
}

static int read_digits(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    bool individual;
    int rc = member_bool(spec, "individual_digits", false, &individual, "pre-tokenizer Digits", err);
    s->char_matches = char_is_numeric;
    s->behaviour = individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return rc;
}

static int read_punctuation(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    s->char_matches = char_is_punctuation;
    return read_behaviour(spec, "Isolated", &s->behaviour, err);
}

static int read_spaces(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    (void)spec, (void)err;
    s->char_matches = char_is_space;
    s->behaviour = SPLIT_REMOVED;
    return SAIL_OK;
}

static int read_words(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    (void)s, (void)spec, (void)err;
    return SAIL_OK;
}

static int read_delimiter(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    const char *c = "";
    int rc = member_string(spec, "delimiter", NULL, &c, "pre-tokenizer CharDelimiterSplit", err);
    if (!rc && (!*c || utf8_next(c, strlen(c), 0) != strlen(c))) rc = err_set(err, SAIL_FAILED, "pre-tokenizer CharDelimiterSplit: delimiter '%.20s': expected one character", c);
    s->behaviour = SPLIT_REMOVED;
    s->pattern.plain = mem_strdup(c);
    s->pattern.plain_len = strlen(c);
    return rc;
}

static int read_fixed(struct pretokenizer *s, json_t *spec, sail_err *err)
{
    int rc = member_count(spec, "length", 5, &s->length, "pre-tokenizer FixedLength", err);
    return rc || s->length > 0 ? rc : err_set(err, SAIL_FAILED, "pre-tokenizer FixedLength: length: expected at least 1");
}

static const struct {
    const char *name;
    enum pretokenizer_kind kind;
    int (*read)(struct pretokenizer *, json_t *, sail_err *);
} kinds[] = {
    {"ByteLevel", PRE_BYTE_LEVEL, read_byte_level}, {"Split", PRE_SPLIT, read_split},        {"Digits", PRE_CHARS, read_digits},
    {"Metaspace", PRE_METASPACE, read_metaspace},   {"Punctuation", PRE_CHARS, read_punctuation}, {"WhitespaceSplit", PRE_CHARS, read_spaces},
    {"Whitespace", PRE_WORDS, read_words},          {"CharDelimiterSplit", PRE_SPLIT, read_delimiter}, {"FixedLength", PRE_FIXED, read_fixed},
};

static int read_one(struct pretokenizers *v, const char *type, json_t *spec, sail_err *err)
{
    int rc = mem_grow(&v->step, v->n, &v->capacity, sizeof *v->step, err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].name)) continue;
        v->step[v->n] = (struct pretokenizer){.kind = kinds[i].kind};
        return kinds[i].read(&v->step[v->n++], spec, err);
    }
    return err_set(err, SAIL_FAILED, "pre-tokenizer '%.60s' is not supported", type);
}

int pretokenizers_read(struct pretokenizers *v, json_t *spec, sail_err *err)
{
    if (!spec || json_is_null(spec)) return SAIL_OK;
    const char *type;
    json_t *list, *one;
    size_t i;
    int rc = member_type(spec, "pretokenizers", &type, &list, "pre-tokenizer", err);
    json_array_foreach(list, i, one) if (!rc) rc = pretokenizers_read(v, one, err);
    if (rc || list) return rc;
    if (strcmp(type, "BertPreTokenizer")) return read_one(v, type, spec, err);
    json_t *isolated = json_object(); // blanks removed, then every punctuation mark by itself
    rc = read_one(v, "WhitespaceSplit", isolated, err);
    if (!rc) rc = read_one(v, "Punctuation", isolated, err);
    json_decref(isolated);
    return rc;
}

void pretokenizers_free(struct pretokenizers *v)
{
    for (size_t i = 0; i < v->n; i++) {
        pattern_free(&v->step[i].pattern);
        free(v->step[i].replacement);
    }
    free(v->step);
}

void words_release(struct words *w)
{
    for (int k = 0; k < 2; k++) {
        free(w->list[k].piece);
        buf_release(&w->buffer[k]);
    }
    free(w->spans.span);
}

/* ---------------------------------------------------------------- spans of a piece: matches and what lies between */

static int add_span(struct span_list *v, size_t start, size_t end, bool match, sail_err *err)
{
    int rc = mem_grow(&v->span, v->n, &v->capacity, sizeof *v->span, err);
    if (!rc) v->span[v->n++] = (struct span_of){start, end, match};
    return rc;
}

static int add_gap(struct span_list *v, size_t start, size_t end, bool match, sail_err *err) { return start < end ? add_span(v, start, end, match, err) : SAIL_OK; }

static int char_spans(const struct pretokenizer *s, const char *text, size_t n, struct span_list *v, sail_err *err)
{
    size_t at = 0;
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n;) {
        uint32_t c;
        const size_t len = utf8_get(text + i, n - i, &c);
        if (s->char_matches(c)) {
            rc = add_gap(v, at, i, false, err);
            if (!rc) rc = add_span(v, i, i + len, true, err);
            at = i + len;
        }
        i += len;
    }
    return rc ? rc : add_gap(v, at, n, false, err);
}

/* \w+|[^\w\s]+ kept, blanks dropped. */
static int word_spans(const char *text, size_t n, struct span_list *v, sail_err *err)
{
    int rc = SAIL_OK, before = 0; // 1: of a word, 2: of anything else
    size_t start = 0;
    for (size_t i = 0; !rc && i < n;) {
        uint32_t c;
        const size_t len = utf8_get(text + i, n - i, &c);
        const int kind = char_is_word(c) ? 1 : char_is_space(c) ? 0 : 2;
        if (kind != before) {
            if (before) rc = add_span(v, start, i, false, err);
            start = i;
        }
        before = kind;
        i += len;
    }
    return !rc && before ? add_span(v, start, n, false, err) : rc;
}

static int fixed_spans(int64_t length, const char *text, size_t n, struct span_list *v, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0, start = 0; !rc && i < n; start = i) {
        for (int64_t k = 0; k < length && i < n; k++) i = utf8_next(text, n, i);
        rc = add_span(v, start, i, false, err);
    }
    return rc;
}

static int find_spans(const struct pretokenizer *s, const char *text, size_t n, struct span_list *v, sail_err *err)
{
    if (s->kind == PRE_CHARS) return char_spans(s, text, n, v, err);
    if (s->kind == PRE_WORDS) return word_spans(text, n, v, err);
    if (s->kind == PRE_FIXED) return fixed_spans(s->length, text, n, v, err);
    struct pattern_search at = {0};
    size_t done = 0;
    int rc = SAIL_OK;
    while (!rc && pattern_next(&s->pattern, text, n, &at, &rc, err)) {
        rc = add_gap(v, done, at.start, s->invert, err);
        if (!rc) rc = add_span(v, at.start, at.end, !s->invert, err);
        done = at.end;
    }
    return rc ? rc : add_gap(v, done, n, s->invert, err);
}

static void join_next(struct span_list *v)
{
    bool previous = false;
    size_t to = v->n;
    for (size_t i = v->n; i-- > 0;) {
        const struct span_of s = v->span[i];
        if (s.match && !previous && to < v->n)
            v->span[to].start = s.start;
        else
            v->span[--to] = s;
        previous = s.match;
    }
    if (v->n) memmove(v->span, v->span + to, (v->n - to) * sizeof *v->span);
    v->n -= to;
}

/* The joins of tokenizers' SplitDelimiterBehavior, in place. */
static void join_spans(enum split_behaviour behaviour, struct span_list *v)
{
    if (behaviour == SPLIT_ISOLATED) return;
    if (behaviour == SPLIT_NEXT) {
        join_next(v);
        return;
    }
    size_t n = 0;
    bool previous = false;
    for (size_t i = 0; i < v->n; i++) {
        const struct span_of s = v->span[i];
        const bool join = behaviour == SPLIT_CONTIGUOUS ? n && s.match == previous : behaviour == SPLIT_PREVIOUS && s.match && !previous && n;
        if (behaviour == SPLIT_REMOVED && s.match) continue;
        if (join)
            v->span[n - 1].end = s.end;
        else
            v->span[n++] = s;
        previous = s.match;
    }
    v->n = n;
}

/* ---------------------------------------------------------------- steps over all pieces */

static int add_piece(struct piece_list *v, size_t start, size_t n, sail_err *err)
{
    if (!n) return SAIL_OK;
    int rc = mem_grow(&v->piece, v->n, &v->capacity, sizeof *v->piece, err);
    if (!rc) v->piece[v->n++] = (struct piece){start, n};
    return rc;
}

static int cut(const struct pretokenizer *s, struct words *w, struct piece_list *to, sail_err *err)
{
    int rc = SAIL_OK;
    to->n = 0;
    for (size_t i = 0; !rc && i < w->n; i++) {
        const char *text = w->text + w->piece[i].start;
        const size_t base = w->piece[i].start, n = w->piece[i].n;
        for (size_t at = 0; s->scan && !rc && at < n;) {
            const size_t end = s->scan(text, n, at);
            rc = add_piece(to, base + at, end - at, err);
            at = end;
        }
        if (s->scan) continue;
        w->spans.n = 0;
        if ((rc = find_spans(s, text, n, &w->spans, err))) break;
        join_spans(s->behaviour, &w->spans);
        for (size_t k = 0; !rc && k < w->spans.n; k++) rc = add_piece(to, base + w->spans.span[k].start, w->spans.span[k].end - w->spans.span[k].start, err);
    }
    return rc;
}

/* A piece as the step wants it before the cut: with the prefix, blanks replaced. */
static void put_metaspace(const struct pretokenizer *s, const char *text, size_t n, bool first, struct buf *out)
{
    const size_t r = strlen(s->replacement);
    const bool has = text[0] == ' ' || (n >= r && !memcmp(text, s->replacement, r));
    if (!has && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first))) buf_append(out, s->replacement, r);
    for (size_t at = 0; at < n;) {
        const char *space = memchr(text + at, ' ', n - at);
        const size_t to = space ? (size_t)(space - text) : n;
        buf_append(out, text + at, to - at);
        if (space) buf_append(out, s->replacement, r);
        at = to + (space != NULL);
    }
}

static void put_alphabet(const char *text, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        char c[4];
        buf_append(out, c, utf8_put(c, byte_to_char((unsigned char)text[i])));
    }
}

/* Pieces written anew into the free buffer. */
enum rewrite { REWRITE_METASPACE, REWRITE_PREFIX, REWRITE_ALPHABET };
static int rewrite(const struct pretokenizer *s, enum rewrite how, struct words *w, sail_err *err)
{
    struct buf *out = &w->buffer[w->text == w->buffer[0].data];
    const size_t old_head = w->head;
    buf_clear(out);
    out->max = w->most;
    for (size_t i = 0; i < w->n; i++) {
        struct piece *p = &w->piece[i];
        const char *text = w->text + p->start;
        const size_t start = out->len;
        if (how == REWRITE_METASPACE) put_metaspace(s, text, p->n, p->start < old_head, out);
        if (how == REWRITE_PREFIX && text[0] != ' ') buf_putc(out, ' ');
        if (how == REWRITE_PREFIX) buf_append(out, text, p->n);
        if (how == REWRITE_ALPHABET) put_alphabet(text, p->n, out);
        if (p->start < old_head) w->head = out->len - start < p->n ? out->len : start + 1 + (out->len - start - p->n);
        *p = (struct piece){start, out->len - start};
    }
    w->text = out->data ? out->data : "";
    return out->failed ? err_set(err, SAIL_FAILED, "pre-tokenizer: more than %zu bytes of a text", w->most) : SAIL_OK;
}

static int run_one(const struct pretokenizer *s, bool last, struct words *w, sail_err *err)
{
    int rc = SAIL_OK;
    if (s->kind == PRE_METASPACE) rc = rewrite(s, REWRITE_METASPACE, w, err);
    if (s->kind == PRE_BYTE_LEVEL && s->prefix_space) rc = rewrite(s, REWRITE_PREFIX, w, err);
    if (!rc && !((s->kind == PRE_METASPACE && !s->split) || (s->kind == PRE_BYTE_LEVEL && !s->use_regex))) {
        struct piece_list *to = &w->list[w->piece == w->list[0].piece];
        rc = cut(s, w, to, err);
        w->piece = to->piece;
        w->n = to->n;
    }
    if (rc || s->kind != PRE_BYTE_LEVEL) return rc;
    w->as_bytes = last;
    return last ? SAIL_OK : rewrite(s, REWRITE_ALPHABET, w, err);
}

int pretokenizers_run(const struct pretokenizers *v, const char *s, size_t n, size_t head, struct words *w, sail_err *err)
{
    w->list[0].n = 0;
    int rc = add_piece(&w->list[0], 0, n, err);
    w->text = s;
    w->piece = w->list[0].piece;
    w->n = w->list[0].n;
    w->head = head;
    w->most = MOST_OF(n);
    w->as_bytes = false;
    for (size_t i = 0; !rc && i < v->n && w->n; i++) rc = run_one(&v->step[i], i + 1 == v->n, w, err);
    return rc;
}
