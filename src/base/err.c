#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message is one line for a terminal, whatever the file holds that it quotes. */
static void keep_to_one_line(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7F) *s = '?';
}

int err_set(sail_err *err, int code, const char *fmt, ...)
{
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    keep_to_one_line(err->message);
    err->code = code;
    return code;
}

int err_context(sail_err *err, const char *fmt, ...)
{
    if (!err) return SAIL_FAILED;
    char old[sizeof err->message], head[256];
    memcpy(old, err->message, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    keep_to_one_line(head);
    int n = snprintf(err->message, sizeof err->message, "%s: ", head);
    size_t room = sizeof err->message - (size_t)n;
    size_t take = strnlen(old, room - 1);
    memcpy(err->message + n, old, take);
    err->message[(size_t)n + take] = '\0';
    return err->code;
}

int err_memory(sail_err *err, size_t bytes)
{
    return err_set(err, SAIL_FAILED, "out of memory: %zu bytes wanted", bytes);
}

void bug_abort(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "sail: bug at %s:%d: ", file, line);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
