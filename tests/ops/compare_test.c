/* Every operation of ops.def, fast against reference, in both types and at every level of the processor; and the canary:
 * with an operation broken its check must go red. The list comes from ops.def: an operation without a check does not compile. */
#include "ops.h"

#include "backend/cpu/cpu.h"

static struct backend_ops ref;
static const double u = 0x1p-24; // half a unit in the last place of f32 at 1

/* A weight of n_part parts: mixed types, the last one transposed, over borrowed guarded memory. */
static struct weight make_weight(const struct setting *s, int n_part, const int64_t *rows, int64_t n_in, const enum dtype *type,
                                 double size)
{
    struct weight w = {.n_part = n_part, .n_in = n_in};
    for (int i = 0; i < n_part; i++) {
        bool transposed = i == 2;
        int64_t ld = transposed ? rows[i] + 3 : n_in;
        w.part[i] = (struct weight_part){.data = values(s, type[i], transposed ? n_in * ld : rows[i] * ld, size),
                                         .dtype = type[i],
                                         .n_out = rows[i],
                                         .ld = ld,
                                         .transposed = transposed};
        w.n_out += rows[i];
    }
    return w;
}

static const struct {
    int n_part;
    int64_t rows[3], n_in, m;
    enum dtype type[3];
} product_case[] = {
    {1, {1}, 1, 1, {DTYPE_F32}},
    {1, {70}, 33, 5, {DTYPE_BF16}},
    {1, {64}, 96, 1, {DTYPE_F16}},
    {2, {31, 40}, 64, 17, {DTYPE_F32, DTYPE_BF16}},
    {3, {33, 7, 45}, 131, 29, {DTYPE_BF16, DTYPE_F16, DTYPE_F32}},
    {3, {128, 16, 50}, 258, 100, {DTYPE_F32, DTYPE_F32, DTYPE_BF16}},
    {1, {5000}, 20, 3, {DTYPE_BF16}},
    {1, {40}, 24, 0, {DTYPE_F32}},
};
enum { N_PRODUCT = sizeof product_case / sizeof *product_case };

static bool product_check(const struct setting *s, bool backward, int i, enum dtype yt, bool accumulate, bool with_bias,
                          bool refresh)
{
    int64_t m = product_case[i].m;
    struct weight w = make_weight(s, product_case[i].n_part, product_case[i].rows, product_case[i].n_in, product_case[i].type, 1),
                  wr = w;
    int64_t nx = backward ? w.n_out : w.n_in, ny = backward ? w.n_in : w.n_out, ldx = nx + 3, ldy = ny + 5;
    void *x = values(s, s->t, m * ldx + 1, 1);
    float *bias = with_bias ? values(s, DTYPE_F32, ny, 1) : NULL;
    struct twin y = twin_make(s, yt, m * ldy);
    float alpha = s->integers ? 2 : 0.37f;
    assert_ok(ops->weight_prepare(&w, s->t, err));
    assert_ok(ref.weight_prepare(&wr, s->t, err));
    if (refresh) { // the source changes under the layouts
        for (int p = 0; p < w.n_part; p++) value_set((void *)w.part[p].data, w.part[p].dtype, 0, s->integers ? 5 : 2.5);
        ops->weight_refresh(&w);
        ref.weight_refresh(&wr);
    }
    if (backward) {
        ops->linear_bwd_x(y.fast, yt, ldy, x, s->t, ldx, &w, m, alpha, accumulate);
        ref.linear_bwd_x(y.ref, yt, ldy, x, s->t, ldx, &wr, m, alpha, accumulate);
    } else {
        ops->linear_fwd(y.fast, yt, ldy, x, s->t, ldx, &w, bias, m, alpha, accumulate);
        ref.linear_fwd(y.ref, yt, ldy, x, s->t, ldx, &wr, bias, m, alpha, accumulate);
    }
    ops->weight_release(&w);
    ref.weight_release(&wr);
    // every term rounds once in the product and once in the sum
    return twin_same(s, backward ? "linear_bwd_x" : "linear_fwd", y, s->integers ? 0 : 2 * (double)(nx + 4) * u * 2.5, 0);
}

static bool products_check(const struct setting *s, bool backward, bool refresh)
{
    bool same = true;
    for (int i = 0; i < N_PRODUCT && same; i++)
        for (int k = 0; k < 4 && same; k++)
            same = product_check(s, backward, i, k & 1 ? DTYPE_BF16 : DTYPE_F32, k & 2, !backward && !(k & 1), refresh);
    return same;
}

static bool check_weight_prepare(const struct setting *s) { return products_check(s, false, false); }
static bool check_weight_refresh(const struct setting *s)
{
    return products_check(s, false, true) && products_check(s, true, true);
}
/* Room for every value, and for whole panels no more than a few rows; the reference makes no layout. */
static bool check_weight_bytes(const struct setting *s)
{
    bool right = true;
    for (int64_t n_out = 1; n_out < 300; n_out += 37) {
        const size_t got = ops->weight_bytes(n_out, 65, s->t), least = (size_t)(n_out * 65) * dtype_size(s->t);
        right = right && got >= least && got <= (size_t)((n_out + 64) * 66) * sizeof(float) && ref.weight_bytes(n_out, 65, s->t) == 0;
    }
    return right;
}
static bool check_weight_release(const struct setting *s)
{
    struct weight w = make_weight(s, 1, (int64_t[]){8}, 8, (enum dtype[]){DTYPE_F32}, 1);
    ops->weight_release(&w); // never prepared
    assert_ok(ops->weight_prepare(&w, s->t, err));
    ops->weight_release(&w);
    ops->weight_release(&w);
    return !w.pack;
}
static bool check_linear_fwd(const struct setting *s) { return products_check(s, false, false); }
static bool check_linear_bwd_x(const struct setting *s) { return products_check(s, true, false); }

