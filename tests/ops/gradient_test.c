/* The reference's backward operations against central differences of formulas written here in double, and, where the forward is
 * linear, against the definition of an adjoint: <F x, y> = <x, F' y>. */
#include "ops.h"

static struct backend_ops ref;
static const struct setting plain = {.t = DTYPE_F32};

/* A loss of parameters x (n), and its gradient by differences: h^2 f''' and rounding / h are both far below f32. */
typedef double loss_of(const double *x, const void *context);

static void gradient_near(const char *what, const float *got, const float *base, loss_of *loss, const double *x, int64_t n,
                          const void *context)
{
    const double h = 0x1p-13;
    double *at = malloc((size_t)n * sizeof *at);
    assert_non_null(at);
    memcpy(at, x, (size_t)n * sizeof *at);
    for (int64_t i = 0; i < n; i++) {
        at[i] = x[i] + h;
        double up = loss(at, context);
        at[i] = x[i] - h;
        double want = (up - loss(at, context)) / (2 * h) + (base ? base[i] : 0);
        at[i] = x[i];
        // saved statistics and results are f32: a few of its units on sums of size up to 10
        if (!(fabs(got[i] - want) <= 4e-6 + 4e-6 * fabs(want)))
            fail_msg("%s[%lld] = %.9g, by differences %.9g", what, (long long)i, got[i], want);
    }
    free(at);
}

static void widened(double *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = in[i];
}

static float *random_floats(int64_t n, double size) { return values(&plain, DTYPE_F32, n, size); }

/* ---------------------------------------------------------------- norms */

enum { ROWS = 3, C = 7 };
static const double eps = 1e-3;
struct norm_context {
    const float *dy;
    double offset;
    bool centred;
};

// x: rows, then w, then b
static double norm_loss(const double *x, const void *context)
{
    const struct norm_context *k = context;
    const double *w = x + ROWS * C, *b = w + C;
    double loss = 0;
    for (int r = 0; r < ROWS; r++) {
        double mean = 0, square = 0;
        for (int i = 0; k->centred && i < C; i++) mean += x[r * C + i] / C;
        for (int i = 0; i < C; i++) square += (x[r * C + i] - mean) * (x[r * C + i] - mean) / C;
        for (int i = 0; i < C; i++)
            loss +=
                k->dy[r * C + i] * ((x[r * C + i] - mean) / sqrt(square + eps) * (w[i] + k->offset) + (k->centred ? b[i] : 0));
    }
    return loss;
}

static void norms(void **state)
{
    (void)state;
    for (int centred = 0; centred < 2; centred++) {
        float *x = random_floats(ROWS * C, 1), *w = random_floats(C, 1), *b = random_floats(C, 1),
              *dy = random_floats(ROWS * C, 1);
        float *stat = random_floats(2 * ROWS, 1), *y = random_floats(ROWS * C, 1), *grad = random_floats(ROWS * C + 2 * C, 1),
              base[ROWS * C + 2 * C];
        double all[ROWS * C + 2 * C];
        struct norm_context k = {dy, centred ? 0 : 1, centred};
        memcpy(base, grad, sizeof base);
        widened(all, x, ROWS * C);
        widened(all + ROWS * C, w, C);
        widened(all + ROWS * C + C, b, C);
        if (centred) {
            ref.layernorm_fwd(y, DTYPE_F32, stat, x, DTYPE_F32, w, b, ROWS, C, (float)eps);
            ref.layernorm_bwd_acc(grad, grad + ROWS * C, grad + ROWS * C + C, dy, DTYPE_F32, x, DTYPE_F32, w, stat, ROWS, C);
        } else {
            ref.rmsnorm_fwd(y, DTYPE_F32, stat, x, DTYPE_F32, w, ROWS, C, (float)eps, 1);
            ref.rmsnorm_bwd_acc(grad, grad + ROWS * C, dy, DTYPE_F32, x, DTYPE_F32, w, stat, ROWS, C, 1);
        }
        double value = 0;
        for (int i = 0; i < ROWS * C; i++) value += (double)dy[i] * y[i];
        assert_near(value, norm_loss(all, &k), 1e-5, 0); // the forward is the same function
        gradient_near(centred ? "layernorm" : "rmsnorm", grad, base, norm_loss, all, ROWS * C + (centred ? 2 * C : C), &k);
        assert_true(guarded_done());
    }
}

