/* From texts to ids for one model: its tokenizer, its chat template, and what ends an answer. */
#ifndef SAIL_DATA_TEXT_PIPELINE_H
#define SAIL_DATA_TEXT_PIPELINE_H

#include "data/dataset.h"

struct text_pipeline {
    struct tokenizer *tokenizer;    /* NULL: the model has none, rows of ids only */
    struct chat_template *template; /* NULL: none */
    struct dataset_options options; /* tokenizer, template, eos and turn_end filled in; the columns too; limits are the caller's */
};
/* path: model folder or .gguf. eos: the model's own end ids, used where the tokenizer names none. config: the names of the data's columns; it must
 * outlive the pipeline. */
int text_pipeline_open(struct text_pipeline *t, const char *path, const int32_t *eos, int n_eos, const sail_config *config, sail_err *err);
void text_pipeline_close(struct text_pipeline *t);
/* Both folders hold the same tokenizer.json, byte for byte. */
bool text_pipeline_same_tokenizer(const char *a, const char *b);

#endif
