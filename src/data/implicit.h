/* Preference rows whose answers hold the prompt. */
#ifndef SAIL_DATA_IMPLICIT_H
#define SAIL_DATA_IMPLICIT_H

#include <jansson.h>
#include <stdbool.h>

/* *out: a copy of the row (new reference) with prompt, chosen and rejected apart. Gives NULL, or why that cannot be; *out is to be released either way. */
const char *implicit_split(json_t *row, json_t **out);

bool row_is_messages(const json_t *v); /* a list of {"role", ...} */

#endif
