/* Rule rewards: a weighted sum of measurements of the completion's text, from a JSON or YAML file (docs/labelers.md):
 *
 *   rules:
 *     - {kind: words, list: [happy, glad], distinct: true, max: 5}
 *     - {kind: regex, pattern: "[0-9]+", weight: -1}
 *
 * Each rule measures a number, clips it to [min, max], multiplies it by weight; the reward is the sum. */
#include <math.h>
#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "label/internal.h"
#include "label/yaml_json.h"

struct rule;
struct text { /* a completion, measured once; the buffers stay for the next one */
    const char *s;
    size_t n;
    struct buf lower;
    struct word {
        size_t start, n;
    } *word; /* runs of a-z in the lower-cased text */
    size_t n_word, word_room;
    size_t *bigram; /* (bigram_room) a table of bigrams by their words: the place of the first + 1, 0: free */
    size_t bigram_room;
};
struct rule {
    double (*measure)(const struct rule *r, const struct text *t);
    double weight, low, high, target;
    char *string;
    regex_t *regex;
    OnigRegion *region;
    json_t *list; /* object: word -> index */
    bool *seen;   /* (words of the list) in this text */
    size_t n_list;
    bool distinct, ignore_case;
};
struct rules {
    struct labeler head;
    struct rule *rule;
    size_t n;
    struct text text;
};

static double contains(const struct rule *r, const struct text *t)
{
    double n = 0;
    const char *s = r->ignore_case ? t->lower.data : t->s;
    for (const char *at = s; (at = strstr(at, r->string)); at += strlen(r->string)) n++;
    return n;
}

static double ends_with(const struct rule *r, const struct text *t)
{
    const size_t k = strlen(r->string);
    size_t n = t->n;
    while (n && strchr(" \t\r\n", t->s[n - 1])) n--;
    return n >= k && !memcmp(t->s + n - k, r->string, k);
}

static double matches(const struct rule *r, const struct text *t)
{
    OnigRegion *region = r->region;
    const OnigUChar *s = (const OnigUChar *)t->s, *end = s + t->n;
    double n = 0;
    for (const OnigUChar *at = s; at <= end;) {
        const int found = onig_search(r->regex, s, end, at, end, region, ONIG_OPTION_NONE);
        if (found < 0) break;
        n++;
        at = region->end[0] > region->beg[0] ? s + region->end[0] : s + region->end[0] + 1;
    }
    return n;
}

static double characters(const struct rule *r, const struct text *t)
{
    double n = 0;
    for (size_t i = 0; i < t->n; i++) n += ((unsigned char)t->s[i] & 0xC0) != 0x80;
    return isnan(r->target) ? n : -fabs(n - r->target);
}

static double word_count(const struct rule *r, const struct text *t) { return isnan(r->target) ? (double)t->n_word : -fabs((double)t->n_word - r->target); }

