/* Objectives on rows that come one by one, each desirable or not. Notation: d = log pi - log ref of a row, u what its implicit reward beta d exceeds the
 * reference point by, l the weight of its verdict, s(x) the logistic function. Each function states its loss and the derivative in log pi. */
#include <math.h>

#include "objective/objective.h"

#define EACH_ROW(b, i) \
    for (int64_t i = 0; i < (b)->n; i++) \
        if ((b)->verdict[i] == VERDICT_DESIRABLE || (b)->verdict[i] == VERDICT_UNDESIRABLE)

static double sign_of(const struct batch *b, int64_t i) { return b->verdict[i] == VERDICT_DESIRABLE ? 1 : -1; }

static void row_measure(const struct batch *b, int64_t i, double beta, struct objective_stats *s)
{
    const bool desirable = b->verdict[i] == VERDICT_DESIRABLE;
    *(desirable ? &s->n_desirable : &s->n_undesirable) += 1;
    *(desirable ? &s->chosen : &s->rejected) += beta * log_ratio(b, (int32_t)i);
}

static void row_add(const struct objective_params *p, struct batch *b, int64_t i, double scale, struct objective_stats *s, double loss, double dlogp)
{
    const double weight = scale * verdict_weight(p, b->verdict[i]);
    b->coef[i] += weight * dlogp;
    s->loss += weight * loss;
    row_measure(b, i, p->beta, s);
}

/* max(0, the mean of d over the mismatched rows): an estimate of KL(pi || ref), which is never below 0; 0 without such rows. */
static double mismatched_kl(const struct batch *b)
{
    double sum = 0, n = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->verdict[i] != VERDICT_MISMATCHED) continue;
        sum += log_ratio(b, (int32_t)i);
        n++;
    }
    return n > 0 ? fmax(0, sum / n) : 0;
}

/* KTO (2402.01306): u = beta (d - z0), L = l (1 - s(u)) desirable, l (1 - s(-u)) undesirable, dL/dlogp = -/+ l beta s(u) s(-u); z0 is held constant. */
static void kto_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    const double z0 = mismatched_kl(b);
    EACH_ROW(b, i)
    {
        const double u = p->beta * (log_ratio(b, (int32_t)i) - z0), sign = sign_of(b, i);
        row_add(p, b, i, scale, s, sigmoid(-sign * u), -sign * p->beta * sigmoid(u) * sigmoid(-u));
    }
    s->reference_point = z0;
}

/* APO-zero on single rows (2408.06266, eq. 7 taken apart): L = l (1 - s(u)) desirable, l s(u) undesirable, u = beta d, dL/dlogp = -/+ l beta s(u) s(-u) */
static void apo_zero_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_ROW(b, i)
    {
        const double u = p->beta * log_ratio(b, (int32_t)i), sign = sign_of(b, i);
        row_add(p, b, i, scale, s, sigmoid(-sign * u), -sign * p->beta * sigmoid(u) * sigmoid(-u));
    }
}

/* BCO (2404.04656): L = -l log s(beta d - delta) desirable, -l log s(-(beta d - delta)) undesirable, dL/dlogp = -/+ l beta s(-/+ (beta d - delta)); delta, the
 * running mean of beta d, is held constant. */
static void bco_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_ROW(b, i)
    {
        const double sign = sign_of(b, i), u = sign * (p->beta * log_ratio(b, (int32_t)i) - b->shift);
        row_add(p, b, i, scale, s, -log_sigmoid(u), -sign * p->beta * sigmoid(-u));
    }
    s->reference_point = b->shift;
}

/* The row of the verdict that follows `row` in the order of (d, row); row -1: the first. -1: none. */
static int64_t next_in_order(const struct batch *b, enum verdict verdict, int64_t row)
{
    int64_t best = -1;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->verdict[i] != verdict) continue;
        const double d = log_ratio(b, (int32_t)i), last = row < 0 ? -INFINITY : log_ratio(b, (int32_t)row);
        if (row >= 0 && (d < last || (d == last && i <= row))) continue;
        if (best < 0 || d < log_ratio(b, (int32_t)best)) best = i;
    }
    return best;
}

