#define _GNU_SOURCE
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static bool quiet_notes;
static const char *process_name;

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

void log_note(const char *fmt, ...)
{
    if (quiet_notes) return;
    va_list ap;
    va_start(ap, fmt);
    line("note", fmt, ap);
    va_end(ap);
}

void log_warning(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    line("warning", fmt, ap);
    va_end(ap);
}

double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
