#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the well-formed UTF-8 sequence at s; 0: there is none. */
static int sequence(const unsigned char *s)
{
    const int n = *s < 0x80 ? 1 : *s >= 0xC2 && *s < 0xE0 ? 2 : *s >= 0xE0 && *s < 0xF0 ? 3 : *s >= 0xF0 && *s < 0xF5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    const bool out_of_range = (*s == 0xE0 && s[1] < 0xA0) || (*s == 0xED && s[1] > 0x9F) || (*s == 0xF0 && s[1] < 0x90) || (*s == 0xF4 && s[1] > 0x8F);
    return out_of_range ? 0 : n;
}

/* A message is one line of text for a terminal, whatever the file holds that it quotes, and wherever a quotation was cut. */
static void keep_to_one_line(char *s)
{
    while (*s) {
        const int n = sequence((const unsigned char *)s);
        if (!n || (unsigned char)*s < ' ' || *s == 0x7F) *s = '?';
        s += n ? n : 1;
    }
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
