/* The fast operations against the scalar reference: products exactly on small integers, everything on floats within a bound derived from the sums' sizes, at odd shapes, in f32
 * and bf16, with sentinels behind every output; at every level of instructions that the processor has. And the canary: a broken operation must be seen. */
#include "test.h"

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "base/rng.h"

static struct backend_ops fast;
static const float sentinel = 12345.0f;
enum { GUARD = 64 };

struct array {
    enum dtype t;
    int64_t n;
    char *data;
};

static double draw(uint64_t salt, int64_t i, bool integers)
{
    const double u = rng_uniform(7, RNG_TEST, salt, (uint64_t)i);
    return integers ? floor(u * 9) - 4 : 2 * u - 1;
}

static void set(struct array *a, int64_t i, double v)
{
    const float f = (float)v;
    tensor_convert(a->data + (size_t)i * dtype_size(a->t), a->t, &f, DTYPE_F32, 1);
}

static struct array make(enum dtype t, int64_t n, uint64_t salt, bool integers)
{
    struct array a = {t, n, malloc((size_t)(n + GUARD) * dtype_size(t) + 64)};
    for (int64_t i = 0; i < n; i++) set(&a, i, salt ? draw(salt, i, integers) : 0);
    for (int64_t i = n; i < n + GUARD; i++) set(&a, i, sentinel);
    return a;
}

static struct array copy_of(const struct array *a)
{
    struct array b = {a->t, a->n, malloc((size_t)(a->n + GUARD) * dtype_size(a->t) + 64)};
    memcpy(b.data, a->data, (size_t)(a->n + GUARD) * dtype_size(a->t));
    return b;
}

static double worst; /* of the last comparison: difference over bound */

/* |got - want| <= bound * (1 + |want|), and nobody wrote behind the end. */
static void compare(const char *what, const struct array *got, const struct array *want, double bound)
{
    const double rounding = got->t == DTYPE_BF16 ? 1.0 / 128 : 0;
    worst = 0;
    for (int64_t i = 0; i < got->n; i++) {
        const double g = element(got->data, got->t, i), w = element(want->data, want->t, i), r = fabs(g - w) / ((bound + rounding) * (1 + fabs(w)) + 1e-300);
        if (!(r <= worst)) worst = isnan(r) ? INFINITY : r;
    }
    if (worst > 1) fail_msg("%s: off by %.3g times its bound", what, worst);
    for (int64_t i = got->n; i < got->n + GUARD; i++)
        if (element(got->data, got->t, i) != element(want->data, want->t, i)) fail_msg("%s wrote past its end", what);
}

#define RELEASE(...)                                       \
    do {                                                   \
        struct array all_[] = {__VA_ARGS__};               \
        for (size_t k_ = 0; k_ < sizeof all_ / sizeof *all_; k_++) free(all_[k_].data); \
    } while (0)

