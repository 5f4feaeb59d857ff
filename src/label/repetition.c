/* How much of an answer says again what it said before. */
#include <stdlib.h>
#include <string.h>

#include "label/labeler.h"

enum { RUN = sizeof((struct token_run *)0)->id / sizeof(int32_t) };

static int by_ids(const void *a, const void *b) { return memcmp(a, b, sizeof(struct token_run)); }

double label_repetition(const int32_t *ids, int32_t n, struct token_run *work)
{
    const int32_t runs = n - RUN + 1;
    int32_t again = 0;
    if (runs < 2) return 0;
    for (int32_t t = 0; t < runs; t++) memcpy(work[t].id, ids + t, sizeof work[t].id);
    qsort(work, (size_t)runs, sizeof *work, by_ids);
    for (int32_t t = 1; t < runs; t++) again += !by_ids(&work[t - 1], &work[t]);
    return (double)again / runs;
}