static double json_valid(const struct rule *r, const struct text *t)
{
    (void)r;
    json_t *j = json_loadb(t->s, t->n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    json_decref(j);
    return j != NULL;
}

/* Words of the list in the text: every one, or each once (distinct). */
static double listed_words(const struct rule *r, const struct text *t)
{
    double n = 0;
    memset(r->seen, 0, r->n_list * sizeof *r->seen);
    for (size_t i = 0; i < t->n_word; i++) {
        char word[64];
        if (t->word[i].n >= sizeof word) continue;
        memcpy(word, t->lower.data + t->word[i].start, t->word[i].n);
        word[t->word[i].n] = '\0';
        const json_t *index = json_object_get(r->list, word);
        if (!index) continue;
        bool *seen = &r->seen[json_integer_value(index)];
        n += !(r->distinct && *seen);
        *seen = true;
    }
    return n;
}

static bool same_word(const struct text *t, size_t i, size_t k)
{
    const struct word a = t->word[i], b = t->word[k];
    return a.n == b.n && !memcmp(t->lower.data + a.start, t->lower.data + b.start, a.n);
}

/* Of words i and i + 1. */
static size_t bigram_hash(const struct text *t, size_t i)
{
    uint64_t h = HASH_START;
    for (size_t k = i; k < i + 2; k++) h = hash_add(hash_add(h, t->lower.data + t->word[k].start, t->word[k].n), " ", 1);
    return (size_t)h;
}

/* max(0, target - distinct bigrams / bigrams): how much the text repeats itself. */
static double repeated_bigrams(const struct rule *r, const struct text *t)
{
    if (t->n_word < 2) return 0;
    const size_t n = t->n_word - 1;
    size_t distinct = 0;
    memset(t->bigram, 0, t->bigram_room * sizeof *t->bigram);
    for (size_t i = 0; i < n; i++) {
        size_t at = bigram_hash(t, i) % t->bigram_room;
        while (t->bigram[at] && !(same_word(t, t->bigram[at] - 1, i) && same_word(t, t->bigram[at], i + 1))) at = (at + 1) % t->bigram_room;
        distinct += !t->bigram[at];
        if (!t->bigram[at]) t->bigram[at] = i + 1;
    }
    return fmax(0, (isnan(r->target) ? 1 : r->target) - (double)distinct / (double)n);
}

static const struct {
    const char *kind;
    double (*measure)(const struct rule *, const struct text *);
    enum { NEEDS_NOTHING, NEEDS_STRING, NEEDS_PATTERN, NEEDS_LIST } needs;
} kinds[] = {
    {"contains", contains, NEEDS_STRING},  {"ends_with", ends_with, NEEDS_STRING},   {"regex", matches, NEEDS_PATTERN},   {"characters", characters, NEEDS_NOTHING},
    {"word_count", word_count, NEEDS_NOTHING}, {"json_valid", json_valid, NEEDS_NOTHING}, {"words", listed_words, NEEDS_LIST}, {"repeated_bigrams", repeated_bigrams, NEEDS_NOTHING},
};

static int compile(struct rule *r, const char *pattern, const char *path, sail_err *err)
{
    OnigErrorInfo why;
    OnigEncoding use[] = {ONIG_ENCODING_UTF8};
    onig_initialize(use, 1);
    onig_set_retry_limit_in_search(10000000);
    const OnigUChar *s = (const OnigUChar *)pattern;
    int code = onig_new(&r->regex, s, s + strlen(pattern), r->ignore_case ? ONIG_OPTION_IGNORECASE : ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &why);
    if (code == ONIG_NORMAL) return (r->region = onig_region_new()) ? SAIL_OK : err_memory(err, sizeof *r->region);
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(message, code, &why);
    return err_set(err, SAIL_USAGE, "%s: pattern '%.80s': %s", path, pattern, (const char *)message);
}

static int read_list(struct rule *r, json_t *list, const char *path, size_t index, sail_err *err)
{
    size_t i;
    json_t *v;
    if (!json_is_array(list) || !json_array_size(list)) return err_set(err, SAIL_USAGE, "%s: rule %zu: kind words needs list: [...]", path, index + 1);
    r->list = json_object();
    r->n_list = json_array_size(list);
    int rc = mem_alloc(&r->seen, r->n_list, sizeof *r->seen, err);
    if (rc) return rc;
    json_array_foreach(list, i, v)
    {
        if (json_is_boolean(v)) json_object_set_new(r->list, json_is_true(v) ? "yes" : "no", json_integer((json_int_t)i)); // YAML reads these two words so
        else if (json_is_string(v)) json_object_set_new(r->list, json_string_value(v), json_integer((json_int_t)i));
        else return err_set(err, SAIL_USAGE, "%s: rule %zu: list[%zu]: expected a word", path, index + 1, i);
    }
    return SAIL_OK;
}

static double number_or(json_t *j, const char *key, double fallback)
{
    json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static int check_keys(json_t *j, const char *path, size_t index, sail_err *err)
{
    static const char *const known[] = {"kind", "weight", "min", "max", "target", "text", "pattern", "list", "distinct", "ignore_case"};
    const char *key;
    json_t *v;
    json_object_foreach(j, key, v)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found = found || !strcmp(key, known[i]);
        if (!found) return err_set(err, SAIL_USAGE, "%s: rule %zu: '%s' is not one of kind, weight, min, max, target, text, pattern, list, distinct, ignore_case", path, index + 1, key);
    }
    return SAIL_OK;
}

static int read_rule(struct rule *r, json_t *j, const char *path, size_t index, sail_err *err)
{
    const char *kind = json_string_value(json_object_get(j, "kind")), *text = json_string_value(json_object_get(j, "text")), *pattern = json_string_value(json_object_get(j, "pattern"));
    *r = (struct rule){.weight = number_or(j, "weight", 1), .low = number_or(j, "min", -INFINITY), .high = number_or(j, "max", INFINITY), .target = number_or(j, "target", NAN),
                       .distinct = json_is_true(json_object_get(j, "distinct")), .ignore_case = json_is_true(json_object_get(j, "ignore_case"))};
    int rc = check_keys(j, path, index, err);
    if (rc) return rc;
    for (size_t i = 0; kind && i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kind, kinds[i].kind)) continue;
        r->measure = kinds[i].measure;
        switch (kinds[i].needs) {
        case NEEDS_NOTHING: return SAIL_OK;
        case NEEDS_LIST: return read_list(r, json_object_get(j, "list"), path, index, err);
        case NEEDS_PATTERN: return pattern ? compile(r, pattern, path, err) : err_set(err, SAIL_USAGE, "%s: rule %zu: kind regex needs pattern", path, index + 1);
        case NEEDS_STRING:
            if (!text || !*text) return err_set(err, SAIL_USAGE, "%s: rule %zu: kind %s needs text", path, index + 1, kind);
            r->string = mem_strdup(text);
            return SAIL_OK;
        }
    }
    return err_set(err, SAIL_USAGE, "%s: rule %zu: kind '%s': expected contains, ends_with, regex, characters, word_count, json_valid, words or repeated_bigrams", path, index + 1, kind ? kind : "?");
}

