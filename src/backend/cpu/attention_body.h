/* Kernels of attention: the softmax of a row of scores and its gradient. Needs simd.h. */

FN vf cap(vf s, float softcap, vf *slope)
{
    vf y = vtanh(s / splat(softcap));
    *slope = 1.0f - y * y;
    return y * softcap;
}

static TARGET float attn_softmax(float *s, int64_t n, float softcap, float *max, float *sum)
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