/* AOT on unpaired rows (2406.05882): optimal transport in one dimension pairs the quantiles of d among the n desirable rows with those among the m undesirable:
 * L = integral over q in [0, 1] of -log s(beta (d+(q) - d-(q))). Rank i covers [i/n, (i+1)/n] and rank j [j/m, (j+1)/m]; the overlap is the weight of their pair.
 * The integral counts as many rows as the batch has, so that batches are averaged by their size. */
static void aot_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    double n = 0, m = 0;
    EACH_ROW(b, i)
    {
        *(b->verdict[i] == VERDICT_DESIRABLE ? &n : &m) += 1;
        row_measure(b, i, p->beta, s);
    }
    const double mass = scale * (n + m);
    int64_t good = next_in_order(b, VERDICT_DESIRABLE, -1), bad = next_in_order(b, VERDICT_UNDESIRABLE, -1);
    for (double i = 0, j = 0, q = 0; good >= 0 && bad >= 0;) {
        const double to = fmin((i + 1) / n, (j + 1) / m), z = p->beta * (log_ratio(b, (int32_t)good) - log_ratio(b, (int32_t)bad)), pull = mass * (to - q) * p->beta * sigmoid(-z);
        s->loss -= mass * (to - q) * log_sigmoid(z);
        b->coef[good] -= pull;
        b->coef[bad] += pull;
        q = to;
        const bool good_ends = (i + 1) * m <= (j + 1) * n, bad_ends = (j + 1) * n <= (i + 1) * m; // whole numbers: exact
        if (good_ends) good = next_in_order(b, VERDICT_DESIRABLE, good), i++;
        if (bad_ends) bad = next_in_order(b, VERDICT_UNDESIRABLE, bad), j++;
    }
}

void running_mean_add(struct running_mean *m, struct batch *b, double beta)
{
    BATCH_NEED(b, COL_LOGP | COL_LOGP_REF);
    double sum = 0, n = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->verdict[i] == VERDICT_MISMATCHED) continue;
        sum += beta * log_ratio(b, (int32_t)i);
        n++;
    }
    if (n > 0) m->mean += (sum / n - m->mean) * n / (m->n + n);
    m->n += n;
    b->shift = m->mean;
    b->written |= COL_SHIFT;
}

static const char *refuse_weights(const struct objective_params *p)
{
    return p->desirable_weight > 0 || p->undesirable_weight > 0 ? NULL : "--desirable-weight and --undesirable-weight are both 0: nothing would be learned; give one of them a weight";
}

static const char *refuse_any_weight(const struct objective_params *p)
{
    return p->desirable_weight == 1 && p->undesirable_weight == 1 ? NULL : "rows of the two kinds are matched with each other: leave --desirable-weight and --undesirable-weight at 1";
}

static double at_log2(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, 0.6931471805599453; }
static double at_half(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, 0.5; }

const struct objective objective_unpaired[] = {
    {"kto", COUPLE_BATCH, COL_VERDICT | COL_MISMATCH | COL_LOGP_REF, kto_eval, at_half, "l (1 - s(+-beta (d - z0))), z0 from mismatched rows", "arXiv 2402.01306", refuse_weights, 0},
    {"apo-zero-unpaired", COUPLE_SEQUENCE, COL_VERDICT | COL_LOGP_REF, apo_zero_eval, at_half, "l (1 - s(+-beta d))", "arXiv 2408.06266", refuse_weights, 0},
    {"bco-unpaired", COUPLE_BATCH, COL_VERDICT | COL_SHIFT | COL_LOGP_REF, bco_eval, at_log2, "-l log s(+-(beta d - delta)), delta the running mean of beta d", "arXiv 2404.04656", refuse_weights, 0},
    {"aot-unpaired", COUPLE_BATCH, COL_VERDICT | COL_LOGP_REF, aot_eval, NULL, "-log s(beta (d+ - d-)), sorted against sorted", "arXiv 2406.05882", refuse_any_weight, 0},
    {.name = NULL},
};