static int measure_text(struct text *t, const char *s, sail_err *err)
{
    t->s = s;
    t->n = strlen(s);
    t->n_word = 0;
    buf_clear(&t->lower);
    if (!buf_append(&t->lower, s, t->n)) return err_memory(err, t->n);
    char *lower = t->lower.data;
    for (size_t i = 0; i < t->n; i++) lower[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < t->n;) {
        size_t k = i;
        while (k < t->n && lower[k] >= 'a' && lower[k] <= 'z') k++;
        if (k > i && !(rc = mem_grow(&t->word, t->n_word, &t->word_room, sizeof *t->word, err))) t->word[t->n_word++] = (struct word){i, k - i};
        i = k > i ? k : i + 1;
    }
    while (!rc && t->bigram_room < 2 * t->word_room) rc = mem_grow(&t->bigram, t->bigram_room, &t->bigram_room, sizeof *t->bigram, err); // at most half full
    return rc;
}

static int ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    struct rules *all = (struct rules *)l;
    for (int i = 0; i < q->n; i++) {
        int rc = measure_text(&all->text, q->completions[i], err);
        if (rc) return rc;
        double sum = 0;
        for (const struct rule *r = all->rule; r < all->rule + all->n; r++) sum += r->weight * fmin(fmax(r->measure(r, &all->text), r->low), r->high);
        a->reward[i] = sum;
    }
    return SAIL_OK;
}

static void close_rules(struct labeler *l)
{
    struct rules *all = (struct rules *)l;
    for (size_t i = 0; i < all->n; i++) {
        free(all->rule[i].string);
        free(all->rule[i].seen);
        if (all->rule[i].region) onig_region_free(all->rule[i].region, 1);
        if (all->rule[i].regex) onig_free(all->rule[i].regex);
        json_decref(all->rule[i].list);
    }
    free(all->rule);
    buf_release(&all->text.lower);
    free(all->text.word);
    free(all->text.bigram);
    free(all);
}

int labeler_rule_open(struct labeler **out, const char *path, sail_err *err)
{
    struct rules *all;
    json_t *j = NULL, *list, *one;
    size_t i;
    *out = NULL;
    int rc = mem_alloc(&all, 1, sizeof *all, err);
    if (rc) return rc;
    all->head = (struct labeler){.name = "rules", .ask = ask, .close = close_rules};
    rc = yaml_json_read(path, &j, err);
    list = json_object_get(j, "rules");
    if (!rc && (!json_is_array(list) || !json_array_size(list))) rc = err_set(err, SAIL_USAGE, "%s: expected rules: a list of {kind: ...}", path);
    if (!rc) rc = mem_alloc(&all->rule, json_array_size(list), sizeof *all->rule, err);
    json_array_foreach(list, i, one)
    {
        if (rc) break;
        all->n = i + 1;
        rc = read_rule(&all->rule[i], one, path, i, err);
    }
    json_decref(j);
    if (rc)
        close_rules(&all->head);
    else
        *out = &all->head;
    return rc;
}
