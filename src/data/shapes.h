/* Rows as people keep them, brought to the shapes that dataset.c reads: conversations of other tools become messages, tools and template arguments
 * go where templates look for them; what fits no shape is said field by field. */
#ifndef SAIL_DATA_SHAPES_H
#define SAIL_DATA_SHAPES_H

#include <jansson.h>
#include <stdbool.h>

/* Changes the row in place (its values stay as they are: they may be shared). NULL, or what was expected where and what is there; free() it. */
char *shape_row(json_t *row, bool prompts_only);

#endif
