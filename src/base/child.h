/* Work in a process of its own: it shares nothing with its parent but the state at its start, and its error comes back. */
#ifndef SAIL_BASE_CHILD_H
#define SAIL_BASE_CHILD_H

#include <sys/types.h>

#include "sail.h"

struct child {
    pid_t pid;
    int report; /* readable when the child has ended */
};

/* The child ends with its parent, however that ends. Ctrl-C of a terminal reaches the parent alone, which passes it on. */
int child_start(struct child *c, int (*work)(void *context, sail_err *err), void *context, sail_err *err);
void child_interrupt(const struct child *c); /* asks for a clean stop */
/* Waits for the end; returns the work's status and its error. */
int child_join(struct child *c, sail_err *err);

#endif
