#include "label/internal.h"

#include <stdlib.h>

void labeler_close(struct labeler *l)
{
    if (!l) return;
    l->close(l);
}

const char *labeler_name(const struct labeler *l) { return l->name; }
bool labeler_compares(const struct labeler *l) { return l->compares; }
int64_t labeler_bad_answers(const struct labeler *l) { return l->bad; }

int labeler_ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    a->p = NAN;
    for (int i = 0; i < q->n; i++) a->reward[i] = NAN;
    return l->ask(l, q, a, err);
}