/* ---------------------------------------------------------------- activations */

static double activation(double x, enum activation act)
{
    if (act == ACT_SILU) return x / (1 + exp(-x));
    if (act == ACT_GELU) return x * 0.5 * (1 + erf(x / sqrt(2)));
    if (act == ACT_RELU) return x > 0 ? x : 0;
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

enum { F = 9 };
struct act_context {
    const float *dy;
    enum activation act;
    bool gated;
};

static double act_loss(const double *x, const void *context)
{
    const struct act_context *k = context;
    double loss = 0;
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < F; i++)
            loss += k->gated ? k->dy[r * F + i] * activation(x[r * 2 * F + i], k->act) * x[r * 2 * F + F + i]
                             : k->dy[r * F + i] * activation(x[r * F + i], k->act);
    return loss;
}

static void activations(void **state)
{
    (void)state;
    for (int act = 0; act < N_ACTIVATION; act++)
        for (int gated = 0; gated < 2; gated++) {
            int64_t n = ROWS * F * (gated ? 2 : 1);
            float *x = random_floats(n, 4), *dy = random_floats(ROWS * F, 1), *dx = random_floats(n, 1),
                  *y = random_floats(ROWS * F, 1);
            double all[ROWS * F * 2], value = 0;
            struct act_context k = {dy, (enum activation)act, gated};
            widened(all, x, n);
            if (gated) {
                ref.glu_fwd(y, x, DTYPE_F32, ROWS, F, k.act);
                ref.glu_bwd(dx, dy, x, DTYPE_F32, ROWS, F, k.act);
            } else {
                ref.act_fwd(y, x, DTYPE_F32, ROWS * F, k.act);
                ref.act_bwd(dx, dy, x, DTYPE_F32, ROWS * F, k.act);
            }
            for (int i = 0; i < ROWS * F; i++) value += (double)dy[i] * y[i];
            assert_near(value, act_loss(all, &k), 1e-5, 0);
            gradient_near("activation", dx, NULL, act_loss, all, n, &k);
            assert_true(guarded_done());
        }
}

/* ---------------------------------------------------------------- attention */

enum { N = 13, H = 4, K = 2, D = 3 };
static const struct attn_segment segments[] = {{0, 4, 0, 0}, {4, 3, 0, 4}, {7, 2, 0, 4}, {9, 4, 0, 0}};
struct attn_context {
    const float *dout;
    struct attn_shape shape;
};

// x: q (N, H, D), k (N, K, D), v (N, K, D)
static double attn_loss(const double *x, const void *context)
{
    const struct attn_context *c = context;
    const double *q = x, *k = x + N * H * D, *v = k + N * K * D;
    double loss = 0;
    for (int s = 0; s < 4; s++)
        for (int64_t i = 0; i < segments[s].n; i++)
            for (int h = 0; h < H; h++) {
                int64_t position = segments[s].n_prefix + i;
                double sum = 0, dot = 0;
                for (int64_t j = 0; j <= position; j++) {
                    if (c->shape.window && j <= position - c->shape.window) continue;
                    int64_t row =
                        j < segments[s].n_prefix ? segments[s].prefix + j : segments[s].start + j - segments[s].n_prefix;
                    double score = 0, out = 0, cap = c->shape.softcap;
                    for (int e = 0; e < D; e++) {
                        score +=
                            c->shape.scale * q[((segments[s].start + i) * H + h) * D + e] * k[(row * K + h / (H / K)) * D + e];
                        out += c->dout[((segments[s].start + i) * H + h) * D + e] * v[(row * K + h / (H / K)) * D + e];
                    }
                    if (cap > 0) score = cap * tanh(score / cap);
                    sum += exp(score);
                    dot += exp(score) * out;
                }
                loss += dot / sum;
            }
    return loss;
}

