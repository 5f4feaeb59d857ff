/* Policies small enough to enumerate every response: a softmax over N one-token answers, and a two-token policy whose first token may end the answer (lengths differ, the second token's
 * logits depend on the first). The mean update of an objective over all that can be drawn is compared with differences of the function that its paper minimises. */
#ifndef SAIL_TESTS_ENUMERATE_H
#define SAIL_TESTS_ENUMERATE_H

#include "test.h"

#include "objective/objective.h"

enum { MAX_ANSWER = 7, MAX_PARAM = 9, SYMBOLS = 3 };

struct tree {
    const char *name;
    int n_param, n_answer;
    bool two_tokens; /* answers: 0 = end; 1 + 3 (a - 1) + b = symbol a in {1, 2}, then b; parameters: 3 logits, then 3 for each a */
};
static const struct tree trees[2] = {{"softmax", 5, 5, false}, {"two tokens", 9, 7, true}};
static const double tree_theta[MAX_PARAM] = {0.3, -0.7, 1.1, 0.2, -0.4, 0.9, -0.5, 0.15, 0.6}, tree_ref[MAX_PARAM] = {0.1, 0.4, -0.2, 0.6, -0.5, 0.3, 0.8, -0.3, 0.05};
static const double tree_reward[MAX_ANSWER] = {0.2, -1.0, 0.7, 1.5, -0.3, 0.9, -0.6};

static inline int tree_tokens(const struct tree *t, int y) { return t->two_tokens && y > 0 ? 2 : 1; }

/* Token k of answer y: its log-prob, and (with g) the gradient of it added times scale. */
static inline double tree_token(const struct tree *t, const double *theta, int y, int k, double scale, double *g)
{
    const int n = t->two_tokens ? SYMBOLS : t->n_param, a = !t->two_tokens || y == 0 ? y : 1 + (y - 1) / 3, at = k ? 3 * a : 0, v = k ? (y - 1) % 3 : a;
    double z = 0;
    for (int i = 0; i < n; i++) z += exp(theta[at + i]);
    for (int i = 0; g && i < n; i++) g[at + i] += scale * ((i == v) - exp(theta[at + i]) / z);
    return theta[at + v] - log(z);
}

static inline double tree_logp(const struct tree *t, const double *theta, int y, double scale, double *g)
{
    double sum = 0;
    for (int k = 0; k < tree_tokens(t, y); k++) sum += tree_token(t, theta, y, k, scale, g);
    return sum;
}

/* g += scale * sum over prefixes of y of dKL(ref(.|prefix) || pi(.|prefix)) / dlogits = pi - ref */
static inline void tree_pull(const struct tree *t, const double *theta, int y, double scale, double *g)
{
    for (int k = 0; scale != 0 && k < tree_tokens(t, y); k++) {
        const int n = t->two_tokens ? SYMBOLS : t->n_param, at = k ? 3 * (1 + (y - 1) / 3) : 0;
        double a = 0, b = 0;
        for (int i = 0; i < n; i++) {
            a += exp(theta[at + i]);
            b += exp(tree_ref[at + i]);
        }
        for (int i = 0; i < n; i++) g[at + i] += scale * (exp(theta[at + i]) / a - exp(tree_ref[at + i]) / b);
    }
}

static inline void tree_all(const struct tree *t, const double *theta, double *logp)
{
    for (int y = 0; y < t->n_answer; y++) logp[y] = tree_logp(t, theta, y, 0, NULL);
}

/* Fourth-order central differences of f(theta; context) at tree_theta. */
static inline void tree_differences(const struct tree *t, double (*f)(const struct tree *, const double *, const void *), const void *context, double *g)
{
    const double h = 2e-3;
    for (int k = 0; k < t->n_param; k++) {
        double theta[MAX_PARAM], v[4];
        memcpy(theta, tree_theta, sizeof theta);
        for (int s = 0; s < 4; s++) {
            theta[k] = tree_theta[k] + h * (s < 2 ? s - 2 : s - 1);
            v[s] = f(t, theta, context);
        }
        g[k] = (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h);
    }
}

static inline void assert_same_gradient(const struct tree *t, const char *what, const double *got, const double *want)
{
    double size = 0, off = 0;
    for (int k = 0; k < t->n_param; k++) {
        size = fmax(size, fabs(want[k]));
        off = fmax(off, fabs(got[k] - want[k]));
    }
    if (!(size > 1e-6)) fail_msg("%s, %s: the gradient to compare with vanishes (%.3g)", what, t->name, size);
    if (!(off <= 1e-8 * size + 1e-10)) fail_msg("%s, %s: the mean update is off by %.3g of %.3g", what, t->name, off, size);
}

/* Rows of a batch, in the columns that objectives read. */
enum { MAX_ROWS = 8, MAX_PAIRS = 8 };
struct rows {
    struct batch b;
    int answer[MAX_ROWS];
    double logp[MAX_ROWS], logp_ref[MAX_ROWS], reward[MAX_ROWS], coef[MAX_ROWS], pull[MAX_ROWS];
    int32_t n_tok[MAX_ROWS], n_prompt[MAX_ROWS], group[MAX_ROWS];
    enum source source[MAX_ROWS];
    struct pair pair[MAX_PAIRS];
};

static inline void rows_begin(struct rows *r)
{
    *r = (struct rows){.n_tok = {0}};
    r->b = (struct batch){.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_REWARD, .logp = r->logp, .logp_ref = r->logp_ref, .reward = r->reward, .coef = r->coef, .pull = r->pull,
                          .n_tok = r->n_tok, .n_prompt = r->n_prompt, .group = r->group, .source = r->source, .pair = r->pair};
}

static inline int rows_add(struct rows *r, const struct tree *t, const double *theta, int y, int group, enum source source)
{
    const int i = (int)r->b.n++;
    r->answer[i] = y;
    r->logp[i] = tree_logp(t, theta, y, 0, NULL);
    r->logp_ref[i] = tree_logp(t, tree_ref, y, 0, NULL);
    r->reward[i] = tree_reward[y];
    r->n_tok[i] = tree_tokens(t, y);
    r->group[i] = group;
    r->source[i] = source;
    return i;
}

static inline void rows_pair(struct rows *r, struct pair q)
{
    if (q.weight == 0) q.weight = 1;
    r->pair[r->b.n_pair++] = q;
}

/* g += weight * sum_i coef_i grad log pi(y_i) */
static inline void rows_update(struct rows *r, const struct tree *t, const double *theta, const struct objective *o, const struct objective_params *p, double scale, double weight, double *g)
{
    struct objective_stats stats = {0};
    objective_eval(o, p, &r->b, scale, &stats);
    for (int i = 0; i < r->b.n; i++) {
        tree_logp(t, theta, r->answer[i], weight * r->coef[i], g);
        tree_pull(t, theta, r->answer[i], weight * r->pull[i], g);
    }
}

#endif
