/* Flat YAML: one mapping of scalars; a sequence of scalars becomes a comma list. */
#ifndef SAIL_CONFIG_YAML_H
#define SAIL_CONFIG_YAML_H

#include "sail.h"

/* Calls set(context, key, value) for every pair; its error gets file and line in front. */
int yaml_read_flat(const char *path, int (*set)(void *context, const char *key, const char *value, sail_err *err), void *context, sail_err *err);

#endif