static bool check_linear_bwd_w(const struct setting *s)
{
    static const int64_t shape[][3] = {{1, 1, 1}, {20, 50, 7}, {64, 33, 300}, {70, 16, 1029}, {15, 40, 0}}; // n_out, n_in, m
    bool same = true;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 4; k++) {
            int64_t n_out = shape[i][0], n_in = shape[i][1], m = shape[i][2];
            enum dtype xt = k & 2 ? DTYPE_F32 : s->t;
            void *dy = values(s, s->t, m * (n_out + 2), 1), *x = values(s, xt, m * (n_in + 1), 1);
            struct twin dw = twin_make(s, DTYPE_F32, n_out * n_in);
            ops->linear_bwd_w(dw.fast, dy, s->t, n_out + 2, x, xt, n_in + 1, n_out, n_in, m, 0.5f, k & 1);
            ref.linear_bwd_w(dw.ref, dy, s->t, n_out + 2, x, xt, n_in + 1, n_out, n_in, m, 0.5f, k & 1);
            same = same && twin_same(s, "linear_bwd_w", dw, s->integers ? 0 : 2 * (double)(m + 4) * u, 0);
        }
    return same;
}

static bool check_bias_bwd(const struct setting *s)
{
    bool same = true;
    for (int64_t m = 0; m < 300; m += 99) {
        void *dy = values(s, s->t, m * 75, 1);
        struct twin db = twin_make(s, DTYPE_F32, 71);
        ops->bias_bwd(db.fast, dy, s->t, 75, m, 71);
        ref.bias_bwd(db.ref, dy, s->t, 75, m, 71);
        // each addition rounds a partial sum; those of m numbers from -1 to 1 stay within four of their standard deviations, sqrt(m / 3)
        same = same && twin_same(s, "bias_bwd", db, s->integers ? 0 : (double)(m + 1) * u * (1 + 4 * sqrt((double)m / 3)), 0);
    }
    return same;
}

static bool check_embed_fwd(const struct setting *s)
{
    static const enum dtype type[3] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    bool same = true;
    for (int i = 0; i < 3; i++) {
        struct weight w = make_weight(s, 1, (int64_t[]){50}, 37, type + i, 1);
        int32_t *ids = indices(s, 29, 50);
        struct twin y = twin_make(s, DTYPE_F32, 29 * 37);
        assert_ok(ops->weight_prepare(&w, s->t, err));
        ops->embed_fwd(y.fast, &w, ids, 29, i ? 1 : 1.5f);
        ref.embed_fwd(y.ref, &w, ids, 29, i ? 1 : 1.5f);
        ops->weight_release(&w);
        same = same && twin_same(s, "embed_fwd", y, 0, 2 * u);
    }
    return same;
}

static bool check_embed_bwd(const struct setting *s)
{
    int32_t *ids = indices(s, 900, 20);
    float *dy = values(s, DTYPE_F32, 900 * 37, 1);
    struct twin dw = twin_make(s, DTYPE_F32, 20 * 37);
    ops->embed_bwd(dw.fast, dy, ids, 900, 37, 0.5f);
    ref.embed_bwd(dw.ref, dy, ids, 900, 37, 0.5f);
    return twin_same(s, "embed_bwd", dw, s->integers ? 0 : 100 * 100 * u, 0);
}

static const int64_t norm_shape[][2] = {{1, 1}, {3, 5}, {7, 64}, {70, 576}, {0, 8}, {130, 33}};
enum { N_NORM = 6 };

static bool check_rmsnorm_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_NORM; i++) {
        int64_t rows = norm_shape[i][0], c = norm_shape[i][1];
        enum dtype xt = i & 1 ? DTYPE_F32 : s->t;
        void *x = values(s, xt, rows * c, 3);
        float *w = values(s, DTYPE_F32, c, 1);
        struct twin y = twin_make(s, s->t, rows * c), rstd = twin_make(s, DTYPE_F32, rows);
        ops->rmsnorm_fwd(y.fast, s->t, rstd.fast, x, xt, w, rows, c, 1e-5f, i & 1);
        ref.rmsnorm_fwd(y.ref, s->t, rstd.ref, x, xt, w, rows, c, 1e-5f, i & 1);
        same = same && twin_same(s, "rmsnorm_fwd y", y, 0, (double)(c + 10) * u) &&
               twin_same(s, "rmsnorm_fwd rstd", rstd, 0, (double)(c + 10) * u);
    }
    return same;
}

static bool check_rmsnorm_bwd_acc(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_NORM; i++) {
        int64_t rows = norm_shape[i][0], c = norm_shape[i][1];
        enum dtype xt = i & 1 ? DTYPE_F32 : s->t;
        void *x = values(s, xt, rows * c, 3), *dy = values(s, s->t, rows * c, 1), *y = guarded_make(s, DTYPE_F32, rows * c);
        float *w = values(s, DTYPE_F32, c, 1), *rstd = guarded_make(s, DTYPE_F32, rows);
        struct twin dx = twin_make(s, DTYPE_F32, rows * c), dw = twin_make(s, DTYPE_F32, c);
        ref.rmsnorm_fwd(y, DTYPE_F32, rstd, x, xt, w, rows, c, 1e-5f, i & 1);
        ops->rmsnorm_bwd_acc(dx.fast, i == 2 ? NULL : dw.fast, dy, s->t, x, xt, w, rstd, rows, c, i & 1);
        ref.rmsnorm_bwd_acc(dx.ref, i == 2 ? NULL : dw.ref, dy, s->t, x, xt, w, rstd, rows, c, i & 1);
        double big = 1; // the largest rstd: rows of one or a few elements may be near zero
        for (int64_t r = 0; r < rows; r++) big = fmax(big, rstd[r]);
        same = same && twin_same(s, "rmsnorm_bwd_acc dx", dx, 32 * (double)(c + 10) * u * big, 0) &&
               twin_same(s, "rmsnorm_bwd_acc dw", dw, 8 * (double)(rows + 10) * u * (c > 1 ? 3 : 1), 0);
    }
    return same;
}

