/* Answers of several models to the same prompts, brought together two by two. */
#ifndef SAIL_JOBS_MEETINGS_H
#define SAIL_JOBS_MEETINGS_H

#include "data/text_pipeline.h"

struct meeting {
    const char *answers;  /* a file of `sail generate`, one answer to each prompt */
    bool same_tokenizer;  /* its ids are the policy's */
    bool fresh;           /* it met nobody yet */
};
struct meetings_spent {
    int64_t pairs, tokens; /* tokens of fresh answers */
};
/* Rows for `sail label`: of each prompt every two answers of which one is fresh, side by side; two that are alike meet not. Ids are those of the policy's tokenizer. */
int meetings_write(const char *path, const struct meeting *of, int n, const struct text_pipeline *policy, struct meetings_spent *spent, sail_err *err);

#endif
