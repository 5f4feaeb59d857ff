/* Rows that come one by one: from preference rows, and whose completion stands in as a mismatched one. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "data/dataset.h"

int dataset_unpair(struct dataset *d, sail_err *err)
{
    struct example *half;
    json_t **row;
    for (int64_t i = 0; i < d->n; i++)
        if (d->example[i].p != 1)
            return err_set(err, SAIL_FAILED, "%s:%lld: 'p' is %g: taken apart, an answer is desirable or it is not; leave 'p' out or take a method of pairs",
                           dataset_file(d, &d->example[i]), (long long)d->example[i].line, d->example[i].p);
    int rc = mem_alloc(&half, 2 * (size_t)d->n, sizeof *half, err);
    if (rc) return rc;
    if ((rc = mem_alloc(&row, 2 * (size_t)d->n, sizeof *row, err))) return free(half), rc;
    for (int64_t k = 0; k < 2 * d->n; k++) {
        const struct example *e = &d->example[k / 2];
        half[k] = *e;
        half[k].label = k % 2 == 0;
        half[k].completion = half[k].label ? e->chosen : e->rejected;
        half[k].chosen = half[k].rejected = (struct span){0};
        row[k] = k % 2 ? json_incref(d->row[k / 2]) : d->row[k / 2];
    }
    free(d->example);
    free(d->row);
    d->example = half;
    d->row = row;
    d->n *= 2;
    d->kind = DATA_UNPAIRED;
    return SAIL_OK;
}

int dataset_keep_desirable(struct dataset *d, int64_t *dropped, sail_err *err)
{
    int64_t kept = 0;
    *dropped = 0;
    for (int64_t i = 0; d->kind == DATA_UNPAIRED && i < d->n; i++) {
        if (!d->example[i].label) {
            json_decref(d->row[i]);
            ++*dropped;
            continue;
        }
        d->example[kept] = d->example[i];
        d->row[kept++] = d->row[i];
    }
    d->n -= *dropped;
    return d->n || !*dropped ? SAIL_OK : err_set(err, SAIL_FAILED, "%s: the label of every row is false: expected answers to learn from", d->path);
}

static bool same_prompt(const struct dataset *d, int64_t a, int64_t b)
{
    const struct span x = d->example[a].prompt, y = d->example[b].prompt;
    return x.n == y.n && !memcmp(dataset_ids(d, x), dataset_ids(d, y), (size_t)x.n * sizeof *d->ids);
}

int64_t dataset_mismatch(const struct dataset *d, const int64_t *rows, int64_t n, int64_t i)
{
    for (int64_t step = 1; step < n; step++) {
        const int64_t other = rows[(i + step) % n];
        if (!same_prompt(d, rows[i], other)) return other;
    }
    return -1;
}
