/* Kernels of one row: norms, activations, rotations, softmax. Needs simd.h. */

static TARGET void axpy(void *y, enum dtype yt, const void *x, enum dtype xt, int64_t n, float alpha, bool accumulate)
{
    vf a = splat(alpha);
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = get(x, xt, i, n - i) * a;
        if (accumulate) v += get(y, yt, i, n - i);
        put(y, yt, i, n - i, v);
    }
}

static TARGET float dot(const void *x, enum dtype xt, const void *y, enum dtype yt, int64_t n)
{
    vf sum = {0};
    for (int64_t i = 0; i < n; i += LANES) sum += get(x, xt, i, n - i) * get(y, yt, i, n - i);
    return sum_lanes(sum);
}

/* Rows are summed in blocks, so that rounding grows with their square root at most. */
enum { SUM_ROWS = 64 };

static TARGET void column_sum(float *db, const void *dy, enum dtype t, int64_t ld, int64_t m, int64_t n)
{
    const size_t size = t == DTYPE_F32 ? 4 : 2;
    for (int64_t i = 0; i < n; i += LANES) {
        vf total = {0};
        for (int64_t r0 = 0; r0 < m; r0 += SUM_ROWS) {
            vf sum = {0};
            for (int64_t r = r0; r < m && r < r0 + SUM_ROWS; r++)
                sum += get((const char *)dy + (size_t)(r * ld) * size, t, i, n - i);
            total += sum;
        }
        put(db, DTYPE_F32, i, n - i, get(db, DTYPE_F32, i, n - i) + total);
    }
}

static TARGET float rmsnorm(void *y, enum dtype yt, const void *x, enum dtype xt, const float *w, int64_t c, float eps,
                            float offset)
{
    vf sum = {0}, shift = splat(offset);
    for (int64_t i = 0; i < c; i += LANES) {
        vf v = get(x, xt, i, c - i);
        sum += v * v;
    }
    float rstd = 1.0f / sqrtf(sum_lanes(sum) / (float)c + eps);
    vf s = splat(rstd);
    for (int64_t i = 0; i < c; i += LANES) put(y, yt, i, c - i, get(x, xt, i, c - i) * s * (get(w, DTYPE_F32, i, c - i) + shift));
    return rstd;
}

// dx_i += s (g_i dy_i - xhat_i mean(g dy xhat)) with g = w + offset, xhat = x s
static TARGET void rmsnorm_bwd(float *dx, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w,
                               float rstd, int64_t c, float offset)
{
    vf sum = {0}, shift = splat(offset), s = splat(rstd);
    for (int64_t i = 0; i < c; i += LANES)
        sum += (get(w, DTYPE_F32, i, c - i) + shift) * get(dy, dyt, i, c - i) * get(x, xt, i, c - i);
    vf mean = splat(sum_lanes(sum) * rstd * rstd / (float)c); // of g dy xhat, times s
    for (int64_t i = 0; i < c; i += LANES) {
        vf d = (get(w, DTYPE_F32, i, c - i) + shift) * get(dy, dyt, i, c - i) - get(x, xt, i, c - i) * mean;
        put(dx, DTYPE_F32, i, c - i, get(dx, DTYPE_F32, i, c - i) + s * d);
    }
}

static TARGET void layernorm(void *y, enum dtype yt, float stat[2], const void *x, enum dtype xt, const float *w, const float *b,
                             int64_t c, float eps)
{
    vf sum = {0}, square = {0};
    for (int64_t i = 0; i < c; i += LANES) sum += get(x, xt, i, c - i);
    float mean = sum_lanes(sum) / (float)c;
    vf m = splat(mean);
    for (int64_t i = 0; i < c; i += LANES) {
        vf d = keep_first(get(x, xt, i, c - i) - m, c - i, 0);
        square += d * d;
    }
    float rstd = 1.0f / sqrtf(sum_lanes(square) / (float)c + eps);
    vf s = splat(rstd);
    for (int64_t i = 0; i < c; i += LANES) {
        vf v = (get(x, xt, i, c - i) - m) * s * get(w, DTYPE_F32, i, c - i);
        put(y, yt, i, c - i, b ? v + get(b, DTYPE_F32, i, c - i) : v);
    }
    stat[0] = mean;
    stat[1] = rstd;
}