static bool check_layernorm_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 1; i < N_NORM; i++) {
        int64_t rows = norm_shape[i][0], c = norm_shape[i][1];
        enum dtype xt = i & 1 ? DTYPE_F32 : s->t;
        void *x = values(s, xt, rows * c, 3);
        float *w = values(s, DTYPE_F32, c, 1), *b = i == 3 ? NULL : values(s, DTYPE_F32, c, 1);
        struct twin y = twin_make(s, s->t, rows * c), stat = twin_make(s, DTYPE_F32, 2 * rows);
        ops->layernorm_fwd(y.fast, s->t, stat.fast, x, xt, w, b, rows, c, 1e-5f);
        ref.layernorm_fwd(y.ref, s->t, stat.ref, x, xt, w, b, rows, c, 1e-5f);
        same = same && twin_same(s, "layernorm_fwd y", y, 16 * (double)(c + 10) * u, 0) &&
               twin_same(s, "layernorm_fwd stat", stat, 3 * (double)(c + 10) * u, (double)(c + 10) * u);
    }
    return same;
}

static bool check_layernorm_bwd_acc(const struct setting *s)
{
    bool same = true;
    for (int i = 1; i < N_NORM; i++) {
        int64_t rows = norm_shape[i][0], c = norm_shape[i][1];
        enum dtype xt = i & 1 ? DTYPE_F32 : s->t;
        void *x = values(s, xt, rows * c, 3), *dy = values(s, s->t, rows * c, 1), *y = guarded_make(s, DTYPE_F32, rows * c);
        float *w = values(s, DTYPE_F32, c, 1), *b = values(s, DTYPE_F32, c, 1), *stat = guarded_make(s, DTYPE_F32, 2 * rows);
        struct twin dx = twin_make(s, DTYPE_F32, rows * c), dw = twin_make(s, DTYPE_F32, c), db = twin_make(s, DTYPE_F32, c);
        ref.layernorm_fwd(y, DTYPE_F32, stat, x, xt, w, b, rows, c, 1e-5f);
        ops->layernorm_bwd_acc(dx.fast, dw.fast, db.fast, dy, s->t, x, xt, w, stat, rows, c);
        ref.layernorm_bwd_acc(dx.ref, dw.ref, db.ref, dy, s->t, x, xt, w, stat, rows, c);
        same = same && twin_same(s, "layernorm_bwd_acc dx", dx, 64 * (double)(c + 10) * u, 0) &&
               twin_same(s, "layernorm_bwd_acc dw", dw, 16 * (double)(rows + 10) * u, 0) &&
               twin_same(s, "layernorm_bwd_acc db", db, 8 * (double)(rows + 10) * u, 0);
    }
    return same;
}

static bool rope_check(const struct setting *s, bool backward)
{
    static const int64_t shape[][4] = {
        {1, 1, 2, 2}, {9, 3, 64, 64}, {40, 2, 80, 20}, {5, 4, 20, 14}, {0, 2, 8, 8}}; // n, heads, d, rot
    bool same = true;
    for (int i = 0; i < 5; i++) {
        int64_t n = shape[i][0], heads = shape[i][1], d = shape[i][2], rot = shape[i][3], ld = heads * d + 6;
        float *cosine = values(s, DTYPE_F32, 50 * rot / 2, 1), *sine = values(s, DTYPE_F32, 50 * rot / 2, 1);
        int32_t *pos = indices(s, n, 50);
        struct twin x = twin_make(s, s->t, n * ld);
        (backward ? ops->rope_bwd : ops->rope_fwd)(x.fast, s->t, ld, pos, cosine, sine, n, heads, d, rot);
        (backward ? ref.rope_bwd : ref.rope_fwd)(x.ref, s->t, ld, pos, cosine, sine, n, heads, d, rot);
        same = same && twin_same(s, "rope", x, s->integers ? 0 : 8 * u, 0);
    }
    return same;
}
static bool check_rope_fwd(const struct setting *s) { return rope_check(s, false); }
static bool check_rope_bwd(const struct setting *s) { return rope_check(s, true); }

/* ---------------------------------------------------------------- attention */

/* Two prompts with three and one answers, a lone sequence, a prefix longer than a block, one row alone. */
static const struct attn_segment segments[] = {
    {0, 70, 0, 0},   {70, 5, 0, 70},     {75, 130, 0, 70}, {205, 1, 0, 70},
    {206, 64, 0, 0}, {270, 63, 206, 64}, {333, 1, 0, 0},   {334, 97, 0, 0},
};
enum { N_SEGMENT = 8, N_ROW = 431 + 4 }; // the last four rows belong to nobody

static const struct attn_shape attn_case[] = {
    {4, 2, 16, 0.25f, 0, 0},   {3, 1, 64, 0.125f, 0, 0}, {2, 2, 40, 0.15f, 0, 0},     {6, 2, 20, 0.2f, 33, 0},
    {2, 1, 32, 0.3f, 0, 2.5f}, {2, 1, 8, 0.5f, 1, 0},    {4, 4, 128, 0.08f, 100, 20},
};
enum { N_ATTN = sizeof attn_case / sizeof *attn_case };

/* What a score, a sum over d and the keys can lose: inputs are at most 1, exp() keeps relative errors. */
static double attn_tolerance(const struct attn_shape *a) { return (double)(a->d * 2 + 200) * u; }

/* In bf16 probabilities p and their gradients ds are rounded before they are multiplied, 2^-9 of each. A row of p sums to 1 and
 * |ds| <= 2 d p; a column of p over the queries that see a key sums to about ln n + 1, here at most 7, and twice that is allowed. */
static double attn_rounding(const struct setting *s) { return s->t == DTYPE_BF16 ? 0x1p-9 : 0; }

