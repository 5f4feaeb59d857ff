#define _GNU_SOURCE
/* UTF-8, the byte-level alphabet, members of objects, patterns. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "tok/internal.h"

uint32_t byte_to_char(unsigned char b)
{
    if ((b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE) return b;
    return b <= ' ' ? 0x100u + b : b <= 0xA0 ? 0x121u + b - 0x7F : 0x143; // the others follow from U+0100 in increasing order
}

int char_to_byte(uint32_t c)
{
    if (c < 0x100) return byte_to_char((unsigned char)c) == c ? (int)c : -1;
    return c <= 0x120 ? (int)c - 0x100 : c <= 0x142 ? (int)c - 0x121 + 0x7F : c == 0x143 ? 0xAD : -1;
}

size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000) return out[0] = (char)(0xE0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 63)), out[2] = (char)(0x80 | (c & 63)), 3;
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

/* Length of the valid sequence at s, or minus the length of the maximal invalid part (what one U+FFFD replaces). */
static int sequence(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return -1;
    const int len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    for (int i = 1; i < len; i++) {
        unsigned char low = 0x80, high = 0xBF;
        if (i == 1 && s[0] == 0xE0) low = 0xA0;
        if (i == 1 && s[0] == 0xED) high = 0x9F;
        if (i == 1 && s[0] == 0xF0) low = 0x90;
        if (i == 1 && s[0] == 0xF4) high = 0x8F;
        if ((size_t)i >= n || s[i] < low || s[i] > high) return -i;
    }
    return len;
}

size_t utf8_get(const char *s, size_t n, uint32_t *c)
{
    const unsigned char *u = (const unsigned char *)s;
    const int len = sequence(u, n);
    if (len < 0) return *c = 0xFFFD, 1;
    *c = len == 1 ? u[0] : len == 2 ? (uint32_t)(u[0] & 31) << 6 | (u[1] & 63u) : len == 3 ? (uint32_t)(u[0] & 15) << 12 | (uint32_t)(u[1] & 63) << 6 | (u[2] & 63u)
         : (uint32_t)(u[0] & 7) << 18 | (uint32_t)(u[1] & 63) << 12 | (uint32_t)(u[2] & 63) << 6 | (u[3] & 63u);
    return (size_t)len;
}

void utf8_lossy(const char *s, size_t n, struct buf *out)
{
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        const int len = sequence((const unsigned char *)s + i, n - i);
        if (len < 0) {
            buf_append(out, s + done, i - done);
            buf_puts(out, "\xEF\xBF\xBD");
            done = i + (size_t)-len;
        }
        i += (size_t)(len > 0 ? len : -len);
    }
    buf_append(out, s + done, n - done);
}

size_t utf8_before(const char *s, size_t at, uint32_t *c)
{
    size_t i = at - 1;
    while (i && ((unsigned char)s[i] & 0xC0) == 0x80) i--;
    utf8_get(s + i, at - i, c);
    return at - i;
}

size_t utf8_next(const char *s, size_t n, size_t at)
{
    for (at++; at < n && ((unsigned char)s[at] & 0xC0) == 0x80; at++) {}
    return at;
}

/* ---------------------------------------------------------------- members of objects */

static int wrong(const char *what, const char *name, const char *expected, sail_err *err) { return err_set(err, SAIL_FAILED, "%s: %s: expected %s", what, name, expected); }

int member_bool(json_t *spec, const char *name, bool fallback, bool *out, const char *what, sail_err *err)
{
    json_t *v = json_object_get(spec, name);
    *out = v && !json_is_null(v) ? json_is_true(v) : fallback;
    return !v || json_is_null(v) || json_is_boolean(v) ? SAIL_OK : wrong(what, name, "true or false", err);
}

int member_string(json_t *spec, const char *name, const char *fallback, const char **out, const char *what, sail_err *err)
{
    json_t *v = json_object_get(spec, name);
    *out = json_is_string(v) ? json_string_value(v) : fallback;
    if (!*out || (v && !json_is_null(v) && !json_is_string(v))) return *out = "", wrong(what, name, "a string", err);
    return SAIL_OK;
}

int member_count(json_t *spec, const char *name, int64_t fallback, int64_t *out, const char *what, sail_err *err)
{
    json_t *v = json_object_get(spec, name);
    *out = fallback;
    if (!v || json_is_null(v)) return SAIL_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 0) return wrong(what, name, "a number that is not negative", err);
    *out = json_integer_value(v);
    return SAIL_OK;
}

int member_type(json_t *spec, const char *list_name, const char **type, json_t **list, const char *what, sail_err *err)
{
    *list = NULL;
    if (!json_is_object(spec)) return err_set(err, SAIL_FAILED, "%s: expected an object", what);
    int rc = member_string(spec, "type", NULL, type, what, err);
    if (rc || strcmp(*type, "Sequence")) return rc;
    *list = json_object_get(spec, list_name);
    return json_is_array(*list) ? SAIL_OK : wrong(what, list_name, "an array", err);
}