// dx_i += s (g_i - mean(g) - xhat_i mean(g xhat)) with g = w dy, xhat = (x - mean) s
static TARGET void layernorm_bwd(float *dx, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w,
                                 const float stat[2], int64_t c)
{
    vf sum = {0}, cross = {0}, m = splat(stat[0]), s = splat(stat[1]);
    for (int64_t i = 0; i < c; i += LANES) {
        vf g = get(w, DTYPE_F32, i, c - i) * get(dy, dyt, i, c - i); // zero behind the end
        sum += g;
        cross += g * (get(x, xt, i, c - i) - m);
    }
    vf mean_g = splat(sum_lanes(sum) / (float)c),
       mean_gx = splat(sum_lanes(cross) * stat[1] * stat[1] / (float)c); // the latter times s
    for (int64_t i = 0; i < c; i += LANES) {
        vf g = get(w, DTYPE_F32, i, c - i) * get(dy, dyt, i, c - i);
        vf d = g - mean_g - (get(x, xt, i, c - i) - m) * mean_gx;
        put(dx, DTYPE_F32, i, c - i, get(dx, DTYPE_F32, i, c - i) + s * d);
    }
}

static TARGET void norm_bwd_w(float *dw, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *stat,
                              bool with_mean, int64_t rows, int64_t c, int64_t from, int64_t n)
{
    const size_t dsize = dyt == DTYPE_F32 ? 4 : 2, xsize = xt == DTYPE_F32 ? 4 : 2;
    for (int64_t i = from; i < from + n; i += LANES) {
        int64_t left = from + n - i;
        vf total = {0};
        for (int64_t r0 = 0; r0 < rows; r0 += SUM_ROWS) {
            vf sum = {0};
            for (int64_t r = r0; r < rows && r < r0 + SUM_ROWS; r++) {
                vf v = get((const char *)x + (size_t)(r * c) * xsize, xt, i, left);
                if (with_mean) v -= splat(stat[2 * r]);
                sum += get((const char *)dy + (size_t)(r * c) * dsize, dyt, i, left) * v *
                       splat(with_mean ? stat[2 * r + 1] : stat[r]);
            }
            total += sum;
        }
        put(dw, DTYPE_F32, i, left, get(dw, DTYPE_F32, i, left) + total);
    }
}

static TARGET void turn(void *x, enum dtype t, const float *cosine, const float *sine, float direction, int64_t half)
{
    char *second = (char *)x + (size_t)half * (t == DTYPE_F32 ? 4 : 2);
    vf sign = splat(direction);
    for (int64_t j = 0; j < half; j += LANES) {
        int64_t left = half - j;
        vf c = get(cosine, DTYPE_F32, j, left), s = get(sine, DTYPE_F32, j, left) * sign;
        vf a = get(x, t, j, left), b = get(second, t, j, left);
        put(x, t, j, left, a * c - b * s);
        put(second, t, j, left, b * c + a * s);
    }
}

FN vf sigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

/* P(X <= x) of a standard normal: erfc(|x| / sqrt 2) / 2 by a rational Chebyshev fit of log(erfc(z) exp(z^2) (1 + z / 2)) in
 * t = 1 / (1 + z / 2), relative error 1.2e-7. */
FN vf normal_cdf(vf x, vf *density)
{
    static const float fit[] = {0.17087277f,  -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                                -0.18628806f, 0.09678418f,  0.37409196f, 1.00002368f,  -1.26551223f};
    vf z = vabs(x) * 0.70710678f, t = 1.0f / (1.0f + z * 0.5f), p = splat(fit[0]), gauss = vexp(x * x * -0.5f);
    for (int i = 1; i < 10; i++) p = p * t + fit[i];
    vf tail = t * vexp(p) * gauss * 0.5f;
    *density = gauss * 0.39894228f;
    return blend((vi)(x < splat(0)), tail, 1.0f - tail);
}

/* act(x), and its derivative where asked for. */
FN vf activate(vf x, enum activation act, bool with_slope, vf *slope)
{
    if (act == ACT_SILU) {
        vf s = sigmoid(x);
        if (with_slope) *slope = s * (1.0f + x * (1.0f - s));
        return x * s;
    }
    if (act == ACT_GELU) {
        vf density, cdf = normal_cdf(x, &density);
        if (with_slope) *slope = cdf + x * density;
        return x * cdf;
    }
    if (act == ACT_RELU) {
        vi positive = (vi)(x > splat(0));
        if (with_slope) *slope = blend(positive, splat(1), splat(0));
        return blend(positive, x, splat(0));
    }
    // (1 + tanh u) / 2 = sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    vf square = x * x, s = sigmoid(x * (square * (2 * 0.79788456f * 0.044715f) + 2 * 0.79788456f));
    if (with_slope) *slope = s + x * s * (1.0f - s) * (square * (6 * 0.79788456f * 0.044715f) + 2 * 0.79788456f);
    return x * s;
}

FN void act_lanes(void *y, const void *gate, const void *up, enum dtype t, int64_t i, int64_t left, enum activation kind)
{
    vf a = activate(get(gate, t, i, left), kind, false, NULL);
    put(y, t, i, left, up ? a * get(up, t, i, left) : a);
}

