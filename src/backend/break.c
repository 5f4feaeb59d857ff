/* Deliberate defects: the sound operation runs, then the sign of one result is turned. */
#include "backend/backend.h"
#include "base/err.h"

static struct backend_ops sound;

static void negate(void *p, enum dtype t, int64_t rows, int64_t columns, int64_t ld)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < columns; i++) {
            if (t == DTYPE_F32)
                ((float *)p)[r * ld + i] *= -1;
            else
                ((uint16_t *)p)[r * ld + i] ^= 0x8000;
        }
}

static void bad_weight_refresh(struct weight *w) { (void)w; } // the layouts stay stale

static void bad_linear_fwd(void *y, enum dtype yt, int64_t ldy, const void *x, enum dtype xt, int64_t ldx, const struct weight *w,
                           const float *bias, int64_t m, float alpha, bool accumulate)
{
    sound.linear_fwd(y, yt, ldy, x, xt, ldx, w, bias, m, -alpha, accumulate);
}

static void bad_linear_bwd_x(void *dx, enum dtype dxt, int64_t lddx, const void *dy, enum dtype dyt, int64_t lddy,
                             const struct weight *w, int64_t m, float alpha, bool accumulate)
{
    sound.linear_bwd_x(dx, dxt, lddx, dy, dyt, lddy, w, m, -alpha, accumulate);
}

static void bad_linear_bwd_w(float *dw, const void *dy, enum dtype dyt, int64_t lddy, const void *x, enum dtype xt, int64_t ldx,
                             int64_t n_out, int64_t n_in, int64_t m, float alpha, bool transposed)
{
    sound.linear_bwd_w(dw, dy, dyt, lddy, x, xt, ldx, n_out, n_in, m, -alpha, transposed);
}

static void bad_bias_bwd(float *db, const void *dy, enum dtype dyt, int64_t lddy, int64_t m, int64_t n_out)
{
    sound.bias_bwd(db, dy, dyt, lddy, m, n_out);
    negate(db, DTYPE_F32, 1, n_out, n_out);
}

static void bad_embed_fwd(float *y, const struct weight *w, const int32_t *ids, int64_t n, float scale)
{
    sound.embed_fwd(y, w, ids, n, -scale);
}

static void bad_embed_bwd(float *dw, const float *dy, const int32_t *ids, int64_t n, int64_t c, float scale)
{
    sound.embed_bwd(dw, dy, ids, n, c, -scale);
}

static void bad_rmsnorm_fwd(void *y, enum dtype yt, float *rstd, const void *x, enum dtype xt, const float *w, int64_t rows,
                            int64_t c, float eps, float offset)
{
    sound.rmsnorm_fwd(y, yt, rstd, x, xt, w, rows, c, eps, offset);
    negate(y, yt, rows, c, c);
}

static void bad_rmsnorm_bwd_acc(float *dx, float *dw, const void *dy, enum dtype dyt, const void *x, enum dtype xt,
                                const float *w, const float *rstd, int64_t rows, int64_t c, float offset)
{
    sound.rmsnorm_bwd_acc(dx, dw, dy, dyt, x, xt, w, rstd, rows, c, offset);
    negate(dx, DTYPE_F32, rows, c, c);
}

static void bad_layernorm_fwd(void *y, enum dtype yt, float *stat, const void *x, enum dtype xt, const float *w, const float *b,
                              int64_t rows, int64_t c, float eps)
{
    sound.layernorm_fwd(y, yt, stat, x, xt, w, b, rows, c, eps);
    negate(y, yt, rows, c, c);
}

static void bad_layernorm_bwd_acc(float *dx, float *dw, float *db, const void *dy, enum dtype dyt, const void *x, enum dtype xt,
                                  const float *w, const float *stat, int64_t rows, int64_t c)
{
    sound.layernorm_bwd_acc(dx, dw, db, dy, dyt, x, xt, w, stat, rows, c);
    negate(dx, DTYPE_F32, rows, c, c);
}

static void bad_rope_fwd(void *x, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n,
                         int64_t n_head, int64_t d, int64_t rot)
{
    sound.rope_bwd(x, t, ld, pos, cosine, sine, n, n_head, d, rot); // turns the other way
}

static void bad_rope_bwd(void *dx, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine,
                         int64_t n, int64_t n_head, int64_t d, int64_t rot)
{
    sound.rope_fwd(dx, t, ld, pos, cosine, sine, n, n_head, d, rot);
}

static void negate_queries(void *p, enum dtype t, int64_t ld, const struct attn_segment *segment, int64_t n,
                           const struct attn_shape *shape)
{
    for (int64_t i = 0; i < n; i++)
        negate((char *)p + (size_t)(segment[i].start * ld) * dtype_size(t), t, segment[i].n, shape->n_head * shape->d, ld);
}

static void bad_attn_fwd(void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                         enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    sound.attn_fwd(o, ldo, lse, q, ldq, k, v, ldkv, t, segment, n_segment, shape);
    negate_queries(o, t, ldo, segment, n_segment, shape);
}

static void bad_attn_bwd(void *dq, int64_t lddq, void *dk, void *dv, int64_t lddkv, const void *dout, int64_t lddo, const void *o,
                         int64_t ldo, const float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                         enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    sound.attn_bwd(dq, lddq, dk, dv, lddkv, dout, lddo, o, ldo, lse, q, ldq, k, v, ldkv, t, segment, n_segment, shape);
    negate_queries(dq, t, lddq, segment, n_segment, shape);
}

