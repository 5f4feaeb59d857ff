#define _GNU_SOURCE
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/hash.h"

static bool quiet_notes;
static const char *process_name;

/* Marks of the warnings said so far (0: free). */
struct said {
    _Atomic uint64_t mark[1024];
};
static struct said own;
static struct said *shared; /* in memory that children have in common; NULL: a warning may be said again */

void log_quiet(bool quiet) { quiet_notes = quiet; }
void log_name(const char *name) { process_name = name; }

static void line(const char *kind, const char *fmt, va_list ap)
{
    flockfile(stderr);
    fprintf(stderr, "sail: %s: %s%s", kind, process_name ? process_name : "", process_name ? ": " : "");
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    funlockfile(stderr);
}

void log_each_once(bool once)
{
    if (shared) munmap(shared, sizeof *shared);
    shared = NULL;
    if (!once) return;
    void *p = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) shared = p; // else they are said again, which is no reason to stop
}

/* Leaves a mark for the text; false: it was there. */
static bool is_new(struct said *said, const char *text)
{
    const uint64_t h = hash_add(HASH_START, text, strlen(text)) | 1;
    for (size_t i = 0; i < sizeof said->mark / sizeof *said->mark; i++) {
        uint64_t there = 0;
        if (atomic_compare_exchange_strong(&said->mark[i], &there, h)) return true;
        if (there == h) return false;
    }
    return true;
}

void log_note(const char *fmt, ...)
{
    if (quiet_notes) return;
    va_list ap;
    va_start(ap, fmt);
    line("note", fmt, ap);
    va_end(ap);
}

static void warn(struct said *said, const char *fmt, va_list ap)
{
    char text[4096];
    va_list copy;
    va_copy(copy, ap);
    vsnprintf(text, sizeof text, fmt, copy);
    va_end(copy);
    if (!said || is_new(said, text)) line("warning", fmt, ap);
}

void log_warning(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    warn(shared, fmt, ap);
    va_end(ap);
}

void log_warning_once(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    warn(shared ? shared : &own, fmt, ap);
    va_end(ap);
}

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *clock_duration(char text[32], double seconds)
{
    const long long s = seconds < 0 ? 0 : seconds < 1e15 ? (long long)seconds : 1000000000000000;
    if (s >= 3600)
        snprintf(text, 32, "%lldh%02dm", s / 3600, (int)(s / 60 % 60));
    else if (s >= 60)
        snprintf(text, 32, "%dm%02ds", (int)(s / 60), (int)(s % 60));
    else
        snprintf(text, 32, "%ds", (int)s);
    return text;
}
