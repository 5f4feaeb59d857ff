#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "tok/internal.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const unsigned char *s, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const uint32_t v = (uint32_t)s[i] << 16 | (left > 1 ? (uint32_t)s[i + 1] << 8 : 0) | (left > 2 ? s[i + 2] : 0);
        const char group[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], left > 1 ? alphabet[v >> 6 & 63] : '=', left > 2 ? alphabet[v & 63] : '='};
        buf_append(out, group, 4);
    }
}

static bool base64_decode(const char *s, struct buf *out)
{
    uint32_t v = 0;
    int bits = 0;
    for (; *s && *s != '='; s++) {
        const char *at = strchr(alphabet, *s);
        if (!at) return false;
        v = v << 6 | (uint32_t)(at - alphabet);
        if ((bits += 6) < 8) continue;
        bits -= 8;
        buf_putc(out, (char)(v >> bits & 0xFF));
    }
    return s[strspn(s, "=")] == '\0' && !out->failed;
}

int charsmap_read(struct charsmap *m, const char *base64, sail_err *err)
{
    struct buf raw;
    buf_init(&raw, 0);
    uint32_t bytes = 0;
    int rc = SAIL_OK;
    if (!base64_decode(base64, &raw) || raw.len < 4) rc = err_set(err, SAIL_FAILED, "normalizer Precompiled: precompiled_charsmap: expected base64 of a character map");
    if (!rc) memcpy(&bytes, raw.data, 4);
    if (!rc && (bytes % 4 || !bytes || bytes > raw.len - 4))
        rc = err_set(err, SAIL_FAILED, "normalizer Precompiled: precompiled_charsmap: a trie of %u bytes in a map of %zu", (unsigned)bytes, raw.len);
    if (!rc) rc = mem_alloc(&m->unit, bytes / 4, sizeof *m->unit, err);
    if (!rc) {
        m->n_unit = bytes / 4;
        memcpy(m->unit, raw.data + 4, bytes);
        m->text_len = raw.len - 4 - bytes;
        if (!(m->text = malloc(m->text_len + 1))) rc = err_memory(err, m->text_len);
    }
    if (!rc) {
        memcpy(m->text, raw.data + 4 + bytes, m->text_len);
        m->text[m->text_len] = '\0';
    }
    buf_release(&raw);
    return rc;
}

void charsmap_free(struct charsmap *m)
{
    free(m->unit);
    free(m->text);
}

static size_t offset_of(uint32_t unit) { return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6); }

/* What an entry that s begins with becomes, the shortest or the longest one, and its length; NULL: there is none. */
static const char *replacement(const struct charsmap *m, const char *s, size_t n, bool longest, size_t *len)
{
    const char *found = NULL;
    size_t node = offset_of(m->unit[0]);
    for (size_t i = 0; i < n && (longest || !found); i++) {
        const unsigned char c = (unsigned char)s[i];
        node ^= c;
        if (!c || node >= m->n_unit || (m->unit[node] & (1u << 31 | 0xFF)) != c) break;
        const uint32_t unit = m->unit[node];
        node ^= offset_of(unit);
        if (!(unit >> 8 & 1)) continue;
        const size_t at = node < m->n_unit ? m->unit[node] & 0x7FFFFFFF : SIZE_MAX;
        if (at >= m->text_len) break;
        found = m->text + at;
        *len = i + 1;
    }
    return found;
}

static size_t grapheme(const char *s, size_t n)
{
    uint32_t before, c;
    utf8proc_int32_t state = 0;
    size_t len = utf8_get(s, n, &before);
    while (len < n) {
        const size_t more = utf8_get(s + len, n - len, &c);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)before, (utf8proc_int32_t)c, &state)) break;
        before = c;
        len += more;
    }
    return len;
}

/* As SentencePiece has it: the longest entry at each place. */
static void run_longest(const struct charsmap *m, const char *s, size_t n, struct buf *out)
{
    for (size_t i = 0, len; i < n; i += len) {
        const char *by = replacement(m, s + i, n - i, true, &len);
        if (by) {
            buf_puts(out, by);
        } else {
            len = utf8_next(s, n, i) - i;
            buf_append(out, s + i, len);
        }
    }
}

/* As the tokenizers library has it: graphemes of up to five bytes are looked up whole, and the entry replaces all of it; other text goes character by character. */
static void run_graphemes(const struct charsmap *m, const char *s, size_t n, struct buf *out)
{
    size_t used;
    for (size_t i = 0; i < n;) {
        const size_t end = i + grapheme(s + i, n - i);
        const char *whole = end - i < 6 ? replacement(m, s + i, end - i, false, &used) : NULL;
        if (whole) {
            buf_puts(out, whole);
            i = end;
        }
        while (i < end) {
            const size_t len = utf8_next(s, end, i) - i;
            const char *one = replacement(m, s + i, len, false, &used);
            if (one)
                buf_puts(out, one);
            else
                buf_append(out, s + i, len);
            i += len;
        }
    }
}

void charsmap_run(const struct charsmap *m, const char *s, size_t n, struct buf *out)
{
    if (m->longest)
        run_longest(m, s, n, out);
    else
        run_graphemes(m, s, n, out);
}
