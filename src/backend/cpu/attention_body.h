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
        fetch_some(fetch, i);
        vf p = keep_first(vexp(get(s, DTYPE_F32, i, n - i) - splat(largest)), n - i, 0);
        total += p;
        put(s, DTYPE_F32, i, n - i, p);
    }
    *sum = *sum * older + sum_lanes(total);
    *max = largest;
    return older;
}

/* What the queries of a vector see of a tile's keys: key j where low < j <= high, lane by lane; no lane sees keys from `end` on, all see all where whole. */
struct lanes_seen {
    vi low, high;
    int64_t end;
    bool whole;
};

FN struct lanes_seen lanes_seen(const struct attn_tile *t, int64_t c)
{
    int32_t high[LANES], low[LANES], least = INT32_MAX, most = INT32_MIN, lowest = INT32_MIN;
    for (int i = 0; i < LANES; i++) {
        high[i] = (int32_t)(t->position[c + i] - t->key_position);
        low[i] = t->window > 0 && high[i] >= t->window ? (int32_t)(high[i] - t->window) : -1;
        least = high[i] < least ? high[i] : least;
        most = high[i] > most ? high[i] : most;
        lowest = low[i] > lowest ? low[i] : lowest;
    }
    return (struct lanes_seen){(vi)load_f32(low), (vi)load_f32(high), most + 1 < t->keys ? most + 1 : t->keys, least >= t->keys - 1 && lowest < 0};
}

FN vf seen_or(const struct lanes_seen *n, int64_t j, vf x, float otherwise)
{
    const vi key = (vi){0} + (int32_t)j;
    return n->whole ? x : blend((vi)(key > n->low) & (vi)(key <= n->high), x, splat(otherwise));
}

static TARGET void attn_softmax_down(const struct attn_tile *t, float *max, float *sum, float *older)
{
    for (int64_t c = 0; c < t->queries; c += LANES) {
        const struct lanes_seen seen = lanes_seen(t, c);
        vf before = load_f32(max + c), top = before, total = {0}, slope;
        for (int64_t j = 0; j < seen.end; j++) {
            vf v = load_f32(t->s + j * t->ld + c);
            if (t->softcap > 0) {
                v = cap(v, t->softcap, &slope);
                store_f32(t->s + j * t->ld + c, v);
            }
            top = vmax(seen_or(&seen, j, v, -INFINITY), top);
        }
        const vf from = blend((vi)(top > splat(-INFINITY)), top, splat(0)), rest = vexp(before - from); // a query that has seen nothing yet
        for (int64_t j = 0; j < seen.end; j++) {
            const vf p = seen_or(&seen, j, vexp(load_f32(t->s + j * t->ld + c) - from), 0);
            total += p;
            store_f32(t->s + j * t->ld + c, p);
        }
        for (int64_t j = seen.end < 0 ? 0 : seen.end; j < t->keys; j++) store_f32(t->s + j * t->ld + c, (vf){0});
        store_f32(sum + c, load_f32(sum + c) * rest + total);
        store_f32(max + c, top);
        store_f32(older + c, rest);
    }
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
