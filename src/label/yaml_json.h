/* A YAML (or JSON, which is YAML) document as JSON values: plain scalars become numbers, booleans, null or strings. */
#ifndef SAIL_LABEL_YAML_JSON_H
#define SAIL_LABEL_YAML_JSON_H

#include <jansson.h>

#include "sail.h"

int yaml_json_read(const char *path, json_t **out, sail_err *err);

#endif
