/* The columns that a data set reads from a row, under the data's own names where the user gave some (--prompt-field question). */
#ifndef SAIL_DATA_COLUMNS_H
#define SAIL_DATA_COLUMNS_H

#include <jansson.h>
#include <stdbool.h>

#include "config/config.h"

#define COLUMNS(X) \
    X(prompt) X(completion) X(chosen) X(rejected) X(label) X(messages) X(text) X(tools) X(p) X(margin) X(score_chosen) X(score_rejected) \
    X(prompt_ids) X(completion_ids) X(chosen_ids) X(rejected_ids)

enum column {
#define COLUMN(name) COLUMN_##name,
    COLUMNS(COLUMN)
#undef COLUMN
    COLUMN_COUNT
};

struct columns {
    const char *field[COLUMN_COUNT]; /* borrowed from the configuration; NULL: the column's own name. A dot goes into an object: extra_info.question */
};

void columns_read(struct columns *c, const sail_config *config);
/* The row under the names of this table, without what is null; a new reference. A field that is not there is an error that names those that are:
 * *why then says so (free() it). With prompts_only fields of other columns may be missing. A label that was given a name may be 1 or 0. */
json_t *columns_apply(const struct columns *c, json_t *row, bool prompts_only, char **why);
/* Whether a row's field of this name is read: for row_reader_open. */
bool columns_need(const void *columns, const char *field);
/* The row's own names, for messages: "prompt, chosen"; free() it. */
char *columns_list(json_t *row);

#endif