static bool check_attn_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ATTN; i++) {
        const struct attn_shape *a = &attn_case[i];
        int64_t ldq = a->n_head * a->d + 3, ldkv = a->n_kv * a->d + 5, ldo = a->n_head * a->d + 1;
        void *q = values(s, s->t, N_ROW * ldq, 1), *k = values(s, s->t, N_ROW * ldkv, 1), *v = values(s, s->t, N_ROW * ldkv, 1);
        struct twin o = twin_make(s, s->t, N_ROW * ldo), lse = twin_make(s, DTYPE_F32, N_ROW * a->n_head);
        ops->attn_fwd(o.fast, ldo, lse.fast, q, ldq, k, v, ldkv, s->t, segments, N_SEGMENT, a);
        ref.attn_fwd(o.ref, ldo, lse.ref, q, ldq, k, v, ldkv, s->t, segments, N_SEGMENT, a);
        double size = s->integers ? 27 : 1;
        same = same && twin_same(s, "attn_fwd o", o, (attn_tolerance(a) + attn_rounding(s)) * size, 0) &&
               twin_same(s, "attn_fwd lse", lse, attn_tolerance(a) * size, u);
    }
    return same;
}

static bool check_attn_bwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ATTN; i++) {
        const struct attn_shape *a = &attn_case[i];
        int64_t ldq = a->n_head * a->d + 3, ldkv = a->n_kv * a->d + 5, ldo = a->n_head * a->d + 1;
        void *q = values(s, s->t, N_ROW * ldq, 1), *k = values(s, s->t, N_ROW * ldkv, 1), *v = values(s, s->t, N_ROW * ldkv, 1);
        void *dout = values(s, s->t, N_ROW * ldo, 1), *o = values(s, s->t, N_ROW * ldo, 1);
        float *lse = values(s, DTYPE_F32, N_ROW * a->n_head, 1);
        struct twin dq = twin_make(s, s->t, N_ROW * ldq), dk = twin_make(s, s->t, N_ROW * ldkv),
                    dv = twin_make(s, s->t, N_ROW * ldkv);
        ref.attn_fwd(o, ldo, lse, q, ldq, k, v, ldkv, s->t, segments, N_SEGMENT, a);
        ops->attn_bwd(dq.fast, ldq, dk.fast, dv.fast, ldkv, dout, ldo, o, ldo, lse, q, ldq, k, v, ldkv, s->t, segments, N_SEGMENT,
                      a);
        ref.attn_bwd(dq.ref, ldq, dk.ref, dv.ref, ldkv, dout, ldo, o, ldo, lse, q, ldq, k, v, ldkv, s->t, segments, N_SEGMENT, a);
        double size = (s->integers ? 243 : 1) * (double)(a->n_head / a->n_kv); // sums over a group's heads; dp is a sum over d
        double rounded = attn_rounding(s), ds = 2 * (double)a->d * a->scale;
        same = same && twin_same(s, "attn_bwd dq", dq, (4 * attn_tolerance(a) + rounded * ds) * size, 0) &&
               twin_same(s, "attn_bwd dk", dk, (16 * attn_tolerance(a) + 14 * rounded * ds) * size, 0) &&
               twin_same(s, "attn_bwd dv", dv, (16 * attn_tolerance(a) + 14 * rounded) * size, 0);
    }
    return same;
}

/* Three answers of a prompt of 130 tokens, one whose own keys begin a block; two of a prompt of 40; rows without a prefix. */
static const struct attn_cache_row decode_row[] = {{0, 130, 256, 1}, {0, 130, 320, 35}, {0, 130, 384, 65}, {192, 40, 512, 64}, {192, 40, 576, 2}, {0, 0, 640, 1}, {0, 0, 704, 97}};
enum { N_DECODE = 7, N_PROMPT_RANGE = 2, DECODE_BLOCKS = 13, N_NEW = 300 };

/* A cache of one backend that nothing has been written to but these rows; what was there is not a number. */
static void *make_cache(const struct setting *s, const struct backend_ops *by, const void *k, const void *v, int64_t ldkv, const struct attn_shape *a)
{
    const size_t bytes = DECODE_BLOCKS * by->cache_block_bytes(s->t, a);
    void *cache = guarded_make(s, s->t, (int64_t)(bytes / dtype_size(s->t)));
    struct cache_range range[N_PROMPT_RANGE + N_DECODE] = {{0, 130, 0}, {130, 40, 192}};
    for (int r = 0; r < N_DECODE; r++) range[N_PROMPT_RANGE + r] = (struct cache_range){3 * r, decode_row[r].n - 1, decode_row[r].start};
    memset(cache, 0xFF, bytes);
    by->cache_store(cache, k, v, ldkv, s->t, range, N_PROMPT_RANGE + N_DECODE, a);
    return cache;
}

static bool decode_check(const struct setting *s)
{
    bool same = true;
    const size_t size = dtype_size(s->t);
    for (int i = 0; i < N_ATTN; i++) {
        const struct attn_shape *a = &attn_case[i];
        const int64_t ldq = a->n_head * a->d + 3, ldo = a->n_head * a->d + 1, ldkv = a->n_kv * a->d + 5;
        char *q = values(s, s->t, N_DECODE * ldq, 1), *k = values(s, s->t, N_NEW * ldkv, 1), *v = values(s, s->t, N_NEW * ldkv, 1);
        void *cache = make_cache(s, ops, k, v, ldkv, a), *wanted = make_cache(s, &ref, k, v, ldkv, a);
        struct twin o = twin_make(s, s->t, N_DECODE * ldo);
        char *alone = guarded_make(s, s->t, ldo);
        k += 200 * (size_t)ldkv * size, v += 200 * (size_t)ldkv * size; // of the new tokens
        ops->attn_decode(o.fast, ldo, cache, q, ldq, k, v, ldkv, s->t, decode_row, N_DECODE, a);
        ref.attn_decode(o.ref, ldo, wanted, q, ldq, k, v, ldkv, s->t, decode_row, N_DECODE, a);
        same = same && twin_same(s, "attn_decode", o, (attn_tolerance(a) + attn_rounding(s)) * (s->integers ? 27 : 1), 0);
        for (int r = 0; r < N_DECODE; r++) { // and the same bits without its neighbours
            ops->attn_decode(alone, ldo, cache, q + r * (size_t)ldq * size, ldq, k + r * (size_t)ldkv * size, v + r * (size_t)ldkv * size, ldkv, s->t, decode_row + r, 1, a);
            if (!memcmp(alone, (char *)o.fast + r * (size_t)ldo * size, (size_t)(a->n_head * a->d) * size)) continue;
            if (!s->quiet) print_message("attn_decode: row %d has other bits alone\n", r);
            same = false;
        }
        ops->attn_decode(o.fast, ldo, cache, q, ldq, k, v, ldkv, s->t, decode_row, 0, a);
    }
    return same;
}
static bool check_attn_decode(const struct setting *s) { return decode_check(s); }
static bool check_cache_store(const struct setting *s) { return decode_check(s); }
static bool check_cache_block_bytes(const struct setting *s)
{
    bool enough = true;
    for (int i = 0; i < N_ATTN; i++) {
        const size_t least = 2 * CACHE_BLOCK * (size_t)(attn_case[i].n_kv * attn_case[i].d) * dtype_size(s->t);
        enough = enough && ops->cache_block_bytes(s->t, &attn_case[i]) >= least && ref.cache_block_bytes(s->t, &attn_case[i]) == least;
    }
    return enough;
}

