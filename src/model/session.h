/* The mutable side of a model: one arena for the activations of a pass, grown between passes only. */
#ifndef SAIL_MODEL_SESSION_H
#define SAIL_MODEL_SESSION_H

#include "model/internal.h"

struct session {
    struct arena arena;
    bool kept; /* a forward with activations is waiting for its backward */
    struct adapter *adapter;
    struct packing packing;
    struct layer_acts *acts; /* (n_layer) */
    float *x_last;           /* (N, C) after the last block */
    float *gathered;         /* (n_target, C) x_last at the rows that predict, or (n_sequence, C) for reward heads */
    float *stat_last;
    void *h_last;            /* (n_target, C) normed, compute dtype */
    float *logp, *lse;       /* (n_target) */
    struct block_scratch scratch;
};
/* Room for a pass over these sequences; the arena is empty afterwards. */
int session_prepare(struct model *m, const struct adapter *a, const struct sequences *s, bool keep, sail_err *err);
/* Block i of the pass, from its input acts[i].x1 to x3. */
void session_run_block(struct model *m, const struct adapter *a, int64_t i, float *x3);
/* predictions.c: of the pass that just ran */
int predictions_take(struct predictions *out, struct policy p, sail_err *err);
/* What a pass takes from the arena beside its packing. */
size_t pass_bytes(const struct model *m, const struct adapter *a, int64_t rows, int64_t targets, bool keep);
/* What model_backward takes from the arena on top of the forward. */
size_t backward_bytes(const struct model *m, const struct adapter *a, int64_t rows, int64_t targets);

#endif
