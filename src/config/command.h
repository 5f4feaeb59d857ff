/* The commands: name, what it does, how it is called. */
#ifndef SAIL_CONFIG_COMMAND_H
#define SAIL_CONFIG_COMMAND_H

#include "config/config.h"

struct command_row {
    enum command id;
    const char *name, *summary, *usage;
    bool takes_action; /* one positional word */
    const char *more;  /* what --help says below the usage; NULL: nothing */
};
const struct command_row *command_find(const char *name); /* NULL: unknown */
const struct command_row *command_at(int i);              /* NULL after the last */

/* The name among names[0..n) nearest to what was typed, or NULL when none is near. */
const char *nearest_name(const char *typed, const char *const *names, int n);

#endif
