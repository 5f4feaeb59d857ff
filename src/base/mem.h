/* Memory: checked sizes, zeroed allocation, arenas with marks, growable buffers with a maximum. */
#ifndef SAIL_BASE_MEM_H
#define SAIL_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sail.h"

/* *out = a * b, *out = a + b; false on overflow (then *out is untouched). */
bool size_mul(size_t *out, size_t a, size_t b);
bool size_add(size_t *out, size_t a, size_t b);

/* calloc with an error; *out is NULL on failure. n == 0 gives a valid pointer. Free with free(). */
int mem_alloc(void *out, size_t n, size_t size, sail_err *err);
/* Grows *array (n elements used, *capacity available) so that one more fits; doubles. */
int mem_grow(void *array, size_t n, size_t *capacity, size_t size, sail_err *err);
char *mem_strdup(const char *s);      /* aborts when memory is out: for short strings of the program itself */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* How often this module has asked the system for memory so far. */
int64_t mem_allocations(void);
void mem_count_allocation(void); /* for who asks by itself */
/* Most memory that this program held at once, MiB. */
double mem_peak_mib(void);

/* Arena: one reservation of huge-page-friendly address space, touched as it is used and never given back before
 * release. Marks free everything above them. 64-byte aligned. Asking for more than the capacity aborts the request
 * with NULL; arena_need() says beforehand. */
struct arena {
    char *base;
    size_t capacity, used, peak;
};
int arena_init(struct arena *a, size_t capacity, sail_err *err);
void arena_release(struct arena *a);
void *arena_take(struct arena *a, size_t bytes); /* not zeroed; BUG when it does not fit */
size_t arena_mark(const struct arena *a);
void arena_reset(struct arena *a, size_t mark);
static inline size_t arena_room(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Growable bytes, always NUL-terminated after a successful append. max 0 means 1 GiB. */
struct buf {
    char *data;
    size_t len, capacity, max;
    bool failed; /* an append did not fit or memory was out; later appends do nothing */
};
void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
void buf_clear(struct buf *b);
bool buf_append(struct buf *b, const void *bytes, size_t n);
bool buf_puts(struct buf *b, const char *s);
bool buf_putc(struct buf *b, char c);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends s[0..n) as a JSON string with quotes; invalid UTF-8 becomes U+FFFD. */
bool buf_json_string(struct buf *b, const char *s, size_t n);
/* Appends a double as JSON: shortest form that reads back exactly; NaN and infinities become null. */
bool buf_json_double(struct buf *b, double x);

#endif
