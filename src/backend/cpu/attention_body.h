/* Kernels of attention: the softmax of a row of scores and its gradient. Needs simd.h. */

FN vf cap(vf s, float softcap, vf *slope)
{
    vf y = vtanh(s / splat(softcap));
    *slope = 1.0f - y * y;
    return y * softcap;
}

/* Vector by vector: processors drop what they are told to fetch when too much is on its way. */
FN void fetch_some(const struct fetch *f, int64_t i)
{
    const char *at = f->at + i / CACHE_BLOCK * f->block + i % CACHE_BLOCK / LANES * f->step;
    for (int64_t line = 0; line < f->step; line += 64) __builtin_prefetch(at + line);
}

static TARGET float attn_softmax(float *s, int64_t n, float softcap, float *max, float *sum, const struct fetch *fetch)
{
    vf top = splat(*max), total = {0}, slope;
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = get(s, DTYPE_F32, i, n - i);
        if (softcap > 0) {
            v = cap(v, softcap, &slope);
            put(s, DTYPE_F32, i, n - i, v);
        }
        top = vmax(keep_first(v, n - i, -INFINITY), top);
    }
    float largest = max_lanes(top), older = *max == -INFINITY ? 0 : expf(*max - largest);
    for (int64_t i = 0; i < n; i += LANES) {
        if (fetch) fetch_some(fetch, i);
        vf p = keep_first(vexp(get(s, DTYPE_F32, i, n - i) - splat(largest)), n - i, 0);
        total += p;
        put(s, DTYPE_F32, i, n - i, p);
    }
    *sum = *sum * older + sum_lanes(total);
    *max = largest;
    return older;
}

static TARGET void attn_grad(float *s, float *p, const float *dp, int64_t n, float softcap, const float *lse, const float *delta,
                             bool per_column)
{
    vf l = splat(*lse), d = splat(*delta), slope = splat(1);
    for (int64_t i = 0; i < n; i += LANES) {
        vf v = get(s, DTYPE_F32, i, n - i);
        if (per_column) {
            l = get(lse, DTYPE_F32, i, n - i);
            d = get(delta, DTYPE_F32, i, n - i);
        }
        if (softcap > 0) v = cap(v, softcap, &slope);
        v = vexp(v - l);
        if (p) put(p, DTYPE_F32, i, n - i, v);
        put(s, DTYPE_F32, i, n - i, v * (get(dp, DTYPE_F32, i, n - i) - d) * slope);
    }
}
