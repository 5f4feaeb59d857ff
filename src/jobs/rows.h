/* Data-set rows as a batch: what score, grad and the bench share. */
#ifndef SAIL_JOBS_ROWS_H
#define SAIL_JOBS_ROWS_H

#include "batch/batch.h"
#include "data/dataset.h"
#include "model/model.h"

struct row_pool {
    int32_t *ids;
    size_t capacity;
};
void row_pool_release(struct row_pool *p);
/* Rows [from, from + n) of the data set (taken modulo its length): chosen and rejected side by side, with their pair; or one row each. */
int rows_fill(struct batch *b, struct row_pool *pool, const struct dataset *d, int64_t from, int64_t n, sail_err *err);
/* All unpaired rows; limit > 0: a mismatched row behind each, of `limit` tokens at most. */
int rows_fill_unpaired(struct batch *b, struct row_pool *pool, const struct dataset *d, int64_t limit, sail_err *err);
/* Every row against the model's vocabulary and context; errors name file and line. */
int rows_check(const struct dataset *d, const struct model *m, sail_err *err);

#endif