/* ---------------------------------------------------------------- activations, head, rows */


static bool check_glu_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ACTIVATION; i++)
        for (int64_t m = 0; m < 12; m += 4) {
            void *gu = values(s, s->t, m * 2 * 77, 9);
            struct twin y = twin_make(s, s->t, m * 77);
            ops->glu_fwd(y.fast, gu, s->t, m, 77, (enum activation)i);
            ref.glu_fwd(y.ref, gu, s->t, m, 77, (enum activation)i);
            same = same && twin_same(s, "glu_fwd", y, 81 * 8 * u, 8 * u);
        }
    return same;
}

/* Halves that fill panels and halves that do not, few rows and many: the bits of the product and the activation apart, which have checks of their own. */
static bool check_linear_glu_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < 8; i++) {
        const int64_t f = i & 1 ? 77 : 192, n_in = 50, m = (int64_t[]){0, 3, 29, 150}[i / 2];
        const size_t bytes = (size_t)(m * f) * dtype_size(s->t);
        const enum activation act = (enum activation)(i % N_ACTIVATION);
        void *x = values(s, s->t, m * n_in, 1);
        float *bias = i & 2 ? values(s, DTYPE_F32, 2 * f, 1) : NULL;
        struct weight w = make_weight(s, 2, (int64_t[]){f, f}, n_in, (enum dtype[]){DTYPE_BF16, DTYPE_F32}, 1);
        struct twin y = twin_make(s, s->t, m * f), gu = twin_make(s, s->t, m * 2 * f);
        assert_ok(ops->weight_prepare(&w, s->t, err));
        ops->linear_glu_fwd(y.fast, gu.fast, s->t, x, &w, bias, m, act);
        ops->linear_fwd(gu.ref, s->t, 2 * f, x, s->t, n_in, &w, bias, m, 1, false);
        ops->glu_fwd(y.ref, gu.ref, s->t, m, f, act);
        same = same && !memcmp(gu.fast, gu.ref, 2 * bytes) && !memcmp(y.fast, y.ref, bytes);
        ops->weight_release(&w);
    }
    return same;
}

static bool check_glu_bwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ACTIVATION; i++) {
        void *gu = values(s, s->t, 9 * 2 * 77, 9), *dy = values(s, s->t, 9 * 77, 1);
        struct twin d = twin_make(s, s->t, 9 * 2 * 77);
        ops->glu_bwd(d.fast, dy, gu, s->t, 9, 77, (enum activation)i);
        ref.glu_bwd(d.ref, dy, gu, s->t, 9, 77, (enum activation)i);
        same = same && twin_same(s, "glu_bwd", d, 81 * 16 * u, 8 * u);
    }
    return same;
}

static bool check_act_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ACTIVATION; i++)
        for (int64_t n = 0; n < 10000; n = 3 * n + 1) {
            void *x = values(s, s->t, n, 12);
            struct twin y = twin_make(s, s->t, n);
            ops->act_fwd(y.fast, x, s->t, n, (enum activation)i);
            ref.act_fwd(y.ref, x, s->t, n, (enum activation)i);
            same = same && twin_same(s, "act_fwd", y, 12 * 8 * u, 8 * u);
        }
    return same;
}

static bool check_act_bwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_ACTIVATION; i++)
        for (int64_t n = 0; n < 10000; n = 3 * n + 1) {
            void *x = values(s, s->t, n, 12), *dy = values(s, s->t, n, 1);
            struct twin dx = twin_make(s, s->t, n);
            ops->act_bwd(dx.fast, dy, x, s->t, n, (enum activation)i);
            ref.act_bwd(dx.ref, dy, x, s->t, n, (enum activation)i);
            same = same && twin_same(s, "act_bwd", dx, (s->integers ? 3 : 1) * 12 * 16 * u, 8 * u);
        }
    return same;
}

static const struct {
    int64_t n, vocab, c;
    float softcap, scale;
} head_case[] = {{1, 7, 3, 0, 1},       {9, 300, 40, 0, 1}, {20, 4500, 17, 0, 0.25f},
                 {5, 100, 24, 3, 0.5f}, {0, 10, 4, 0, 1},   {530, 50, 8, 0, 1}};
enum { N_HEAD = sizeof head_case / sizeof *head_case };