/* Keys and values change places. */
static void bad_cache_store(void *cache, const void *k, const void *v, int64_t ldkv, enum dtype t, const struct cache_range *range, int64_t n, const struct attn_shape *shape)
{
    sound.cache_store(cache, v, k, ldkv, t, range, n, shape);
}

static void bad_attn_decode(void *o, int64_t ldo, void *cache, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv, enum dtype t,
                            const struct attn_cache_row *row, int64_t n, const struct attn_shape *shape)
{
    sound.attn_decode(o, ldo, cache, q, ldq, k, v, ldkv, t, row, n, shape);
    negate(o, t, n, shape->n_head * shape->d, ldo);
}

static void bad_linear_glu_fwd(void *y, void *gu, enum dtype t, const void *x, const struct weight *w, const float *bias, int64_t m, enum activation act)
{
    sound.linear_glu_fwd(y, gu, t, x, w, bias, m, act);
    negate(y, t, m, w->n_out / 2, w->n_out / 2);
}

static void bad_glu_fwd(void *y, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    sound.glu_fwd(y, gu, t, m, f, act);
    negate(y, t, m, f, f);
}

static void bad_glu_bwd(void *dgu, const void *dy, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    sound.glu_bwd(dgu, dy, gu, t, m, f, act);
    negate(dgu, t, m, f, 2 * f);
}

static void bad_act_fwd(void *y, const void *x, enum dtype t, int64_t n, enum activation act)
{
    sound.act_fwd(y, x, t, n, act);
    negate(y, t, 1, n, n);
}

static void bad_act_bwd(void *dx, const void *dy, const void *x, enum dtype t, int64_t n, enum activation act)
{
    sound.act_bwd(dx, dy, x, t, n, act);
    negate(dx, t, 1, n, n);
}

static void bad_head_fwd(float *logp, float *lse, float *square, const void *h, enum dtype t, int64_t ldh, const struct weight *w,
                         const int32_t *target, int64_t n, float softcap, float scale)
{
    sound.head_fwd(logp, lse, square, h, t, ldh, w, target, n, softcap, scale);
    negate(logp, DTYPE_F32, 1, n, n);
    if (square) negate(square, DTYPE_F32, 1, n, n);
}

static void bad_head_bwd(float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w,
                         const int32_t *target, const float *lse, const float *coef, int64_t n, float softcap, float scale)
{
    sound.head_bwd(dh, dw, h, t, ldh, w, target, lse, coef, n, softcap, scale);
    negate(dh, DTYPE_F32, n, w->n_in, w->n_in);
}

static void bad_head_kl_bwd_acc(float *kl, float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const float *lse, const void *ref_h,
                                int64_t ldr, const struct weight *ref_w, const float *ref_lse, const float *coef, int64_t n, float softcap, float scale)
{
    sound.head_kl_bwd_acc(kl, dh, dw, h, t, ldh, w, lse, ref_h, ldr, ref_w, ref_lse, coef, n, softcap, scale);
    negate(dh, DTYPE_F32, n, w->n_in, w->n_in);
}

static double bad_exp_weights(float *e, float *sum, float *max, const float *z, int64_t n, float inverse_temperature)
{
    return sound.exp_weights(e, sum, max, z, n, -inverse_temperature);
}

static void bad_gather_fwd(void *y, const void *x, enum dtype t, const int32_t *index, int64_t n, int64_t c)
{
    sound.gather_fwd(y, x, t, index, n, c);
    negate(y, t, n, c, c);
}

static void bad_gather_bwd_acc(float *dx, const float *dy, const int32_t *index, int64_t n, int64_t c)
{
    sound.gather_bwd_acc(dx, dy, index, n, c);
    for (int64_t r = 0; r < n; r++) negate(dx + index[r] * c, DTYPE_F32, 1, c, c);
}

static void bad_convert(void *y, enum dtype yt, const void *x, enum dtype xt, int64_t n)
{
    sound.convert(y, yt, x, xt, n);
    negate(y, yt, 1, n, n);
}

static void bad_add_acc(float *y, const void *x, enum dtype xt, int64_t n, float alpha) { sound.add_acc(y, x, xt, n, -alpha); }

static double bad_square_sum(const float *x, int64_t n) { return -sound.square_sum(x, n); }

static void bad_adamw(float *value, float *m, float *v, float *most, float *grad, int64_t n, const struct adamw_step *step)
{
    sound.adamw(value, m, v, most, grad, n, step);
    negate(m, DTYPE_F32, 1, n, n);
}

/* Sizing, preparing and releasing compute nothing whose sign could be turned. */
#define bad_cache_block_bytes NULL
#define bad_weight_prepare NULL
#define bad_weight_bytes NULL
#define bad_weight_release NULL

bool backend_break_in(struct backend_ops *table, const char *op)
{
    sound = *table;
#define OP(type, name, args)                                                                                                     \
    if (strcmp(op, #name) == 0) {                                                                                                \
        type(*bad) args = bad_##name;                                                                                            \
        if (bad) table->name = bad;                                                                                              \
        return bad;                                                                                                              \
    }
#include "backend/ops.def"
#undef OP
    return false;
}
