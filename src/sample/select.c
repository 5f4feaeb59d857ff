#include "sample/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512 };

/* e^x for x <= 0 to about 1 ulp, in a form that compilers vectorise: 2^n times a polynomial on [-ln2/2, ln2/2]. */
static inline float exp_negative(float x)
{
    const float clamped = x < -87.0f ? -87.0f : x;
    const float n = __builtin_rintf(clamped * 1.44269504f), r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return x < -87.0f ? 0.0f : p * scale;
}

static float largest(const float *x, int64_t n)
{
    float best = x[0];
#pragma omp simd reduction(max : best)
    for (int64_t i = 0; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

/* e[i] = exp((x[i] - top) / temperature); the sum in double, block by block. */
static double exponentials(float *e, const float *x, int64_t n, float top, float inverse_temperature)
{
    double sum = 0;
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t to = from + BLOCK < n ? from + BLOCK : n;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = from; i < to; i++) {
            e[i] = exp_negative((x[i] - top) * inverse_temperature);
            part += e[i];
        }
        sum += part;
    }
    return sum;
}

/* The token at which the running sum of weights passes u * total: blocks first, then inside. */
static int32_t draw(const float *e, int64_t n, double total, double u)
{
    double rest = u * total;
    int64_t last = -1;
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t to = from + BLOCK < n ? from + BLOCK : n;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = from; i < to; i++) part += e[i];
        if (rest >= part) {
            rest -= part;
            if (part > 0) last = to - 1;
            continue;
        }
        for (int64_t i = from; i < to; i++) {
            if (e[i] <= 0) continue;
            last = i;
            if (rest < e[i]) return (int32_t)i;
            rest -= e[i];
        }
    }
    while (last > 0 && e[last] <= 0) last--; // rounding: the last token that has any weight
    return (int32_t)last;
}

static int descending(const void *x, const void *y)
{
    const float a = *(const float *)x, b = *(const float *)y;
    return a > b ? -1 : a < b;
}

/* The k-th largest weight: only those above a falling threshold are sorted. */
static float kth_largest(const float *e, int64_t n, int64_t k, float *sorted)
{
    for (float cut = 1e-2f;; cut = cut > 1e-30f ? cut * 1e-3f : -1) {
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            if (e[i] >= cut) sorted[count++] = e[i];
        if (count < k && cut >= 0) continue;
        qsort(sorted, (size_t)count, sizeof *sorted, descending);
        return sorted[k - 1 < count ? k - 1 : count - 1];
    }
}

/* The smallest weight of the set of likeliest tokens that reaches p of the total. */
static float nucleus_edge(const float *e, int64_t n, double total, double p, float *sorted)
{
    for (float cut = 1e-2f;; cut = cut > 1e-30f ? cut * 1e-3f : -1) {
        double mass = 0;
        int64_t count = 0;
        for (int64_t i = 0; i < n; i++)
            if (e[i] >= cut && e[i] > 0) {
                sorted[count++] = e[i];
                mass += e[i];
            }
        if (mass < p * total && cut >= 0) continue;
        qsort(sorted, (size_t)count, sizeof *sorted, descending);
        double sum = 0;
        for (int64_t i = 0; i < count; i++)
            if ((sum += sorted[i]) >= p * total) return sorted[i];
        return sorted[count - 1];
    }
}

static double drop_below(float *e, int64_t n, float edge)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (e[i] < edge) e[i] = 0;
        sum += e[i];
    }
    return sum;
}

/* Whether the weights of v logits are a distribution: not with NaN or infinity among them, and not when all are -infinity. */
static bool is_distribution(float top, double total) { return isfinite(top) && isfinite(total); }

float select_logp(const float *logits, int64_t v, int32_t id, float *scratch)
{
    const float top = largest(logits, v);
    const double lse = (double)top + log(exponentials(scratch, logits, v, top, 1));
    return (float)((double)logits[id] - lse);
}

void select_drop_outside(float *logits, const float *by, int64_t v, double p, float *scratch)
{
    const float top = largest(by, v);
    const double total = exponentials(scratch, by, v, top, 1);
    if (!is_distribution(top, total)) return; // select_token says so
    const float edge = nucleus_edge(scratch, v, total, p, scratch + v);
    for (int64_t i = 0; i < v; i++)
        if (scratch[i] < edge) logits[i] = -INFINITY;
}

int32_t select_token(const float *logits, int64_t v, const struct select_options *o, double u, float *scratch, float *logp)
{
    const float top = largest(logits, v);
    float *e = scratch;
    double total = exponentials(e, logits, v, top, 1);
    const double lse = (double)top + log(total);
    int32_t id = 0;
    if (!is_distribution(top, total)) return -1;
    if (o->greedy) {
        while (logits[id] != top) id++;
    } else {
        if (o->temperature != 1) total = exponentials(e, logits, v, top, (float)(1 / o->temperature));
        if (o->top_k > 0 && o->top_k < v) total = drop_below(e, v, kth_largest(e, v, o->top_k, scratch + v));
        if (o->top_p < 1) total = drop_below(e, v, nucleus_edge(e, v, total, o->top_p, scratch + v));
        id = draw(e, v, total, u);
    }
    *logp = (float)((double)logits[id] - lse);
    return id;
}