static void products(enum dtype t, enum dtype wt, int64_t m, int64_t n_in, const int64_t *parts, int n_part, bool transposed, bool integers)
{
    struct weight w = {.n_part = n_part, .n_in = n_in}, r;
    struct array data[WEIGHT_MAX_PARTS];
    for (int p = 0; p < n_part; p++) {
        data[p] = make(wt, parts[p] * n_in, 11 + (uint64_t)p, integers);
        w.part[p] = (struct weight_part){.data = data[p].data, .dtype = wt, .n_out = parts[p], .ld = transposed ? parts[p] : n_in, .transposed = transposed};
        w.n_out += parts[p];
    }
    r = w;
    assert_ok(fast.weight_prepare(&w, t, err));
    assert_ok(ref_weight_prepare(&r, t, err));
    const double bound = integers ? 0 : 4e-7 * sqrt((double)(n_in + w.n_out + m)) + (t == DTYPE_BF16 ? 2e-5 : 0);
    struct array x = make(t, m * n_in, 1, integers), dy = make(t, m * w.n_out, 2, integers), bias = make(DTYPE_F32, w.n_out, 3, integers);
    for (int out = 0; out < 2; out++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            const enum dtype yt = out ? t : DTYPE_F32;
            struct array y = make(yt, m * w.n_out, 4, integers), want = copy_of(&y);
            fast.linear_fwd(y.data, yt, w.n_out, x.data, t, n_in, &w, bias.data ? (float *)(void *)bias.data : NULL, m, 0.5f, accumulate);
            ref_linear_fwd(want.data, yt, w.n_out, x.data, t, n_in, &r, (float *)(void *)bias.data, m, 0.5f, accumulate);
            compare("linear_fwd", &y, &want, bound);
            struct array dx = make(yt, m * n_in, 5, integers), dwant = copy_of(&dx);
            fast.linear_bwd_x(dx.data, yt, n_in, dy.data, t, w.n_out, &w, m, 2, accumulate);
            ref_linear_bwd_x(dwant.data, yt, n_in, dy.data, t, w.n_out, &r, m, 2, accumulate);
            compare("linear_bwd_x", &dx, &dwant, bound);
            RELEASE(y, want, dx, dwant);
        }
    struct array dw = make(DTYPE_F32, w.n_out * n_in, 6, integers), want = copy_of(&dw);
    fast.linear_bwd_w((float *)(void *)dw.data, dy.data, t, w.n_out, x.data, t, n_in, w.n_out, n_in, m, 1, transposed);
    ref_linear_bwd_w((float *)(void *)want.data, dy.data, t, w.n_out, x.data, t, n_in, w.n_out, n_in, m, 1, transposed);
    compare("linear_bwd_w", &dw, &want, bound);
    RELEASE(x, dy, bias, dw, want);
    fast.weight_release(&w);
    for (int p = 0; p < n_part; p++) free(data[p].data);
}

static void all_products(void)
{
    static const int64_t one[] = {37}, three[] = {48, 5, 16}, wide[] = {130}, deep[] = {2100}; // deep: its backward product is summed in two ranges
    for (int integers = 0; integers < 2; integers++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            const enum dtype t = bf16 ? DTYPE_BF16 : DTYPE_F32;
            products(t, DTYPE_F32, 1, 19, one, 1, false, integers);
            products(t, DTYPE_BF16, 17, 33, three, 3, false, integers);
            products(t, DTYPE_F16, 29, 64, wide, 1, false, integers);
            products(t, DTYPE_F32, 15, 21, one, 1, true, integers);
            if (integers) products(t, DTYPE_BF16, 3, 45, deep, 1, false, true); // the bound is for short sums
            products(t, DTYPE_F32, 0, 8, one, 1, false, integers);
        }
}

static const struct attn_segment segments[] = {{.start = 0, .n = 70}, {.start = 70, .n = 9, .prefix = 0, .n_prefix = 70}, {.start = 79, .n = 1, .prefix = 0, .n_prefix = 70}, {.start = 80, .n = 33}};

/* Three rows against a cache that each backend fills in its own layout: two of one prompt, one alone. */
static void decoding(enum dtype t, const struct attn_shape *shape, const struct array *q, const struct array *k, const struct array *v)
{
    const int64_t hd = shape->n_head * shape->d, kd = shape->n_kv * shape->d, blocks = 5;
    const struct cache_range stored[] = {{0, 70, 0}, {70, 4, 128}, {80, 32, 256}};
    const struct attn_cache_row rows[] = {{0, 70, 128, 5}, {0, 70, 192, 1}, {0, 0, 256, 33}};
    struct array o = make(t, 3 * hd, 0, false), o2 = copy_of(&o);
    void *cache = calloc((size_t)blocks, fast.cache_block_bytes(t, shape)), *cache2 = calloc((size_t)blocks, ref_cache_block_bytes(t, shape));
    assert_true(cache && cache2);
    fast.cache_store(cache, k->data, v->data, kd, t, stored, 3, shape);
    ref_cache_store(cache2, k->data, v->data, kd, t, stored, 3, shape);
    const size_t last = (size_t)(110 * kd) * dtype_size(t);
    fast.attn_decode(o.data, hd, cache, q->data, hd, k->data + last, v->data + last, kd, t, rows, 3, shape);
    ref_attn_decode(o2.data, hd, cache2, q->data, hd, k->data + last, v->data + last, kd, t, rows, 3, shape);
    compare("attn_decode", &o, &o2, 3e-6);
    free(cache);
    free(cache2);
    RELEASE(o, o2);
}

