/* Added tokens: found whole in the text before (or, normalized ones, after) normalization. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tok/internal.h"

static int read_one(struct added *a, json_t *j, size_t i, const struct normalizers *normalizers, const struct vocab *vocab, sail_err *err)
{
    char what[48];
    snprintf(what, sizeof what, "tokenizer: added_tokens[%zu]", i);
    json_t *content = json_object_get(j, "content"), *id = json_object_get(j, "id");
    if (!json_is_string(content) || !json_is_integer(id)) return err_set(err, SAIL_FAILED, "%s: expected content (a string) and id (a number)", what);
    if (json_integer_value(id) < 0 || json_integer_value(id) > 1 << 24) return err_set(err, SAIL_FAILED, "%s: '%.60s': the id is out of range", what, json_string_value(content));
    const int32_t known = vocab_get(vocab, json_string_value(content), json_string_length(content)); // the model's id wins
    a->id = known >= 0 ? known : (int32_t)json_integer_value(id);
    a->content = mem_strdup(json_string_value(content));
    bool as_is; // a SentencePiece model's: the content is what normalized text has
    int rc = member_bool(j, "as_is", false, &as_is, what, err);
    if (!rc) rc = member_bool(j, "special", false, &a->special, what, err);
    if (!rc) rc = member_bool(j, "normalized", !a->special, &a->normalized, what, err);
    if (!rc) rc = member_bool(j, "lstrip", false, &a->lstrip, what, err);
    if (!rc) rc = member_bool(j, "rstrip", false, &a->rstrip, what, err);
    if (!rc) rc = member_bool(j, "single_word", false, &a->single_word, what, err);
    struct normal seen = {0};
    if (!rc && a->normalized && !as_is) rc = normalizers_run(normalizers, a->content, strlen(a->content), &seen, NULL, err);
    a->text = mem_strdup(a->normalized && !as_is && !rc ? (seen.text.data ? seen.text.data : "") : a->content);
    a->len = strlen(a->text);
    normal_release(&seen);
    return rc;
}

static int longest_first(const void *x, const void *y)
{
    const struct added *a = *(const struct added *const *)x, *b = *(const struct added *const *)y;
    const int first = (int)(unsigned char)a->text[0] - (int)(unsigned char)b->text[0];
    if (first) return first;
    return a->len != b->len ? (a->len > b->len ? -1 : 1) : a < b ? -1 : a > b;
}

static int make_index(struct added_tokens *v, bool normalized, sail_err *err)
{
    struct added_index *x = &v->index[normalized];
    uint32_t n = 0;
    int rc = mem_alloc(&x->order, v->n, sizeof *x->order, err);
    if (rc) return rc;
    for (size_t i = 0; i < v->n; i++)
        if (v->token[i].normalized == normalized && v->token[i].len) x->order[n++] = &v->token[i];
    qsort(x->order, n, sizeof *x->order, longest_first);
    uint32_t at = 0;
    for (unsigned b = 0; b < 256; b++) {
        x->first[b] = at;
        while (at < n && (unsigned char)x->order[at]->text[0] == b) at++;
    }
    x->first[256] = n;
    return SAIL_OK;
}

int added_read(struct added_tokens *v, json_t *list, const struct normalizers *normalizers, const struct vocab *vocab, sail_err *err)
{
    if (list && !json_is_null(list) && !json_is_array(list)) return err_set(err, SAIL_FAILED, "tokenizer: added_tokens: expected an array");
    size_t i;
    json_t *j;
    int rc = SAIL_OK;
    json_array_foreach(list, i, j)
    {
        if (json_is_string(json_object_get(j, "content")) && !json_string_length(json_object_get(j, "content"))) continue;
        if (!rc) rc = mem_grow(&v->token, v->n, &v->capacity, sizeof *v->token, err);
        if (rc) break;
        v->token[v->n] = (struct added){0};
        rc = read_one(&v->token[v->n++], j, i, normalizers, vocab, err);
    }
    if (!rc) rc = make_index(v, false, err);
    return rc ? rc : make_index(v, true, err);
}

void added_free(struct added_tokens *v)
{
    for (size_t i = 0; i < v->n; i++) {
        free(v->token[i].text);
        free(v->token[i].content);
    }
    free(v->token);
    free(v->index[0].order);
    free(v->index[1].order);
}

static bool inside_word(const char *s, size_t n, size_t start, size_t end)
{
    uint32_t c;
    if (start && (utf8_before(s, start, &c), char_is_word(c))) return true;
    return end < n && (utf8_get(s + end, n - end, &c), char_is_word(c));
}

const struct added *added_next(const struct added_tokens *v, bool normalized, const char *s, size_t n, size_t from, size_t *search, size_t *start, size_t *end)
{
    const struct added_index *x = &v->index[normalized];
    if (!x->first[256]) return NULL;
    for (size_t i = *search; i < n; i++) {
        const unsigned char b = (unsigned char)s[i];
        for (uint32_t k = x->first[b]; k < x->first[b + 1]; k++) {
            const struct added *a = x->order[k];
            if (a->len > n - i || memcmp(a->text, s + i, a->len)) continue;
            *start = i;
            *end = *search = i + a->len;
            if (a->single_word && inside_word(s, n, *start, *end)) { // the match is used up, no shorter one is tried
                i = *end - 1;
                break;
            }
            uint32_t c;
            size_t len;
            while (a->lstrip && *start > from && (len = utf8_before(s, *start, &c), char_is_space(c))) *start -= len;
            while (a->rstrip && *end < n && (len = utf8_get(s + *end, n - *end, &c), char_is_space(c))) *end += len;
            if (a->lstrip && *start < from) *start = from;
            if (*start < *end) return a;
            i = *search - 1; // the one before has swallowed it
            break;
        }
    }
    return NULL;
}
