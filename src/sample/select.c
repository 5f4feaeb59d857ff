#include "sample/select.h"

#include <math.h>
#include <stdlib.h>

#include "backend/backend.h"

int64_t select_scratch(int64_t v) { return 2 * v + (v + WEIGHT_STRETCH - 1) / WEIGHT_STRETCH; }

/* Weights to draw from, and the sums of their stretches; in the caller's scratch, where v floats more are free. */
struct weights {
    float *e, *sum, *spare;
    int64_t n;
    float max;
    double total;
};

static struct weights weigh(const float *logits, int64_t v, double temperature, float *scratch)
{
    struct weights w = {.e = scratch, .spare = scratch + v, .sum = scratch + 2 * v, .n = v};
    w.total = ops->exp_weights(w.e, w.sum, &w.max, logits, v, (float)(1 / temperature));
    return w;
}

/* The token at which the running sum of weights passes u * total: stretches first, then inside. */
static int32_t draw(const struct weights *w, double u)
{
    double rest = u * w->total;
    int64_t last = -1;
    for (int64_t from = 0; from < w->n; from += WEIGHT_STRETCH) {
        const int64_t to = from + WEIGHT_STRETCH < w->n ? from + WEIGHT_STRETCH : w->n;
        const float part = w->sum[from / WEIGHT_STRETCH];
        if (rest >= part) {
            rest -= part;
            if (part > 0) last = to - 1;
            continue;
        }
        for (int64_t i = from; i < to; i++) {
            if (w->e[i] <= 0) continue;
            last = i;
            if (rest < w->e[i]) return (int32_t)i;
            rest -= w->e[i];
        }
    }
    while (last > 0 && w->e[last] <= 0) last--; // rounding: the last token that has any weight
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

static void drop_below(struct weights *w, float edge)
{
    w->total = 0;
    for (int64_t from = 0; from < w->n; from += WEIGHT_STRETCH) {
        double part = 0;
        for (int64_t i = from; i < w->n && i < from + WEIGHT_STRETCH; i++) {
            if (w->e[i] < edge) w->e[i] = 0;
            part += w->e[i];
        }
        w->sum[from / WEIGHT_STRETCH] = (float)part;
        w->total += part;
    }
}

/* Whether the weights of v logits are a distribution: not with NaN or infinity among them, and not when all are -infinity. */
static bool is_distribution(const struct weights *w) { return isfinite(w->max) && isfinite(w->total); }

static float logp_of(const struct weights *w, const float *logits, int32_t id, double temperature)
{
    const double inverse = (float)(1 / temperature); // as it was weighed
    return (float)((double)logits[id] * inverse - ((double)w->max * inverse + log(w->total)));
}

float select_logp(const float *logits, int64_t v, int32_t id, float *scratch)
{
    const struct weights w = weigh(logits, v, 1, scratch);
    return logp_of(&w, logits, id, 1);
}

void select_drop_outside(float *logits, const float *by, int64_t v, double p, float *scratch)
{
    const struct weights w = weigh(by, v, 1, scratch);
    if (!is_distribution(&w)) return; // select_token says so
    const float edge = nucleus_edge(w.e, v, w.total, p, w.spare);
    for (int64_t i = 0; i < v; i++)
        if (w.e[i] < edge) logits[i] = -INFINITY;
}

int32_t select_token(const float *logits, int64_t v, const struct select_options *o, double u, float *scratch, float *logp, float *drawn)
{
    const struct weights plain = weigh(logits, v, 1, scratch); // what the log-prob is taken from
    struct weights w = plain;
    int32_t id = 0;
    if (!is_distribution(&plain)) return -1;
    if (o->greedy) {
        while (id + 1 < v && logits[id] != plain.max) id++;
    } else {
        if (o->temperature != 1) w = weigh(logits, v, o->temperature, scratch);
        if (o->top_k > 0 && o->top_k < v) drop_below(&w, kth_largest(w.e, v, o->top_k, w.spare));
        if (o->top_p < 1) drop_below(&w, nucleus_edge(w.e, v, w.total, o->top_p, w.spare));
        id = draw(&w, u);
    }
    *drawn = o->greedy ? 0 : logp_of(&w, logits, id, o->temperature);
    *logp = logp_of(&plain, logits, id, 1);
    return id;
}