static void attention(enum dtype t, int64_t window, float softcap)
{
    const struct attn_shape shape = {.n_head = 4, .n_kv = 2, .d = 12, .scale = 0.3f, .window = window, .softcap = softcap};
    const int64_t n = 113, hd = 48, kd = 24;
    struct array q = make(t, n * hd, 1, false), k = make(t, n * kd, 2, false), v = make(t, n * kd, 3, false), dout = make(t, n * hd, 4, false);
    struct array o = make(t, n * hd, 0, false), o2 = copy_of(&o), lse = make(DTYPE_F32, n * 4, 0, false), lse2 = copy_of(&lse);
    fast.attn_fwd(o.data, hd, (float *)(void *)lse.data, q.data, hd, k.data, v.data, kd, t, segments, 4, &shape);
    ref_attn_fwd(o2.data, hd, (float *)(void *)lse2.data, q.data, hd, k.data, v.data, kd, t, segments, 4, &shape);
    compare("attn_fwd", &o, &o2, 3e-6);
    compare("attn_fwd lse", &lse, &lse2, 3e-6);
    struct array dq = make(t, n * hd, 0, false), dk = make(t, n * kd, 0, false), dv = make(t, n * kd, 0, false), dq2 = copy_of(&dq), dk2 = copy_of(&dk), dv2 = copy_of(&dv);
    fast.attn_bwd(dq.data, hd, dk.data, dv.data, kd, dout.data, hd, o2.data, hd, (float *)(void *)lse2.data, q.data, hd, k.data, v.data, kd, t, segments, 4, &shape);
    ref_attn_bwd(dq2.data, hd, dk2.data, dv2.data, kd, dout.data, hd, o2.data, hd, (float *)(void *)lse2.data, q.data, hd, k.data, v.data, kd, t, segments, 4, &shape);
    compare("attn_bwd dq", &dq, &dq2, 1e-5);
    compare("attn_bwd dk", &dk, &dk2, 1e-5);
    compare("attn_bwd dv", &dv, &dv2, 1e-5);
    decoding(t, &shape, &q, &k, &v);
    RELEASE(q, k, v, dout, o, o2, lse, lse2, dq, dk, dv, dq2, dk2, dv2);
}

static void head(enum dtype t, float softcap)
{
    const int64_t n = 231, c = 20, vocab = 531;
    struct array data = make(DTYPE_F32, vocab * c, 9, false), h = make(t, n * c, 2, false), coef = make(DTYPE_F32, n, 3, false);
    struct weight w = {.n_part = 1, .n_in = c, .n_out = vocab, .part = {{.data = data.data, .dtype = DTYPE_F32, .n_out = vocab, .ld = c}}}, r = w;
    assert_ok(fast.weight_prepare(&w, t, err));
    assert_ok(ref_weight_prepare(&r, t, err));
    int32_t target[231];
    for (int i = 0; i < 231; i++) target[i] = (i * 37) % 531;
    struct array lp = make(DTYPE_F32, n, 0, false), lse = copy_of(&lp), lp2 = copy_of(&lp), lse2 = copy_of(&lp), sq = copy_of(&lp), sq2 = copy_of(&lp);
    fast.head_fwd((float *)(void *)lp.data, (float *)(void *)lse.data, (float *)(void *)sq.data, h.data, t, c, &w, target, n, softcap, 1.5f);
    ref_head_fwd((float *)(void *)lp2.data, (float *)(void *)lse2.data, (float *)(void *)sq2.data, h.data, t, c, &r, target, n, softcap, 1.5f);
    compare("head_fwd square", &sq, &sq2, 2e-6);
    compare("head_fwd logp", &lp, &lp2, 2e-6);
    compare("head_fwd lse", &lse, &lse2, 2e-6);
    struct array dh = make(DTYPE_F32, n * c, 0, false), dw = make(DTYPE_F32, vocab * c, 5, false), dh2 = copy_of(&dh), dw2 = copy_of(&dw);
    fast.head_bwd((float *)(void *)dh.data, (float *)(void *)dw.data, h.data, t, c, &w, target, (float *)(void *)lse2.data, (float *)(void *)coef.data, n, softcap, 1.5f);
    ref_head_bwd((float *)(void *)dh2.data, (float *)(void *)dw2.data, h.data, t, c, &r, target, (float *)(void *)lse2.data, (float *)(void *)coef.data, n, softcap, 1.5f);
    compare("head_bwd dh", &dh, &dh2, t == DTYPE_BF16 ? 6e-3 : 3e-6); // bf16: the logits' gradient meets the weights rounded
    compare("head_bwd dw", &dw, &dw2, t == DTYPE_BF16 ? 6e-3 : 1e-5);
    fast.weight_release(&w);
    RELEASE(data, h, coef, lp, lse, lp2, lse2, sq, sq2, dh, dw, dh2, dw2);
}

