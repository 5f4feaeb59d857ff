/* A labeler is two functions and its own state behind this head. */
#ifndef SAIL_LABEL_INTERNAL_H
#define SAIL_LABEL_INTERNAL_H

#include <math.h>

#include "label/labeler.h"

struct labeler {
    const char *name;
    int64_t bad; /* answers that were no verdict */
    bool compares; /* it says which of two answers is better, and nothing of one alone */
    int (*ask)(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err);
    void (*close)(struct labeler *l);
};

#endif