static bool check_head_fwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_HEAD; i++) {
        int64_t n = head_case[i].n, c = head_case[i].c, v = head_case[i].vocab, ldh = c + 2;
        struct weight w = make_weight(s, 1, &v, c, (enum dtype[]){DTYPE_F32}, 1), wr = w;
        void *h = values(s, s->t, n * ldh + 1, 1);
        int32_t *target = indices(s, n, v);
        struct twin logp = twin_make(s, DTYPE_F32, n), lse = twin_make(s, DTYPE_F32, n), square = twin_make(s, DTYPE_F32, n);
        assert_ok(ops->weight_prepare(&w, s->t, err));
        assert_ok(ref.weight_prepare(&wr, s->t, err));
        ops->head_fwd(logp.fast, lse.fast, i % 2 ? NULL : square.fast, h, s->t, ldh, &w, target, n, head_case[i].softcap, head_case[i].scale);
        ref.head_fwd(logp.ref, lse.ref, i % 2 ? NULL : square.ref, h, s->t, ldh, &wr, target, n, head_case[i].softcap, head_case[i].scale);
        ops->weight_release(&w);
        double size = s->integers ? 9 : 1;
        same = same && twin_same(s, "head_fwd logp", logp, (double)(2 * c + 40) * size * u, 2 * u) &&
               twin_same(s, "head_fwd lse", lse, (double)(2 * c + 40) * size * u, 2 * u) && // square: twice the error of a log-prob
               twin_same(s, "head_fwd square", square, (double)(4 * c + 80) * size * u, 2 * u);
    }
    return same;
}

static bool check_head_bwd(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_HEAD; i++) {
        int64_t n = head_case[i].n, c = head_case[i].c, v = head_case[i].vocab, ldh = c + 2;
        struct weight w = make_weight(s, 1, &v, c, (enum dtype[]){DTYPE_F32}, 1), wr = w;
        void *h = values(s, s->t, n * ldh + 1, 1);
        int32_t *target = indices(s, n, v);
        float *coef = values(s, DTYPE_F32, n, 1), *lse = guarded_make(s, DTYPE_F32, n), *logp = guarded_make(s, DTYPE_F32, n);
        struct twin dh = twin_make(s, DTYPE_F32, n * c), dw = twin_make(s, DTYPE_F32, v * c);
        assert_ok(ops->weight_prepare(&w, s->t, err));
        assert_ok(ref.weight_prepare(&wr, s->t, err));
        ref.head_fwd(logp, lse, NULL, h, s->t, ldh, &wr, target, n, head_case[i].softcap, head_case[i].scale);
        ops->head_bwd(dh.fast, i == 1 ? NULL : dw.fast, h, s->t, ldh, &w, target, lse, coef, n, head_case[i].softcap,
                      head_case[i].scale);
        ref.head_bwd(dh.ref, i == 1 ? NULL : dw.ref, h, s->t, ldh, &wr, target, lse, coef, n, head_case[i].softcap,
                     head_case[i].scale);
        ops->weight_release(&w);
        // in bf16 the logits' gradients are rounded before their products: 2^-8 each, and sum |dz| <= 2 |coef| a row
        double size = s->integers ? 9 : 1, dz = s->t == DTYPE_BF16 ? 0x1p-8 : 0, small = (double)(2 * c + 40) * u * 9;
        same = same && twin_same(s, "head_bwd dh", dh, 2 * size * (dz + small * size), 0) &&
               twin_same(s, "head_bwd dw", dw, size * (dz + small * size) * sqrt((double)n), 0);
    }
    return same;
}

static bool check_head_kl_bwd_acc(const struct setting *s)
{
    bool same = true;
    for (int i = 0; i < N_HEAD; i++) {
        int64_t n = head_case[i].n, c = head_case[i].c, v = head_case[i].vocab, ldh = c + 2, ldr = c + 1;
        struct weight w = make_weight(s, 1, &v, c, (enum dtype[]){DTYPE_F32}, 1), wr = w, u2 = make_weight(s, 1, &v, c, (enum dtype[]){DTYPE_BF16}, 1), ur = u2;
        void *h = values(s, s->t, n * ldh + 1, 1), *other = values(s, s->t, n * ldr + 1, 1);
        int32_t *target = indices(s, n, v);
        float *coef = values(s, DTYPE_F32, n, 1), *lse = guarded_make(s, DTYPE_F32, n), *ref_lse = guarded_make(s, DTYPE_F32, n), *logp = guarded_make(s, DTYPE_F32, n);
        struct twin kl = twin_make(s, DTYPE_F32, n), dh = twin_make(s, DTYPE_F32, n * c), dw = twin_make(s, DTYPE_F32, v * c);
        assert_ok(ops->weight_prepare(&w, s->t, err));
        assert_ok(ops->weight_prepare(&u2, s->t, err));
        assert_ok(ref.weight_prepare(&wr, s->t, err));
        assert_ok(ref.weight_prepare(&ur, s->t, err));
        const float cap = head_case[i].softcap, scale = head_case[i].scale;
        ref.head_fwd(logp, lse, NULL, h, s->t, ldh, &wr, target, n, cap, scale);
        ref.head_fwd(logp, ref_lse, NULL, other, s->t, ldr, &ur, target, n, cap, scale);
        ops->head_kl_bwd_acc(kl.fast, dh.fast, i == 1 ? NULL : dw.fast, h, s->t, ldh, &w, lse, other, ldr, &u2, ref_lse, coef, n, cap, scale);
        ref.head_kl_bwd_acc(kl.ref, dh.ref, i == 1 ? NULL : dw.ref, h, s->t, ldh, &wr, lse, other, ldr, &ur, ref_lse, coef, n, cap, scale);
        ops->weight_release(&w);
        ops->weight_release(&u2);
        // as head_bwd, from two rows of logits; the KL's terms are weighted differences of logits
        double size = s->integers ? 9 : 1, dz = s->t == DTYPE_BF16 ? 0x1p-8 : 0, small = (double)(2 * c + 40) * u * 18;
        same = same && twin_same(s, "head_kl_bwd_acc kl", kl, (double)(4 * c + 80) * size * size * u, (double)(4 * c + 80) * u) &&
               twin_same(s, "head_kl_bwd_acc dh", dh, 2 * size * (dz + small * size), 2 * u) &&
               twin_same(s, "head_kl_bwd_acc dw", dw, size * (dz + small * size) * sqrt((double)n), 2 * u);
    }
    return same;
}

