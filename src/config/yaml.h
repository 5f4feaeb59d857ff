/* Flat YAML: one mapping of scalars; a sequence of scalars becomes a comma list, a mapping to scalars a JSON object. */
#ifndef SAIL_CONFIG_YAML_H
#define SAIL_CONFIG_YAML_H

#include "base/mem.h"
#include "sail.h"

/* Calls set(context, key, value) for every pair; its error gets file and line in front. */
int yaml_read_flat(const char *path, int (*set)(void *context, const char *key, const char *value, sail_err *err), void *context, sail_err *err);
/* A scalar as JSON: plain numbers as they are, anything else as a string. */
void yaml_put_json(struct buf *out, const char *value, bool plain);

#endif
