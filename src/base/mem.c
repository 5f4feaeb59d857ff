#define _GNU_SOURCE
#include "base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/err.h"

bool size_mul(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool size_add(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

static atomic_int_least64_t allocations;

int64_t mem_allocations(void) { return atomic_load_explicit(&allocations, memory_order_relaxed); }
void mem_count_allocation(void) { atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed); }

int mem_alloc(void *out, size_t n, size_t size, sail_err *err)
{
    void *p = NULL;
    size_t bytes;
    if (!size_mul(&bytes, n, size)) {
        memcpy(out, &p, sizeof p);
        return err_memory(err, SIZE_MAX);
    }
    mem_count_allocation();
    p = calloc(bytes ? bytes : 1, 1);
    memcpy(out, &p, sizeof p);
    return p ? SAIL_OK : err_memory(err, bytes);
}

int mem_grow(void *array, size_t n, size_t *capacity, size_t size, sail_err *err)
{
    if (n < *capacity) return SAIL_OK;
    size_t want = *capacity ? *capacity * 2 : 16, bytes;
    if (want <= n || !size_mul(&bytes, want, size)) return err_memory(err, SIZE_MAX);
    void *p;
    memcpy(&p, array, sizeof p);
    mem_count_allocation();
    p = realloc(p, bytes);
    if (!p) return err_memory(err, bytes);
    memcpy(array, &p, sizeof p);
    *capacity = want;
    return SAIL_OK;
}

char *mem_strdup(const char *s)
{
    mem_count_allocation();
    char *p = strdup(s);
    BUG_ON(!p, "out of memory for a string");
    return p;
}

char *mem_printf(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    va_start(ap, fmt);
    mem_count_allocation();
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    BUG_ON(n < 0, "out of memory for a string");
    return p;
}

/* getrusage would also count what its parent was before it became this program. */
double mem_peak_mib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lld", &kib) == 1) break;
    if (f) fclose(f);
    return (double)kib / 1024;
}

int arena_init(struct arena *a, size_t capacity, sail_err *err)
{
    *a = (struct arena){0};
    const size_t huge = (size_t)2 << 20;
    if (!size_add(&capacity, capacity, 2 * huge)) return err_memory(err, SIZE_MAX);
    capacity &= ~(huge - 1);
    // Address space only: pages come when touched, so a generous capacity costs nothing.
    mem_count_allocation();
    char *p = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return err_memory(err, capacity);
    madvise(p, capacity, MADV_HUGEPAGE);
    *a = (struct arena){.base = p, .capacity = capacity};
    return SAIL_OK;
}

void arena_release(struct arena *a)
{
    if (a->base) munmap(a->base, a->capacity);
    *a = (struct arena){0};
}

void *arena_take(struct arena *a, size_t bytes)
{
    size_t room = arena_room(bytes);
    BUG_ON(room < bytes || room > a->capacity - a->used, "arena is full: %zu used of %zu, %zu wanted", a->used,
           a->capacity, bytes);
    void *p = a->base + a->used;
    a->used += room;
    if (a->used > a->peak) a->peak = a->used;
    return p;
}

size_t arena_mark(const struct arena *a) { return a->used; }

void arena_reset(struct arena *a, size_t mark)
{
    BUG_ON(mark > a->used, "arena mark %zu above the %zu bytes in use", mark, a->used);
    a->used = mark;
}

void buf_init(struct buf *b, size_t max) { *b = (struct buf){.max = max ? max : (size_t)1 << 30}; }

void buf_release(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data) b->data[0] = '\0';
}

/* Room for n bytes more and the NUL behind them. */
static bool buf_reserve(struct buf *b, size_t n)
{
    size_t max = b->max ? b->max : (size_t)1 << 30;
    if (b->failed || n > max - b->len) return !(b->failed = true);
    size_t need = b->len + n + 1;
    if (need <= b->capacity) return true;
    size_t want = b->capacity ? b->capacity : 256;
    while (want < need) want *= 2;
    mem_count_allocation();
    char *p = realloc(b->data, want);
    if (!p) return !(b->failed = true);
    b->data = p;
    b->capacity = want;
    return true;
}

bool buf_append(struct buf *b, const void *bytes, size_t n)
{
    if (!buf_reserve(b, n)) return false;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool buf_puts(struct buf *b, const char *s) { return buf_append(b, s, strlen(s)); }
bool buf_putc(struct buf *b, char c) { return buf_append(b, &c, 1); }

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    const bool fits = n >= 0 && buf_reserve(b, (size_t)n);
    if (fits) b->len += (size_t)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return fits || !(b->failed = true);
}

/* Length of the valid UTF-8 sequence at s (at most n bytes), 0 if there is none. */
static size_t utf8_valid(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80) return 1;
    size_t len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0; // overlong, surrogate
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return len;
}

bool buf_json_string(struct buf *b, const char *s, size_t n)
{
    buf_putc(b, '"');
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = utf8_valid((const unsigned char *)s + i, n - i);
        if (!len) {
            buf_puts(b, "\xEF\xBF\xBD");
            i++;
        } else if (c == '"' || c == '\\') {
            buf_putc(b, '\\');
            buf_putc(b, (char)c);
            i++;
        } else if (c < 0x20) {
            const char *name = c == '\n' ? "\\n" : c == '\t' ? "\\t" : c == '\r' ? "\\r" : c == '\b' ? "\\b" : c == '\f' ? "\\f" : NULL;
            if (name)
                buf_puts(b, name);
            else
                buf_printf(b, "\\u%04x", c);
            i++;
        } else {
            buf_append(b, s + i, len);
            i += len;
        }
    }
    return buf_putc(b, '"');
}

bool buf_json_double(struct buf *b, double x)
{
    if (!isfinite(x)) return buf_puts(b, "null");
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return buf_puts(b, text);
}
