/* Unicode's normal forms on utf8proc's tables. Its own utf8proc_map sorts combining marks by exchanging neighbours: a text of a million of them
 * would take hours. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/err.h"
#include "tok/internal.h"

enum { LONGEST_EXPANSION = 64 }; /* characters of one */

struct characters {
    utf8proc_int32_t *c;
    size_t n, capacity;
};

static bool is_ascii(const char *s, size_t n)
{
    unsigned char seen = 0;
    for (size_t i = 0; i < n; i++) seen |= (unsigned char)s[i];
    return seen < 0x80;
}

/* Text that NFC leaves as it is, decided fast: characters below U+0300, and the dashes and quotes of print. */
static bool is_composed(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char b = (unsigned char)s[i];
        const bool dash = b == 0xE2 && n - i >= 3 && (unsigned char)s[i + 1] == 0x80 && (unsigned char)s[i + 2] >= 0x90; // U+2010 to U+203F
        if (b >= 0xCC && !dash) return false;
        i += dash ? 2 : 0;
    }
    return true;
}

static int make_room(struct characters *v, sail_err *err)
{
    if (v->capacity - v->n >= LONGEST_EXPANSION) return SAIL_OK;
    const size_t want = 2 * v->capacity + 4 * LONGEST_EXPANSION;
    utf8proc_int32_t *p = realloc(v->c, want * sizeof *p);
    if (!p) return err_memory(err, want * sizeof *p);
    v->c = p;
    v->capacity = want;
    return SAIL_OK;
}

/* Characters that shall pass stand aside as unassigned ones, which nothing composes or reorders. */
enum { ASIDE = 0xA0000 };

static int decompose(struct characters *v, const char *s, size_t n, int options, sail_err *err)
{
    int rc = SAIL_OK, boundary = 0;
    for (size_t i = 0; !rc && i < n;) {
        uint32_t c;
        i += utf8_get(s + i, n - i, &c);
        if ((rc = make_room(v, err))) break;
        if (c < 0x20000 && char_is_unnormalized(c)) c += ASIDE;
        const utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)c, v->c + v->n, LONGEST_EXPANSION, (utf8proc_option_t)options, &boundary);
        if (made < 0 || made > LONGEST_EXPANSION) rc = err_set(err, SAIL_FAILED, "normalizer: U+%04X: %s", (unsigned)c, made < 0 ? utf8proc_errmsg(made) : "too many characters");
        v->n += rc ? 0 : (size_t)made;
    }
    return rc;
}

static int class_of(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

/* Marks of one character, by class; those of one class keep their order. */
static int sort_marks(utf8proc_int32_t *c, size_t n, sail_err *err)
{
    size_t start[257] = {0};
    utf8proc_int32_t *sorted;
    int rc = mem_alloc(&sorted, n, sizeof *sorted, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) start[(class_of(c[i]) & 255) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) sorted[start[class_of(c[i]) & 255]++] = c[i];
    memcpy(c, sorted, n * sizeof *c);
    free(sorted);
    return SAIL_OK;
}

static int order_marks(struct characters *v, sail_err *err)
{
    int rc = SAIL_OK;
    for (size_t i = 0, end; !rc && i < v->n; i = end + (end == i)) {
        bool sorted = true;
        for (end = i; end < v->n && class_of(v->c[end]) > 0; end++) sorted = sorted && (end == i || class_of(v->c[end - 1]) <= class_of(v->c[end]));
        if (!sorted) rc = sort_marks(v->c + i, end - i, err);
    }
    return rc;
}

static void put_characters(const struct characters *v, struct buf *out)
{
    for (size_t i = 0; i < v->n; i++) {
        char piece[4];
        uint32_t c = (uint32_t)v->c[i];
        if (c >= ASIDE && c < ASIDE + 0x20000 && char_is_unnormalized(c - ASIDE)) c -= ASIDE;
        buf_append(out, piece, utf8_put(piece, c));
    }
}

int compose_text(const char *s, size_t n, int options, struct buf *out, sail_err *err)
{
    if (is_ascii(s, n) || (options == UTF8PROC_COMPOSE && is_composed(s, n))) {
        buf_append(out, s, n);
        return SAIL_OK; // a full buffer is its owner's to see
    }
    struct characters v = {0};
    int rc = decompose(&v, s, n, options | UTF8PROC_STABLE, err);
    if (!rc) rc = order_marks(&v, err);
    if (!rc && options & UTF8PROC_COMPOSE) {
        const utf8proc_ssize_t left = utf8proc_normalize_utf32(v.c, (utf8proc_ssize_t)v.n, (utf8proc_option_t)(options | UTF8PROC_STABLE));
        if (left < 0)
            rc = err_set(err, SAIL_FAILED, "normalizer: %s", utf8proc_errmsg(left));
        else
            v.n = (size_t)left;
    }
    if (!rc) put_characters(&v, out);
    free(v.c);
    return rc;
}
