/* Regular expressions over module names, in Python's spelling, as PEFT's settings have them. */
#ifndef SAIL_MODEL_NAME_RULE_H
#define SAIL_MODEL_NAME_RULE_H

#include <stdbool.h>
#include <stddef.h>

#include "sail.h"

struct name_rule;
/* before + pattern + after is compiled; what names the setting in errors. */
int name_rule_create(struct name_rule **out, const char *before, const char *pattern, const char *after, const char *what, sail_err *err);
/* At the name's start, as re.match. A pattern that searches without end is an error. */
int name_rule_matches(const struct name_rule *r, const char *name, bool *yes, sail_err *err);
void name_rule_free(struct name_rule *r);

struct name_rules {
    struct name_rule **rule;
    size_t n;
};
int name_rules_add(struct name_rules *list, const char *before, const char *pattern, const char *after, const char *what, sail_err *err);
/* Index of the first that matches, -1: none. */
int name_rules_find(const struct name_rules *list, const char *name, int *index, sail_err *err);
void name_rules_release(struct name_rules *list);

/* PEFT's rule for lists: the whole name, or its end after a dot. */
bool name_ends_with(const char *name, const char *entry);

#endif
