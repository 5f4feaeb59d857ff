#include "label/ensemble.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

enum { MAX_ANSWERS = 64 };

/* Who judged what, and who counts. */
struct panel {
    const double *reward; /* (evaluators, n) */
    const double *p;      /* (evaluators), NULL: not asked for */
    int n;
    bool judged[MAX_ANSWERS]; /* answers that get a verdict */
    int n_judged;
    int member[MAX_EVALUATORS], n_member;
};

enum ensemble_rule ensemble_rule_find(const char *name)
{
    static const char *const names[] = {[ENSEMBLE_MEAN] = "mean", [ENSEMBLE_MIN] = "min", [ENSEMBLE_MEAN_SPREAD] = "mean-spread", [ENSEMBLE_VOTE] = "vote"};
    for (int k = 0; k <= ENSEMBLE_VOTE; k++)
        if (!strcmp(name, names[k])) return (enum ensemble_rule)k;
    BUG_ON(true, "no rule %s", name);
}

static bool has_verdict(const struct panel *q, int k, int i) { return !isnan(q->reward[k * q->n + i]) || (q->p && q->n == 2 && !isnan(q->p[k])); }

static void seat(struct panel *q, const struct ensemble *e)
{
    const int quorum = e->quorum ? e->quorum : e->n;
    for (int i = 0; i < q->n; i++) {
        int votes = 0;
        for (int k = 0; k < e->n; k++) votes += has_verdict(q, k, i);
        q->judged[i] = votes >= quorum;
        q->n_judged += q->judged[i];
    }
    for (int k = 0; k < e->n; k++) {
        bool all = true;
        for (int i = 0; i < q->n; i++) all = all && (!q->judged[i] || has_verdict(q, k, i));
        if (all) q->member[q->n_member++] = k;
    }
    if (q->n_member < quorum) q->n_judged = 0;
}

static double combined(const struct ensemble *e, const struct panel *q, int i)
{
    double weight = 0, mean = 0, square = 0, least = INFINITY;
    for (int m = 0; m < q->n_member; m++) {
        const double w = e->weight[q->member[m]], r = q->reward[q->member[m] * q->n + i];
        weight += w;
        mean += w * r;
        least = fmin(least, r);
    }
    mean /= weight;
    for (int m = 0; m < q->n_member; m++) {
        const double d = q->reward[q->member[m] * q->n + i] - mean;
        square += e->weight[q->member[m]] * d * d;
    }
    return e->rule == ENSEMBLE_MIN ? least : e->rule == ENSEMBLE_MEAN ? mean : mean - e->spread_coef * sqrt(square / weight);
}

/* P(i beats j). */
static double vote(const struct ensemble *e, const struct panel *q, int i, int j)
{
    double weight = 0, sum = 0;
    for (int m = 0; m < q->n_member; m++) {
        const int k = q->member[m];
        const double w = e->weight[k], a = q->reward[k * q->n + i], b = q->reward[k * q->n + j];
        const bool own = q->n == 2 && !isnan(q->p[k]);
        weight += w;
        sum += w * (own ? (i < j ? q->p[k] : 1 - q->p[k]) : a > b ? 1 : a < b ? 0 : 0.5);
    }
    return sum / weight;
}

void ensemble_combine(const struct ensemble *e, int n, const double *reward, const double *p, struct label_answer *a)
{
    BUG_ON(n > MAX_ANSWERS || e->n > MAX_EVALUATORS, "%d answers, %d evaluators", n, e->n);
    struct panel q = {.reward = reward, .p = e->rule == ENSEMBLE_VOTE ? p : NULL, .n = n};
    seat(&q, e);
    a->p = NAN;
    for (int i = 0; i < n; i++) {
        a->reward[i] = NAN;
        if (!q.n_judged || !q.judged[i]) continue;
        if (e->rule != ENSEMBLE_VOTE) {
            a->reward[i] = combined(e, &q, i);
        } else if (n == 2 && q.n_judged == 2) {
            a->p = vote(e, &q, 0, 1);
        } else if (q.n_judged > 1) {
            double sum = 0;
            for (int j = 0; j < n; j++) sum += j != i && q.judged[j] ? vote(e, &q, i, j) : 0;
            a->reward[i] = sum / (q.n_judged - 1);
        }
    }
}
