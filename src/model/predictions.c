/* One policy's predictions kept while another learns from them. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/session.h"

void predictions_release(struct predictions *q)
{
    free(q->h);
    free(q->lse);
    *q = (struct predictions){0};
}

/* Room for `bytes`; what was there is lost. */
static int reserve(void *slot, size_t *have, size_t bytes, sail_err *err)
{
    void **p = slot;
    if (bytes <= *have) return SAIL_OK;
    free(*p);
    *p = NULL;
    *have = 0;
    int rc = mem_alloc(p, bytes + bytes / 4, 1, err);
    if (!rc) *have = bytes + bytes / 4;
    return rc;
}

int predictions_take(struct predictions *out, struct policy p, sail_err *err)
{
    const struct model *m = p.model;
    const struct session *q = m->session;
    const size_t n = (size_t)q->packing.n_target, width = (size_t)m->config.hidden * dtype_size(m->options.compute);
    int rc = reserve(&out->h, &out->h_bytes, n * width, err);
    if (!rc) rc = reserve(&out->lse, &out->lse_bytes, n * sizeof *out->lse, err);
    if (rc) return rc;
    memcpy(out->h, q->h_last, n * width);
    memcpy(out->lse, q->lse, n * sizeof *out->lse);
    out->policy = p;
    out->n = (int64_t)n;
    return SAIL_OK;
}