static void attention(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        enum { SIZE = N * H * D + 2 * N * K * D };
        float *x = random_floats(SIZE, 1.5), *dout = random_floats(N * H * D, 1), *o = random_floats(N * H * D, 1),
              *lse = random_floats(N * H, 1);
        float *grad = random_floats(SIZE, 1), *k = x + N * H * D, *v = k + N * K * D, *dk = grad + N * H * D,
              *dv = dk + N * K * D;
        double all[SIZE], value = 0;
        struct attn_context c = {dout, {H, K, D, 0.7f, i & 1 ? 3 : 0, i & 2 ? 1.5f : 0}};
        widened(all, x, SIZE);
        ref.attn_fwd(o, H * D, lse, x, H * D, k, v, K * D, DTYPE_F32, segments, 4, &c.shape);
        ref.attn_bwd(grad, H * D, dk, dv, K * D, dout, H * D, o, H * D, lse, x, H * D, k, v, K * D, DTYPE_F32, segments, 4,
                     &c.shape);
        for (int j = 0; j < N * H * D; j++) value += (double)dout[j] * o[j];
        assert_near(value, attn_loss(all, &c), 1e-5, 0);
        gradient_near("attention", grad, NULL, attn_loss, all, SIZE, &c);
        assert_true(guarded_done());
    }
}

/* ---------------------------------------------------------------- head */

enum { V = 6, T = 4 };
struct head_context {
    const float *coef;
    const int32_t *target;
    double softcap, scale;
};

// x: h (T, C), w (V, C)
static double head_loss(const double *x, const void *context)
{
    const struct head_context *c = context;
    const double *w = x + T * C;
    double loss = 0;
    for (int t = 0; t < T; t++) {
        double sum = 0, chosen = 0;
        for (int v = 0; v < V; v++) {
            double z = 0;
            for (int i = 0; i < C; i++) z += c->scale * x[t * C + i] * w[v * C + i];
            if (c->softcap > 0) z = c->softcap * tanh(z / c->softcap);
            if (v == c->target[t]) chosen = z;
            sum += exp(z);
        }
        loss += c->coef[t] * (chosen - log(sum));
    }
    return loss;
}

static void head(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        enum { SIZE = (T + V) * C };
        float *x = random_floats(SIZE, 1), *coef = random_floats(T, 2), *logp = random_floats(T, 1), *lse = random_floats(T, 1);
        float *grad = random_floats(SIZE, 1), base[SIZE];
        int32_t *target = indices(&plain, T, V);
        double all[SIZE], value = 0;
        struct head_context c = {coef, target, i ? 1.25 : 0, 0.5};
        struct weight w = {.n_part = 1, .n_out = V, .n_in = C, .part = {{x + T * C, DTYPE_F32, V, C, false}}};
        memset(base, 0, T * C * sizeof *base); // dh is written, dw is added to
        memcpy(base + T * C, grad + T * C, V * C * sizeof *base);
        widened(all, x, SIZE);
        assert_ok(ref.weight_prepare(&w, DTYPE_F32, err));
        ref.head_fwd(logp, lse, NULL, x, DTYPE_F32, C, &w, target, T, (float)c.softcap, 0.5f);
        ref.head_bwd(grad, grad + T * C, x, DTYPE_F32, C, &w, target, lse, coef, T, (float)c.softcap, 0.5f);
        for (int t = 0; t < T; t++) value += (double)coef[t] * logp[t];
        assert_near(value, head_loss(all, &c), 1e-5, 0);
        gradient_near("head", grad, base, head_loss, all, SIZE, &c);
        assert_true(guarded_done());
    }
}

// x: h (T, C), w (V, C); the other distribution is fixed
struct kl_context {
    const float *coef, *h, *w;
    double softcap, scale;
};

static double capped(double z, double softcap) { return softcap > 0 ? softcap * tanh(z / softcap) : z; }