static bool check_exp_weights(const struct setting *s)
{
    static const int64_t size[] = {1, 17, 512, 1300};
    bool same = true;
    for (int i = 0; i < 4; i++) {
        const int64_t n = size[i], stretches = (n + WEIGHT_STRETCH - 1) / WEIGHT_STRETCH;
        float *z = values(s, DTYPE_F32, n, 20), max[2];
        if (n > 2) z[n / 2] = -INFINITY; // a token that cannot be drawn
        struct twin e = twin_make(s, DTYPE_F32, n), sum = twin_make(s, DTYPE_F32, stretches);
        const double total = ops->exp_weights(e.fast, sum.fast, &max[0], z, n, 0.7f), wanted = ref.exp_weights(e.ref, sum.ref, &max[1], z, n, 0.7f);
        // the exponent reaches -28 and is rounded twice: x exp(-x) < 0.4 bounds what that does; a stretch adds at most 32 numbers in each lane
        same = same && max[0] == max[1] && twin_same(s, "exp_weights", e, 8 * u, 0) && twin_same(s, "exp_weights sum", sum, 0, 140 * u) && fabs(total - wanted) <= 140 * u * wanted;
    }
    return same;
}

static bool check_gather_fwd(const struct setting *s)
{
    void *x = values(s, s->t, 30 * 19, 1);
    int32_t *index = indices(s, 44, 30);
    struct twin y = twin_make(s, s->t, 44 * 19);
    ops->gather_fwd(y.fast, x, s->t, index, 44, 19);
    ref.gather_fwd(y.ref, x, s->t, index, 44, 19);
    return twin_same(s, "gather_fwd", y, 0, 0);
}

static bool check_gather_bwd_acc(const struct setting *s)
{
    float *dy = values(s, DTYPE_F32, 1000 * 19, 1);
    int32_t *index = indices(s, 1000, 30);
    struct twin dx = twin_make(s, DTYPE_F32, 30 * 19);
    ops->gather_bwd_acc(dx.fast, dy, index, 1000, 19);
    ref.gather_bwd_acc(dx.ref, dy, index, 1000, 19);
    return twin_same(s, "gather_bwd_acc", dx, 0, 0);
}

static bool check_convert(const struct setting *s)
{
    static const enum dtype type[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    bool same = true;
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++)
            for (int64_t n = 0; n < 40000; n = 7 * n + 3) {
                void *x = values(s, type[from], n, 100);
                if (n > 2 && from < 2) { // what must survive: NaN, infinity, the smallest numbers
                    value_set(x, type[from], 0, NAN);
                    value_set(x, type[from], 1, -INFINITY);
                    value_set(x, type[from], 2, from ? 0x1p-133 : 0x1.8p-149);
                }
                struct twin y = twin_make(s, type[to], n);
                ops->convert(y.fast, type[to], x, type[from], n);
                ref.convert(y.ref, type[to], x, type[from], n);
                same = same && memcmp(y.fast, y.ref, (size_t)n * dtype_size(type[to])) == 0;
            }
    return same;
}

static bool check_add_acc(const struct setting *s)
{
    bool same = true;
    for (int64_t n = 0; n < 50000; n = 9 * n + 5) {
        void *x = values(s, s->t, n, 1);
        struct twin y = twin_make(s, DTYPE_F32, n);
        ops->add_acc(y.fast, x, s->t, n, -1.5f);
        ref.add_acc(y.ref, x, s->t, n, -1.5f);
        same = same && twin_same(s, "add_acc", y, 8 * u, 0);
    }
    return same;
}

static bool check_square_sum(const struct setting *s)
{
    bool same = true;
    for (int64_t n = 0; n < 50000; n = 9 * n + 5) {
        float *x = values(s, DTYPE_F32, n, 1);
        const double fast = ops->square_sum(x, n), want = ref.square_sum(x, n);
        if (!s->integers && s->t == DTYPE_F32 && n > 30) { // any number of threads, the same bits
            backend_threads(3);
            same = same && ops->square_sum(x, n) == fast;
            backend_threads(1);
            same = same && ops->square_sum(x, n) == fast;
            backend_threads(0);
        }
        same = same && fabs(fast - want) <= (s->integers ? 0 : 4e-16 * (double)(n + 1) * want);
    }
    return same;
}

static bool check_adamw(const struct setting *s)
{
    const struct adamw_step step = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .scale = 0.3, .decay = 0.999, .rate = 0.02, .root = 0.2};
    bool same = true;
    for (int k = 0; k < 6; k++) { // some and many, with the largest moment and without
        const int64_t n = k % 3 == 0 ? 1 : k % 3 == 1 ? 77 : 40007;
        struct twin value = twin_make(s, DTYPE_F32, n), m = twin_make(s, DTYPE_F32, n), v = twin_make(s, DTYPE_F32, n), most = twin_make(s, DTYPE_F32, n), grad = twin_make(s, DTYPE_F32, n);
        for (int64_t i = 0; i < n; i++) { // second moments are not negative
            value_set(v.fast, DTYPE_F32, i, fabs(value_at(v.ref, DTYPE_F32, i)));
            value_set(v.ref, DTYPE_F32, i, fabs(value_at(v.ref, DTYPE_F32, i)));
            value_set(most.fast, DTYPE_F32, i, fabs(value_at(most.ref, DTYPE_F32, i)));
            value_set(most.ref, DTYPE_F32, i, fabs(value_at(most.ref, DTYPE_F32, i)));
        }
        ops->adamw(value.fast, m.fast, v.fast, k < 3 ? NULL : most.fast, grad.fast, n, &step);
        ref.adamw(value.ref, m.ref, v.ref, k < 3 ? NULL : most.ref, grad.ref, n, &step);
        // f64 arithmetic: a rounding of the stored value apart at most, beside cancellation in the value's difference
        same = same && twin_same(s, "adamw value", value, 4 * u, 4 * u) && twin_same(s, "adamw m", m, 2 * u, 2 * u) && twin_same(s, "adamw v", v, 2 * u, 2 * u) && twin_same(s, "adamw most", most, 2 * u, 2 * u);
        for (int64_t i = 0; i < n; i++) same = same && value_at(grad.fast, DTYPE_F32, i) == 0 && value_at(grad.ref, DTYPE_F32, i) == 0;
    }
    return same;
}

