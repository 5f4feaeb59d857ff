/* Errors: 0 is success everywhere. The function that meets a failure fills the sail_err once (what, where,
 * expected, got); callers may put context in front. Bugs abort with BUG_ON; they are not errors. */
#ifndef SAIL_BASE_ERR_H
#define SAIL_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

#include "sail.h"

/* Fills *err (which may be NULL) and returns code, so that `return err_set(...)` reads well. */
int err_set(sail_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the message and returns err->code. */
int err_context(sail_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Out of memory: a plain SAIL_FAILED with the size that was asked for. */
int err_memory(sail_err *err, size_t bytes);

/* Prints and aborts: a broken contract inside the program, never the user's input. */
void bug_abort(const char *file, int line, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

#define BUG_ON(cond, ...)                                   \
    do {                                                    \
        if (cond) bug_abort(__FILE__, __LINE__, __VA_ARGS__); \
    } while (0)

#endif