static double kl_loss(const double *x, const void *context)
{
    const struct kl_context *c = context;
    const double *w = x + T * C;
    double loss = 0;
    for (int t = 0; t < T; t++) {
        double own[V], his[V], a = 0, b = 0;
        for (int v = 0; v < V; v++) {
            own[v] = his[v] = 0;
            for (int i = 0; i < C; i++) {
                own[v] += c->scale * x[t * C + i] * w[v * C + i];
                his[v] += c->scale * c->h[t * C + i] * c->w[v * C + i];
            }
            a += exp(own[v] = capped(own[v], c->softcap));
            b += exp(his[v] = capped(his[v], c->softcap));
        }
        for (int v = 0; v < V; v++) loss += c->coef[t] * exp(his[v]) / b * ((his[v] - log(b)) - (own[v] - log(a)));
    }
    return loss;
}

static void head_kl(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        enum { SIZE = (T + V) * C };
        float *x = random_floats(SIZE, 1), *y = random_floats(SIZE, 1), *coef = random_floats(T, 2), *logp = random_floats(T, 1), *lse = random_floats(T, 1), *other = random_floats(T, 1);
        float *kl = random_floats(T, 1), *grad = random_floats(SIZE, 1), base[SIZE];
        int32_t *target = indices(&plain, T, V);
        double all[SIZE], value = 0;
        struct kl_context c = {coef, y, y + T * C, i ? 1.25 : 0, 0.5};
        struct weight w = {.n_part = 1, .n_out = V, .n_in = C, .part = {{x + T * C, DTYPE_F32, V, C, false}}};
        struct weight wr = {.n_part = 1, .n_out = V, .n_in = C, .part = {{y + T * C, DTYPE_F32, V, C, false}}};
        memcpy(base, grad, sizeof base); // both are added to
        widened(all, x, SIZE);
        assert_ok(ref.weight_prepare(&w, DTYPE_F32, err));
        assert_ok(ref.weight_prepare(&wr, DTYPE_F32, err));
        ref.head_fwd(logp, lse, NULL, x, DTYPE_F32, C, &w, target, T, (float)c.softcap, 0.5f);
        ref.head_fwd(logp, other, NULL, y, DTYPE_F32, C, &wr, target, T, (float)c.softcap, 0.5f);
        ref.head_kl_bwd_acc(kl, grad, grad + T * C, x, DTYPE_F32, C, &w, lse, y, C, &wr, other, coef, T, (float)c.softcap, 0.5f);
        for (int t = 0; t < T; t++) value += (double)coef[t] * kl[t];
        assert_near(value, kl_loss(all, &c), 1e-5, 0);
        gradient_near("head_kl", grad, base, kl_loss, all, SIZE, &c);
        assert_true(guarded_done());
    }
}

/* ---------------------------------------------------------------- linear forwards and their adjoints */