static const struct {
    const char *name;
    bool (*check)(const struct setting *s);
} entry[] = {
#define OP(type, name, args) {#name, check_##name},
#include "backend/ops.def"
#undef OP
};
enum { N_ENTRY = sizeof entry / sizeof *entry };

static bool run(int i, const struct setting *s)
{
    bool same = entry[i].check(s), sound = guarded_done();
    if (!sound) print_message("%s wrote outside its buffers\n", entry[i].name);
    return same && sound;
}

#if defined(__SANITIZE_ADDRESS__)
static const bool patient = false; // an instrumented reference is slow
#else
static const bool patient = true;
#endif

/* All eight settings, or four that have each pair of choices. */
static void run_all(const char *where, bool all)
{
    ref_fill(&ref);
    for (int i = 0; i < N_ENTRY; i++)
        for (int k = 0; k < 8; k++) {
            if (!all && k != 0 && k != 3 && k != 5 && k != 6) continue;
            struct setting s = {.t = k & 1 ? DTYPE_BF16 : DTYPE_F32, .integers = k & 2, .offset = k & 4 ? 1 : 0};
            if (!run(i, &s))
                fail_msg("%s differs from the reference (%s, %s, offset %d, %s)", entry[i].name, dtype_name(s.t),
                         s.integers ? "integers" : "floats", (int)s.offset, where);
        }
}

static void fast_equals_reference(void **state)
{
    (void)state;
    run_all(backend_describe(), patient);
}

static void lesser_processors_too(void **state)
{
    (void)state;
    enum cpu_level best = cpu_level();
    for (int level = 0; level < (int)best; level++) {
        cpu_level_limit((enum cpu_level)level);
        run_all(backend_describe(), false);
    }
    cpu_level_limit(CPU_AMX);
}

static void broken_operations_go_red(void **state)
{
    (void)state;
    ref_fill(&ref);
    for (int i = 0; i < N_ENTRY; i++) {
        struct setting s = {.t = DTYPE_F32};
        assert_true(run(i, &s));
        bool broken = backend_break(entry[i].name);
        // these compute no number; the checks above cover them
        assert_int_equal(broken, strcmp(entry[i].name, "weight_prepare") && strcmp(entry[i].name, "weight_bytes") && strcmp(entry[i].name, "weight_release") && strcmp(entry[i].name, "cache_block_bytes"));
        s.quiet = true;
        if (broken && run(i, &s)) fail_msg("%s is broken and nobody noticed", entry[i].name);
        assert_ok(backend_select("cpu", err));
    }
}

/* The same bits on every run, and (the kernels here) for any number of threads. */
static void results_are_reproducible(void **state)
{
    (void)state;
    const struct attn_shape *a = &attn_case[0];
    struct setting s = {.t = DTYPE_F32};
    int64_t wide = a->n_head * a->d, narrow = a->n_kv * a->d;
    float *q = values(&s, DTYPE_F32, N_ROW * wide, 1), *k = values(&s, DTYPE_F32, N_ROW * narrow, 1),
          *v = values(&s, DTYPE_F32, N_ROW * narrow, 1);
    float *o[3], *dq[3], *dk[3], *lse = guarded_make(&s, DTYPE_F32, N_ROW * a->n_head),
                                 *dv = guarded_make(&s, DTYPE_F32, N_ROW * narrow);
    for (int i = 0; i < 3; i++) {
        o[i] = guarded_make(&s, DTYPE_F32, N_ROW * wide);
        dq[i] = guarded_make(&s, DTYPE_F32, N_ROW * wide);
        dk[i] = guarded_make(&s, DTYPE_F32, N_ROW * narrow);
        backend_threads(i == 2 ? 1 : 3);
        ops->attn_fwd(o[i], wide, lse, q, wide, k, v, narrow, DTYPE_F32, segments, N_SEGMENT, a);
        ops->attn_bwd(dq[i], wide, dk[i], dv, narrow, q, wide, o[i], wide, lse, q, wide, k, v, narrow, DTYPE_F32, segments,
                      N_SEGMENT, a);
    }
    backend_threads(0);
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(o[0], o[i], (size_t)(N_ROW * wide) * 4);
        assert_memory_equal(dq[0], dq[i], (size_t)(N_ROW * wide) * 4);
        assert_memory_equal(dk[0], dk[i], (size_t)(N_ROW * narrow) * 4);
    }
    assert_true(guarded_done());
}

/* A row of a product has the same bits whatever its neighbours are: sampled equals scored. */
static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct setting s = {.t = i ? DTYPE_BF16 : DTYPE_F32};
        struct weight w = make_weight(&s, 1, (int64_t[]){200}, 96, (enum dtype[]){DTYPE_F32}, 1);
        void *x = values(&s, s.t, 60 * 96, 1);
        float *all = guarded_make(&s, DTYPE_F32, 60 * 200), *one = guarded_make(&s, DTYPE_F32, 200);
        assert_ok(ops->weight_prepare(&w, s.t, err));
        ops->linear_fwd(all, DTYPE_F32, 200, x, s.t, 96, &w, NULL, 60, 1, false);
        for (int64_t r = 0; r < 60; r++) {
            ops->linear_fwd(one, DTYPE_F32, 200, (char *)x + (size_t)(r * 96) * dtype_size(s.t), s.t, 96, &w, NULL, 1, 1, false);
            assert_memory_equal(one, all + r * 200, 800);
        }
        ops->weight_release(&w);
        assert_true(guarded_done());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_equals_reference),
        cmocka_unit_test(lesser_processors_too),
        cmocka_unit_test(broken_operations_go_red),
        cmocka_unit_test(results_are_reproducible),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