static void rows(enum dtype t)
{
    const int64_t m = 23, c = 70;
    struct array x = make(t, m * c, 1, false), w = make(DTYPE_F32, c, 2, false), y = make(t, m * c, 0, false), y2 = copy_of(&y), rstd = make(DTYPE_F32, m, 0, false), rstd2 = copy_of(&rstd);
    fast.rmsnorm_fwd(y.data, t, (float *)(void *)rstd.data, x.data, t, (float *)(void *)w.data, m, c, 1e-5f, 1);
    ref_rmsnorm_fwd(y2.data, t, (float *)(void *)rstd2.data, x.data, t, (float *)(void *)w.data, m, c, 1e-5f, 1);
    compare("rmsnorm_fwd", &y, &y2, 1e-6);
    compare("rmsnorm_fwd rstd", &rstd, &rstd2, 1e-6);
    struct array dx = make(DTYPE_F32, m * c, 3, false), dw = make(DTYPE_F32, c, 4, false), dx2 = copy_of(&dx), dw2 = copy_of(&dw), dy = make(t, m * c, 5, false);
    fast.rmsnorm_bwd_acc((float *)(void *)dx.data, (float *)(void *)dw.data, dy.data, t, x.data, t, (float *)(void *)w.data, (float *)(void *)rstd2.data, m, c, 1);
    ref_rmsnorm_bwd_acc((float *)(void *)dx2.data, (float *)(void *)dw2.data, dy.data, t, x.data, t, (float *)(void *)w.data, (float *)(void *)rstd2.data, m, c, 1);
    compare("rmsnorm_bwd_acc dx", &dx, &dx2, 3e-6);
    compare("rmsnorm_bwd_acc dw", &dw, &dw2, 3e-6);
    RELEASE(x, w, y, y2, rstd, rstd2, dx, dw, dx2, dw2, dy);
    struct array gu = make(t, m * 2 * c, 6, false), g = make(t, m * c, 0, false), g2 = copy_of(&g), gd = make(t, m * c, 7, false), dgu = make(t, m * 2 * c, 0, false), dgu2 = copy_of(&dgu);
    for (int act = 0; act < N_ACTIVATION; act++) {
        fast.glu_fwd(g.data, gu.data, t, m, c, (enum activation)act);
        ref_glu_fwd(g2.data, gu.data, t, m, c, (enum activation)act);
        compare("glu_fwd", &g, &g2, 1e-6);
        fast.glu_bwd(dgu.data, gd.data, gu.data, t, m, c, (enum activation)act);
        ref_glu_bwd(dgu2.data, gd.data, gu.data, t, m, c, (enum activation)act);
        compare("glu_bwd", &dgu, &dgu2, 1e-6);
    }
    RELEASE(gu, g, g2, gd, dgu, dgu2);
    struct array z = make(t, m * 40, 8, false), z2 = copy_of(&z), cosine = make(DTYPE_F32, 64 * 4, 9, false), sine = make(DTYPE_F32, 64 * 4, 10, false);
    int32_t pos[23];
    for (int i = 0; i < 23; i++) pos[i] = (i * 11) % 64;
    fast.rope_fwd(z.data, t, 40, pos, (float *)(void *)cosine.data, (float *)(void *)sine.data, m, 3, 10, 8);
    ref_rope_fwd(z2.data, t, 40, pos, (float *)(void *)cosine.data, (float *)(void *)sine.data, m, 3, 10, 8);
    compare("rope_fwd", &z, &z2, 1e-6);
    fast.rope_bwd(z.data, t, 40, pos, (float *)(void *)cosine.data, (float *)(void *)sine.data, m, 3, 10, 8);
    ref_rope_bwd(z2.data, t, 40, pos, (float *)(void *)cosine.data, (float *)(void *)sine.data, m, 3, 10, 8);
    compare("rope_bwd", &z, &z2, t == DTYPE_BF16 ? 2e-2 : 1e-6);
    struct array a = make(t, m * c, 11, false), b = make(t == DTYPE_F32 ? DTYPE_BF16 : DTYPE_F32, m * c, 0, false), b2 = copy_of(&b);
    fast.convert(b.data, b.t, a.data, a.t, m * c);
    ref_convert(b2.data, b.t, a.data, a.t, m * c);
    compare("convert", &b, &b2, 0);
    RELEASE(z, z2, cosine, sine, a, b, b2);
}