static double inner(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static float *zeros(int64_t n)
{
    float *p = random_floats(n, 1);
    memset(p, 0, (size_t)n * sizeof *p);
    return p;
}

/* <W x, y> = <x, W' y> = <W, dW>, and the bias likewise. */
static void adjoint_of_products(void **state)
{
    (void)state;
    const int64_t m = 5, in = 9, out = 6;
    for (int transposed = 0; transposed < 2; transposed++) {
        float *weights = random_floats(in * out, 1), *x = random_floats(m * in, 1), *dy = random_floats(m * out, 1),
              *y = zeros(m * out);
        float *dx = zeros(m * in), *dw = zeros(in * out), *db = zeros(out), *bias = random_floats(out, 1),
              *moved = zeros(m * out);
        struct weight w = {
            .n_part = 1, .n_out = out, .n_in = in, .part = {{weights, DTYPE_F32, out, transposed ? out : in, transposed}}};
        assert_ok(ref.weight_prepare(&w, DTYPE_F32, err));
        ref.linear_fwd(y, DTYPE_F32, out, x, DTYPE_F32, in, &w, NULL, m, 0.5f, false);
        ref.linear_fwd(moved, DTYPE_F32, out, x, DTYPE_F32, in, &w, bias, m, 0.5f, false);
        ref.linear_bwd_x(dx, DTYPE_F32, in, dy, DTYPE_F32, out, &w, m, 0.5f, false);
        ref.linear_bwd_w(dw, dy, DTYPE_F32, out, x, DTYPE_F32, in, out, in, m, 0.5f, transposed);
        ref.bias_bwd(db, dy, DTYPE_F32, out, m, out);
        assert_near(inner(x, dx, m * in), inner(y, dy, m * out), 1e-5, 0);
        assert_near(inner(weights, dw, in * out), inner(y, dy, m * out), 1e-5, 0);
        assert_near(inner(bias, db, out), inner(moved, dy, m * out) - inner(y, dy, m * out), 1e-5, 0);
        // and the product itself at one place
        double sum = 0;
        for (int64_t i = 0; i < in; i++) sum += 0.5 * x[2 * in + i] * weights[transposed ? i * out + 3 : 3 * in + i];
        assert_near(y[2 * out + 3], sum, 1e-6, 0);
        assert_true(guarded_done());
    }
}

static void adjoint_of_lookups_and_turns(void **state)
{
    (void)state;
    const int64_t n = 11, rows = 5, c = 6, d = 3 * c;
    float *table = random_floats(rows * c, 1), *dy = random_floats(n * c, 1), *y = zeros(n * c), *dw = zeros(rows * c),
          *dx = zeros(rows * c);
    int32_t *ids = indices(&plain, n, rows);
    struct weight w = {.n_part = 1, .n_out = rows, .n_in = c, .part = {{table, DTYPE_F32, rows, c, false}}};
    assert_ok(ref.weight_prepare(&w, DTYPE_F32, err));
    ref.embed_fwd(y, &w, ids, n, 1.5f);
    ref.embed_bwd(dw, dy, ids, n, c, 1.5f);
    assert_near(inner(table, dw, rows * c), inner(y, dy, n * c), 1e-5, 0);
    ref.gather_fwd(y, table, DTYPE_F32, ids, n, c);
    ref.gather_bwd_acc(dx, dy, ids, n, c);
    assert_near(inner(table, dx, rows * c), inner(y, dy, n * c), 1e-5, 0);
    assert_memory_equal(y + 4 * c, table + ids[4] * c, (size_t)c * sizeof *y);

    float *x = random_floats(n * d, 1), *turned = zeros(n * d), *dout = random_floats(n * d, 1), *back = zeros(n * d);
    float *cosine = random_floats(rows * 2, 1), *sine = random_floats(rows * 2, 1);
    memcpy(turned, x, (size_t)(n * d) * sizeof *x);
    memcpy(back, dout, (size_t)(n * d) * sizeof *x);
    ref.rope_fwd(turned, DTYPE_F32, d, ids, cosine, sine, n, 3, c, 4);
    ref.rope_bwd(back, DTYPE_F32, d, ids, cosine, sine, n, 3, c, 4);
    assert_near(inner(x, back, n * d), inner(turned, dout, n * d), 1e-5, 0);
    // pairs (j, j + 2) of a head: the first of head 1 in row 3, and what lies beyond the rotation
    const float *from = x + 3 * d + c, *to = turned + 3 * d + c, a = cosine[ids[3] * 2], b = sine[ids[3] * 2];
    assert_near(to[0], (double)from[0] * a - (double)from[2] * b, 1e-6, 0);
    assert_near(to[2], (double)from[2] * a + (double)from[0] * b, 1e-6, 0);
    assert_float_equal(to[4], from[4], 0);
    assert_true(guarded_done());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms), cmocka_unit_test(activations),         cmocka_unit_test(attention),
        cmocka_unit_test(head),  cmocka_unit_test(head_kl), cmocka_unit_test(adjoint_of_products), cmocka_unit_test(adjoint_of_lookups_and_turns),
    };
    ref_fill(&ref);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
