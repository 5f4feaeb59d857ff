/* Robust listwise SAIL: K draws of the policy, ranked by reward; g = beta d(y) is each answer's implicit reward. Plackett-Luce: PL(order) = -sum_i log[e^{g_i} / sum_{j >= i} e^{g_j}], i and j
 * in that order. L = (1 - rho) PL(by reward, best first) + rho PL(by g, lowest first), the ranking that fits the policy least; K = 2: -log s(z) + rho max(z, 0).
 *
 * The sampler is differentiated: grad = grad L + gamma (L - b) sum_k grad log pi(y_k). Equal rewards keep the order of drawing, which says nothing. */
#include <math.h>

#include "base/err.h"
#include "objective/objective.h"

enum { MOST = 64 }; /* answers of a prompt */
struct list {
    int n;
    double g[MOST], slope[MOST], loss;
};

static void rank_by(int *order, int n, const double *key, double sign)
{
    for (int i = 0; i < n; i++) { // insertion: few, and equals keep their places
        int at = i;
        for (; at > 0 && sign * key[order[at - 1]] < sign * key[i]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
}

/* loss += weight PL(order), slope += weight dPL/dg */
static void plackett_luce(struct list *l, const int *order, double weight)
{
    for (int i = 0; i + 1 < l->n; i++) {
        double most = -INFINITY, sum = 0;
        for (int j = i; j < l->n; j++) most = fmax(most, l->g[order[j]]);
        for (int j = i; j < l->n; j++) sum += exp(l->g[order[j]] - most);
        l->loss += weight * (most + log(sum) - l->g[order[i]]);
        l->slope[order[i]] -= weight;
        for (int j = i; j < l->n; j++) l->slope[order[j]] += weight * exp(l->g[order[j]] - most) / sum;
    }
}

static void list_of(struct list *l, const struct objective_params *p, const struct batch *b, int64_t from, int64_t end)
{
    int order[MOST] = {0};
    BUG_ON(end - from > MOST, "%lld answers of a prompt", (long long)(end - from));
    *l = (struct list){.n = (int)(end - from)};
    for (int k = 0; k < l->n; k++) l->g[k] = p->beta * log_ratio(b, (int32_t)(from + k));
    rank_by(order, l->n, b->reward + from, 1);
    plackett_luce(l, order, 1 - p->robust_rho);
    if (p->robust_rho == 0) return;
    rank_by(order, l->n, l->g, -1);
    plackett_luce(l, order, p->robust_rho);
}

static double log_factorial(int n) { return n < 2 ? 0 : log(n) + log_factorial(n - 1); }

/* Independent of the group's answers: nothing, a number, the loss at the reference (log K!, for pairs log 2), or the mean over the batch's other groups. */
static double baseline_of(const struct objective_params *p, const struct batch *b, int64_t own, int n)
{
    double sum = 0, groups = 0;
    if (p->baseline == BASELINE_NONE) return 0;
    if (p->baseline == BASELINE_NUMBER) return -p->baseline_value; // of a log-likelihood, as in sail
    for (int64_t from = 0, end; p->baseline != BASELINE_LOG2 && from < b->n; from = end) {
        struct list other;
        end = batch_group_end(b, from);
        if (from == own) continue;
        list_of(&other, p, b, from, end);
        sum += other.loss;
        groups++;
    }
    return groups > 0 ? sum / groups : log_factorial(n);
}

static void listwise_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (int64_t from = 0, end; from < b->n; from = end) {
        struct list l;
        end = batch_group_end(b, from);
        list_of(&l, p, b, from, end);
        const double score = p->gamma == 0 ? 0 : p->gamma * (l.loss - baseline_of(p, b, from, l.n));
        for (int k = 0; k < l.n; k++) b->coef[from + k] = scale * (p->beta * l.slope[k] + score);
        s->loss += scale * l.loss;
    }
}

static const char *refuse(const struct objective_params *p) { return p->chi2_nu > 0 || p->kl_nu > 0 ? "--chi2-nu and --kl-nu are about labels of pairs: drop them, or take sail-pr" : NULL; }

const struct objective objective_listwise = {"listwise", COUPLE_GROUP, COL_REWARD | COL_LOGP_REF | GROUPS | BASELINES, listwise_eval, NULL,
                                             "(1 - rho) PL(by reward) + rho PL(by beta d, lowest first), with the gradient of the sampler", "arXiv 2602.20457", refuse, 0};