/* ---------------------------------------------------------------- patterns */

static void start_oniguruma(void)
{
    OnigEncoding use[] = {ONIG_ENCODING_UTF8};
    onig_initialize(use, 1);
    onig_set_retry_limit_in_match(10000000); // hostile patterns end with an error, not never
    onig_set_retry_limit_in_search(20000000);
    onig_set_match_stack_limit_size(4000000);
}

int pattern_regex(struct pattern *p, const char *source, const char *what, sail_err *err)
{
    static pthread_once_t started = PTHREAD_ONCE_INIT;
    OnigErrorInfo why;
    pthread_once(&started, start_oniguruma);
    const OnigUChar *s = (const OnigUChar *)source;
    int r = onig_new(&p->regex, s, s + strlen(source), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &why);
    if (r == ONIG_NORMAL) return (p->region = onig_region_new()) ? SAIL_OK : err_memory(err, sizeof *p->region);
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(message, r, &why);
    p->regex = NULL;
    return err_set(err, SAIL_FAILED, "%s: regular expression '%.80s': %s", what, source, (const char *)message);
}

int pattern_read(struct pattern *p, json_t *spec, const char *what, sail_err *err)
{
    json_t *s = json_object_get(spec, "String"), *r = json_object_get(spec, "Regex");
    if (json_is_string(r)) return pattern_regex(p, json_string_value(r), what, err);
    if (!json_is_string(s)) return err_set(err, SAIL_FAILED, "%s: pattern: expected {\"String\": ...} or {\"Regex\": ...}", what);
    if (!json_string_length(s)) return pattern_regex(p, "", what, err);
    if ((p->plain = malloc(json_string_length(s))) == NULL) return err_memory(err, json_string_length(s));
    p->plain_len = json_string_length(s);
    memcpy(p->plain, json_string_value(s), p->plain_len);
    return SAIL_OK;
}

void pattern_free(struct pattern *p)
{
    if (p->regex) onig_free(p->regex);
    if (p->region) onig_region_free(p->region, 1);
    free(p->plain);
    *p = (struct pattern){0};
}

static bool search_regex(const struct pattern *p, const char *s, size_t n, size_t from, size_t *start, size_t *end, int *rc, sail_err *err)
{
    const OnigUChar *u = (const OnigUChar *)s;
    int r = onig_search(p->regex, u, u + n, u + from, u + n, p->region, ONIG_OPTION_NONE);
    if (r >= 0) {
        *start = (size_t)p->region->beg[0];
        *end = (size_t)p->region->end[0];
    } else if (r != ONIG_MISMATCH) {
        OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(message, r);
        *rc = err_set(err, SAIL_FAILED, "tokenizer: a regular expression did not finish: %s", (const char *)message);
    }
    return r >= 0;
}

/* Oniguruma bounds one search; all searches of a text together get two seconds and ten microseconds a byte. */
static bool out_of_time(struct pattern_search *at, size_t n)
{
    if (++at->searches % 4) return false;
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    const double t = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    if (at->searches == 4) at->started = t;
    return t - at->started > 2 + 1e-5 * (double)n;
}

bool pattern_next(const struct pattern *p, const char *s, size_t n, struct pattern_search *at, int *rc, sail_err *err)
{
    while (at->from <= n) {
        size_t start, end;
        if (!p->plain && out_of_time(at, n)) {
            *rc = err_set(err, SAIL_FAILED, "tokenizer: a regular expression did not finish: it takes too long on a text of %zu bytes", n);
            return false;
        }
        if (p->plain) {
            const char *found = memmem(s + at->from, n - at->from, p->plain, p->plain_len);
            if (!found) return false;
            start = (size_t)(found - s);
            end = start + p->plain_len;
        } else if (!search_regex(p, s, n, at->from, &start, &end, rc, err)) {
            return false;
        }
        if (start == end && at->matched && at->end == end) {
            at->from = utf8_next(s, n, at->from);
            continue;
        }
        at->from = at->end = end;
        at->start = start;
        at->matched = true;
        return true;
    }
    return false;
}

int pattern_replace(const struct pattern *p, const char *s, size_t n, const char *content, struct buf *out, sail_err *err)
{
    struct pattern_search at = {0};
    size_t done = 0;
    int rc = SAIL_OK;
    while (n && pattern_next(p, s, n, &at, &rc, err)) {
        buf_append(out, s + done, at.start - done);
        buf_puts(out, content);
        done = at.end;
    }
    if (!rc) buf_append(out, s + done, n - done);
    return rc;
}
