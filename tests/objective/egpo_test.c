/* EGPO: the mean update with the sampler of the pairs and the opponent held constant is the gradient of the paper's loss; on a game that goes round in a circle the extragradient step
 * converges where the plain one no longer does. */
#include "objective/enumerate.h"
#include "objective/game.h"

/* Answers go round in threes, each beating the next. */
static double cyclic(int i, int j)
{
    static const double odds[3] = {0, 1.3, -1.3};
    return sigmoid(odds[(j - i + 21) % 3] + 0.2 * ((i < j) - (i > j)));
}

struct setting {
    double beta;
    bool mean; /* token means */
};

/* Pairs are drawn at temperature 2 from the policy at tree_theta, the opponent from another policy; neither moves with theta. */
static void frozen(const struct tree *t, double *pair, double *opponent)
{
    double hot[MAX_PARAM], other[MAX_PARAM];
    for (int k = 0; k < t->n_param; k++) {
        hot[k] = tree_theta[k] / 2;
        other[k] = tree_theta[k] + 0.3 * (k % 3 - 1);
    }
    tree_all(t, hot, pair);
    tree_all(t, other, opponent);
}

static double egpo(const struct tree *t, const double *theta, const void *context)
{
    const struct setting *o = context;
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER], pair[MAX_ANSWER], opponent[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    frozen(t, pair, opponent);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++)
            for (int k = 0; k < t->n_answer; k++) {
                const double di = (logp[i] - ref[i]) / (o->mean ? tree_tokens(t, i) : 1), dj = (logp[j] - ref[j]) / (o->mean ? tree_tokens(t, j) : 1);
                const double e = di - dj - (cyclic(i, k) - cyclic(j, k)) / o->beta;
                sum += exp(pair[i] + pair[j] + opponent[k]) * e * e;
            }
    return sum;
}

static void the_mean_update_is_the_gradient(void **state)
{
    (void)state;
    for (int c = 0; c < 4; c++) {
        const struct tree *t = &trees[c % 2];
        const struct setting o = {0.4, c / 2};
        const struct objective_params p = {.beta = o.beta};
        double want[MAX_PARAM], got[MAX_PARAM] = {0}, pair[MAX_ANSWER], opponent[MAX_ANSWER];
        tree_differences(t, egpo, &o, want);
        frozen(t, pair, opponent);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++)
                for (int k = 0; k < t->n_answer; k++) {
                    struct rows r;
                    rows_begin(&r);
                    rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY);
                    rows_add(&r, t, tree_theta, j, 0, SOURCE_POLICY);
                    rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = ROUTE_PR, .p = 1, .margin = cyclic(i, k) - cyclic(j, k)});
                    rows_update(&r, t, tree_theta, objective_find(o.mean ? "egpo-mean" : "egpo"), &p, 1, exp(pair[i] + pair[j] + opponent[k]), got);
                }
        assert_same_gradient(t, o.mean ? "egpo-mean" : "egpo", got, want);
    }
}

enum { STEPS = 3000, LAST = 200 };
static const double tau = 0.1;

/* One step of gradient descent from `from` on uniform pairs against the policy of the logits `opponent`. On uniform pairs the gradient of the logits is 4/N (theta - theta*), so that a
 * rate of share N/4 is theta <- (1 - share) theta + share (log ref + P mu / tau). */
static void step(double *to, const double *from, const double *opponent, double share)
{
    double logp[N], ref[N], mu[N], g[N] = {0};
    const struct objective_params p = {.beta = tau};
    log_softmax(logp, from);
    log_softmax(ref, start);
    log_softmax(mu, opponent);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++) {
                double lp[2] = {logp[i], logp[j]}, lr[2] = {ref[i], ref[j]}, coef[2];
                int32_t one[2] = {1, 1};
                struct pair q = {.win = 0, .lose = 1, .route = ROUTE_PR, .p = 1, .weight = 1, .margin = cycle[i][k] - cycle[j][k]};
                struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = one, .logp = lp, .logp_ref = lr, .n_pair = 1, .pair = &q, .coef = coef};
                struct objective_stats s = {0};
                objective_eval(objective_find("egpo"), &p, &b, exp(mu[k]) / (N * N), &s);
                for (int a = 0; a < N; a++) g[a] += coef[0] * ((a == i) - exp(logp[a])) + coef[1] * ((a == j) - exp(logp[a]));
            }
    for (int a = 0; a < N; a++) to[a] = from[a] - share * N / 4 * g[a];
}

/* Mean KL(Nash || policy) over the last steps; ahead: each step plays against where a plain step would lead. */
static double distance(bool ahead, double share)
{
    double t[N], goal[N], sum = 0;
    nash(tau, goal);
    memcpy(t, start, sizeof t);
    for (int n = 0; n < STEPS; n++) {
        double half[N], logp[N];
        memcpy(half, t, sizeof t);
        if (ahead) step(half, t, t, share);
        step(t, t, half, share);
        log_softmax(logp, t);
        if (n >= STEPS - LAST) sum += kl(goal, logp) / LAST;
    }
    return fabs(sum);
}

static void looking_ahead_converges_farther(void **state)
{
    (void)state;
    static const double both[] = {0.05, 0.1, 0.2};
    for (int k = 0; k < 3; k++) assert_true(distance(false, both[k]) < 1e-14 && distance(true, both[k]) < 1e-14);
    assert_near(distance(false, 0.5), 0.13, 0.01, 0);
    assert_true(distance(true, 0.5) < 1e-14);
    const double plain = distance(false, 0.6), ahead = distance(true, 0.6);
    assert_near(plain, 0.29, 0.03, 0);
    assert_near(ahead, 3.8e-3, 5e-4, 0);
    assert_true(plain > 50 * ahead);
    assert_true(distance(false, 0.9) > 0.3 && distance(true, 0.9) > 0.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_mean_update_is_the_gradient), cmocka_unit_test(looking_ahead_converges_farther)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
