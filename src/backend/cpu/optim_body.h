/* Optimizer: arithmetic in f64, storage f32. The loops are plain: the compiler makes vectors of them. */

/* 32 sums side by side, then by pairs. */
static TARGET double square_sum(const float *x, int64_t n)
{
    double sum[32] = {0};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 32; j++) sum[j] += (double)x[i + j] * x[i + j];
    for (int j = 0; i < n; i++, j++) sum[j] += (double)x[i] * x[i];
    for (int d = 16; d; d /= 2)
        for (int j = 0; j < d; j++) sum[j] += sum[j + d];
    return sum[0];
}

FN void adamw_all(float *restrict value, float *restrict m, float *restrict v, float *restrict most, float *restrict grad, int64_t n, const struct adamw_step *s)
{
    const double beta1 = s->beta1, fresh1 = 1 - s->beta1, beta2 = s->beta2, fresh2 = 1 - s->beta2, scale = s->scale, decay = s->decay, rate = s->rate, over = 1 / s->root, eps = s->eps;
    for (int64_t i = 0; i < n; i++) {
        const double g = (float)(grad[i] * scale), mk = beta1 * m[i] + fresh1 * g, vk = beta2 * v[i] + fresh2 * g * g;
        m[i] = (float)mk;
        v[i] = (float)vk;
        double under = vk;
        if (most) {
            most[i] = (float)vk > most[i] ? (float)vk : most[i];
            under = most[i];
        }
        value[i] = (float)(value[i] * decay - rate * mk / (sqrt(under) * over + eps));
        grad[i] = 0;
    }
}

static TARGET void adamw(float *value, float *m, float *v, float *most, float *grad, int64_t n, const struct adamw_step *s)
{
    if (most)
        adamw_all(value, m, v, most, grad, n, s);
    else
        adamw_all(value, m, v, NULL, grad, n, s);
}
