/* How much of an answer says again what it said before. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "label/labeler.h"

enum { RUN = 4 };
struct token_run {
    int32_t id[RUN];
};

static int by_ids(const void *a, const void *b) { return memcmp(a, b, sizeof(struct token_run)); }

int label_repetition(double *share, const int32_t *ids, int32_t n, sail_err *err)
{
    const int32_t runs = n - RUN + 1;
    struct token_run *sorted;
    int32_t again = 0;
    *share = 0;
    if (runs < 2) return SAIL_OK;
    if (mem_alloc(&sorted, (size_t)runs, sizeof *sorted, err)) return SAIL_FAILED;
    for (int32_t t = 0; t < runs; t++) memcpy(sorted[t].id, ids + t, sizeof sorted[t].id);
    qsort(sorted, (size_t)runs, sizeof *sorted, by_ids);
    for (int32_t t = 1; t < runs; t++) again += !by_ids(&sorted[t - 1], &sorted[t]);
    *share = (double)again / runs;
    free(sorted);
    return SAIL_OK;
}
