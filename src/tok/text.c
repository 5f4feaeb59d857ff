#define _GNU_SOURCE
/* UTF-8, the byte-level alphabet, patterns. */
#include <string.h>
#include <stdlib.h>

#include "base/err.h"
#include "tok/internal.h"

uint32_t byte_to_char(unsigned char b)
{
    if ((b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE) return b;
    uint32_t n = 0; // the others follow from U+0100 in increasing order
    for (int k = 0; k < b; k++) n += !((k >= '!' && k <= '~') || (k >= 0xA1 && k <= 0xAC) || k >= 0xAE);
    return 0x100 + n;
}

int char_to_byte(uint32_t c)
{
    static int16_t table[0x180];
    static bool ready;
    if (!ready) {
        for (int i = 0; i < 0x180; i++) table[i] = -1;
        for (int b = 0; b < 256; b++) table[byte_to_char((unsigned char)b)] = (int16_t)b;
        ready = true;
    }
    return c < 0x180 ? table[c] : -1;
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
    for (size_t i = 0; i < n;) {
        const int len = sequence((const unsigned char *)s + i, n - i);
        if (len > 0)
            buf_append(out, s + i, (size_t)len);
        else
            buf_puts(out, "\xEF\xBF\xBD");
        i += (size_t)(len > 0 ? len : -len);
    }
}

int pattern_regex(struct pattern *p, const char *source, const char *what, sail_err *err)
{
    static bool ready;
    if (!ready) {
        OnigEncoding use[] = {ONIG_ENCODING_UTF8};
        onig_initialize(use, 1);
        onig_set_retry_limit_in_search(10000000); // hostile patterns end with an error, not never
        onig_set_match_stack_limit_size(1000000);
        ready = true;
    }
    OnigErrorInfo why;
    const OnigUChar *s = (const OnigUChar *)source;
    int r = onig_new(&p->regex, s, s + strlen(source), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &why);
    if (r == ONIG_NORMAL) return SAIL_OK;
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(message, r, &why);
    p->regex = NULL;
    return err_set(err, SAIL_FAILED, "%s: regular expression '%.80s': %s", what, source, (const char *)message);
}

int pattern_read(struct pattern *p, json_t *spec, const char *what, sail_err *err)
{
    const char *s = json_string_value(json_object_get(spec, "String")), *r = json_string_value(json_object_get(spec, "Regex"));
    if (r) return pattern_regex(p, r, what, err);
    if (!s) return err_set(err, SAIL_FAILED, "%s: pattern: expected {\"String\": ...} or {\"Regex\": ...}", what);
    p->plain = mem_strdup(s);
    p->plain_len = strlen(s);
    return SAIL_OK;
}

void pattern_free(struct pattern *p)
{
    if (p->regex) onig_free(p->regex);
    free(p->plain);
    *p = (struct pattern){0};
}

bool pattern_find(const struct pattern *p, const char *s, size_t n, size_t from, size_t *start, size_t *end, int *rc, sail_err *err)
{
    if (from > n || (p->plain && !p->plain_len)) return false;
    if (p->plain) {
        const char *at = memmem(s + from, n - from, p->plain, p->plain_len);
        if (!at) return false;
        *start = (size_t)(at - s);
        *end = *start + p->plain_len;
        return true;
    }
    OnigRegion *region = onig_region_new();
    const OnigUChar *u = (const OnigUChar *)s;
    int r = onig_search(p->regex, u, u + n, u + from, u + n, region, ONIG_OPTION_NONE);
    if (r >= 0) {
        *start = (size_t)region->beg[0];
        *end = (size_t)region->end[0];
    } else if (r != ONIG_MISMATCH) {
        OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
        onig_error_code_to_str(message, r);
        *rc = err_set(err, SAIL_FAILED, "tokenizer: a regular expression did not finish: %s", (const char *)message);
    }
    onig_region_free(region, 1);
    return r >= 0;
}