FN void act_bwd_lanes(void *dgate, void *dup, const void *dy, const void *gate, const void *up, enum dtype t, int64_t i,
                      int64_t left, enum activation kind)
{
    vf slope, a = activate(get(gate, t, i, left), kind, true, &slope), d = get(dy, t, i, left);
    put(dgate, t, i, left, (up ? d * get(up, t, i, left) : d) * slope);
    if (dup) put(dup, t, i, left, d * a);
}

/* The body runs with constants for the kind and the type, and whole vectors apart from the rest: no branch, nothing spilled. */
#define EACH(body, kind, type)                                                                                                   \
    do {                                                                                                                         \
        int64_t i = 0;                                                                                                           \
        for (; i + LANES <= n; i += LANES) body(type, i, LANES, kind);                                                           \
        if (i < n) body(type, i, n - i, kind);                                                                                   \
    } while (0)
#define EACH_KIND(body)                                                                                                          \
    do {                                                                                                                         \
        const bool wide = t == DTYPE_F32;                                                                                        \
        if (kind == ACT_SILU && wide) EACH(body, ACT_SILU, DTYPE_F32);                                                           \
        if (kind == ACT_SILU && !wide) EACH(body, ACT_SILU, DTYPE_BF16);                                                         \
        if (kind == ACT_GELU && wide) EACH(body, ACT_GELU, DTYPE_F32);                                                           \
        if (kind == ACT_GELU && !wide) EACH(body, ACT_GELU, DTYPE_BF16);                                                         \
        if (kind == ACT_GELU_TANH && wide) EACH(body, ACT_GELU_TANH, DTYPE_F32);                                                 \
        if (kind == ACT_GELU_TANH && !wide) EACH(body, ACT_GELU_TANH, DTYPE_BF16);                                               \
        if (kind == ACT_RELU && wide) EACH(body, ACT_RELU, DTYPE_F32);                                                           \
        if (kind == ACT_RELU && !wide) EACH(body, ACT_RELU, DTYPE_BF16);                                                         \
    } while (0)

static TARGET void act(void *y, const void *gate, const void *up, enum dtype t, int64_t n, enum activation kind)
{
#define BODY(type, at, left, which) act_lanes(y, gate, up, type, at, left, which)
    EACH_KIND(BODY);
#undef BODY
}

static TARGET void act_bwd(void *dgate, void *dup, const void *dy, const void *gate, const void *up, enum dtype t, int64_t n,
                           enum activation kind)
{
#define BODY(type, at, left, which) act_bwd_lanes(dgate, dup, dy, gate, up, type, at, left, which)
    EACH_KIND(BODY);
#undef BODY
}

static TARGET float softmax_sum(float *z, int64_t n, float softcap, float *sum)
{
    vf top = splat(-INFINITY), total = {0};
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = get(z, DTYPE_F32, i, n - i);
        if (softcap > 0) {
            v = vtanh(v / splat(softcap)) * softcap;
            put(z, DTYPE_F32, i, n - i, v);
        }
        top = vmax(keep_first(v, n - i, -INFINITY), top);
    }
    float max = max_lanes(top);
    for (int64_t i = 0; i < n; i += LANES) total += keep_first(vexp(get(z, DTYPE_F32, i, n - i) - splat(max)), n - i, 0);
    *sum = sum_lanes(total);
    return max;
}

static TARGET void softmax_bwd(void *out, enum dtype t, const float *z, int64_t n, float softcap, float lse, float coef)
{
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = get(z, DTYPE_F32, i, n - i), slope = splat(-coef);
        if (softcap > 0) {
            vf y = vtanh(v / splat(softcap));
            v = y * softcap;
            slope *= 1.0f - y * y;
        }
        put(out, t, i, n - i, vexp(v - splat(lse)) * slope);
    }
}

static TARGET float largest(const float *z, int64_t n)
{
    vf top[4] = {splat(-INFINITY), splat(-INFINITY), splat(-INFINITY), splat(-INFINITY)};
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        UNROLL
        for (int a = 0; a < 4; a++) top[a] = vmax(load_f32(z + i + a * LANES), top[a]);
    }
    for (; i < n; i += LANES) top[0] = vmax(keep_first(get(z, DTYPE_F32, i, n - i), n - i, -INFINITY), top[0]);
    return max_lanes(vmax(vmax(top[0], top[1]), vmax(top[2], top[3])));
}

static TARGET float exp_stretch(float *e, const float *z, int64_t n, float max, float scale)
{
    vf sum = {0}, top = splat(max), s = splat(scale);
    for (int64_t i = 0; i < n; i += LANES) {
        vf x = keep_first(vexp((get(z, DTYPE_F32, i, n - i) - top) * s), n - i, 0);
        put(e, DTYPE_F32, i, n - i, x);
        sum += x;
    }
    return sum_lanes(sum);
}