static void everything(void)
{
    all_products();
    for (int bf16 = 0; bf16 < 2; bf16++) {
        const enum dtype t = bf16 ? DTYPE_BF16 : DTYPE_F32;
        attention(t, 0, 0);
        attention(t, 8, 0);
        attention(t, 0, 2.5f);
        head(t, 0);
        head(t, 3);
        rows(t);
    }
}

static void fast_equals_reference(void **state)
{
    (void)state;
    ref_fill(&fast);
    cpu_fill(&fast);
    for (int level = CPU_PORTABLE; level <= CPU_AMX; level++) {
        cpu_level_limit((enum cpu_level)level);
        if ((int)cpu_level() < level) continue; // this processor has no more
        print_message("level %d\n", level);
        everything();
    }
}

/* The same number of threads gives the same bits; so does a row alone and among others. */
static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    struct array data = make(DTYPE_F32, 96 * 50, 1, false), x = make(DTYPE_BF16, 40 * 50, 2, false), all = make(DTYPE_F32, 40 * 96, 0, false), one = make(DTYPE_F32, 96, 0, false);
    struct weight w = {.n_part = 1, .n_in = 50, .n_out = 96, .part = {{.data = data.data, .dtype = DTYPE_F32, .n_out = 96, .ld = 50}}};
    assert_ok(fast.weight_prepare(&w, DTYPE_BF16, err));
    fast.linear_fwd(all.data, DTYPE_F32, 96, x.data, DTYPE_BF16, 50, &w, NULL, 40, 1, false);
    for (int i = 0; i < 40; i++) {
        fast.linear_fwd(one.data, DTYPE_F32, 96, x.data + i * 100, DTYPE_BF16, 50, &w, NULL, 1, 1, false);
        assert_memory_equal(one.data, all.data + (size_t)i * 96 * 4, 96 * 4);
    }
    fast.weight_release(&w);
    RELEASE(data, x, all, one);
}

/* The comparison can go red: with a sign flipped in the active table, the same numbers are far off. */
static void a_broken_operation_is_seen(void **state)
{
    (void)state;
    assert_ok(backend_select("cpu", err));
    assert_true(backend_break("linear_bwd_x"));
    struct array data = make(DTYPE_F32, 32 * 8, 1, true), dy = make(DTYPE_F32, 4 * 32, 2, true), dx = make(DTYPE_F32, 4 * 8, 0, false), want = copy_of(&dx);
    struct weight w = {.n_part = 1, .n_in = 8, .n_out = 32, .part = {{.data = data.data, .dtype = DTYPE_F32, .n_out = 32, .ld = 8}}}, r = w;
    assert_ok(ops->weight_prepare(&w, DTYPE_F32, err));
    assert_ok(ref_weight_prepare(&r, DTYPE_F32, err));
    ops->linear_bwd_x(dx.data, DTYPE_F32, 8, dy.data, DTYPE_F32, 32, &w, 4, 1, false);
    ref_linear_bwd_x(want.data, DTYPE_F32, 8, dy.data, DTYPE_F32, 32, &r, 4, 1, false);
    assert_memory_not_equal(dx.data, want.data, 4 * 8 * 4);
    ops->weight_release(&w);
    RELEASE(data, dy, dx, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fast_equals_reference), cmocka_unit_test(rows_do_not_depend_on_their_neighbours), cmocka_unit_test(a_broken_operation_is_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
