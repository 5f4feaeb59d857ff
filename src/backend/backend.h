/* The table of operations. ref/ defines the meaning of every entry (scalar, double accumulation); cpu/ overlays it entry by
 * entry with fast kernels of the same basename. `ops` points at the active table. */
#ifndef SAIL_BACKEND_BACKEND_H
#define SAIL_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "sail.h"
#include "tensor/tensor.h"

enum { WEIGHT_MAX_PARTS = 3 };

/* A matrix of (n_out, n_in), made of up to three parts stacked along n_out (q, k, v; gate, up): one product serves all.
 * A part is row-major (n_out, n_in) with row stride n_in, or (n_in, n_out) with row stride ld when transposed. */
struct weight_part {
    const void *data;
    enum dtype dtype; /* F32, BF16 or F16: as the file has it */
    int64_t n_out;
    int64_t ld;      /* row stride in elements */
    bool transposed; /* Conv1D: stored (n_in, n_out) */
};
struct weight {
    struct weight_part part[WEIGHT_MAX_PARTS];
    int n_part;
    int64_t n_out, n_in; /* n_out: sum over parts */
    enum dtype compute;  /* set by weight_prepare */
    void *pack;          /* the backend's own */
    bool self_contained;       /* set by weight_prepare: the products need the source no more (weight_refresh does) */
};

/* Query rows [start, start + n) attend to key rows [prefix, prefix + n_prefix), all of them, and causally to themselves.
 * Positions: prefix row j is at j, query row i at n_prefix + i. */
struct attn_segment {
    int64_t start, n, prefix, n_prefix;
};
enum { CACHE_BLOCK = 64 };
/* Row i's keys: cache rows [prefix, prefix + n_prefix) then [start, start + n); the query is at the last position, n >= 1. Both begin at a block. */
struct attn_cache_row {
    int64_t prefix, n_prefix, start, n;
};
/* Packed rows [from, from + n) go to cache rows from `to` on, where a block begins. */
struct cache_range {
    int64_t from, n, to;
};
struct attn_shape {
    int64_t n_head, n_kv, d;
    float scale;
    int64_t window;
    float softcap;
};

enum { WEIGHT_STRETCH = 512 };

/* AdamW with everything that is the same for all elements worked out. */
struct adamw_step {
    double beta1, beta2, eps;
    double scale; /* of the gradient: clipping */
    double decay; /* of the value: 1 - lr weight_decay */
    double rate;  /* lr / (1 - beta1^t) */
    double root;  /* sqrt(1 - beta2^t) */
};

enum activation { ACT_SILU, ACT_GELU, ACT_GELU_TANH, ACT_RELU };
enum { N_ACTIVATION = ACT_RELU + 1 };

struct backend_ops {
#define OP(type, name, args) type(*name) args;
#include "backend/ops.def"
#undef OP
};

extern const struct backend_ops *ops; /* the active table; the fast one unless backend_select says otherwise */

/* "cpu" or "ref". */
int backend_select(const char *name, sail_err *err);
void backend_threads(int n); /* 0: all cores */
int backend_thread_count(void);
bool backend_bf16_fast(void); /* this processor has bf16 products */
/* The type of products that "f32" or "bf16" asks for; NULL: bf16 where it is fast. */
enum dtype backend_compute(const char *name);
/* Measured in this process: GFLOP/s of a dot-product loop on all threads for the compute dtype (about 0.2 s). */
double backend_peak_gflops(enum dtype compute);
double backend_memory_gbs(void);
/* "AVX-512 BF16" and the like. */
const char *backend_describe(void);

void ref_fill(struct backend_ops *table);
void cpu_fill(struct backend_ops *table); /* overlays what it has */

/* Tests only: breaks one op of the active table ("rmsnorm_bwd_acc", ...) by flipping a sign; false if there is none. */
bool backend_break(const char *op);

#endif
