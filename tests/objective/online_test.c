/* Online methods with a frozen sampler: every answer and label enumerated, the mean update is the gradient of the expected loss with the sampler held constant; and where they stop: the
 * regularised Nash policy for online IPO, another policy for online DPO unless the labels are Bradley-Terry's. */
#include "objective/enumerate.h"

static double bradley_terry(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }
/* A preference that no reward explains: answers go round in threes, each beating the next. */
static double cyclic(int i, int j)
{
    static const double odds[3] = {0, 1.3, -1.3};
    return sigmoid(odds[(j - i + 21) % 3] + 0.2 * ((i < j) - (i > j)));
}

struct online {
    double (*p)(int, int);
    double beta;
};

static double squared(double h, double tau) { return (h - 1 / (2 * tau)) * (h - 1 / (2 * tau)); }
static double relu(double x) { return x > 0 ? x : 0; }

/* E over y, y' ~ the policy at tree_theta, whatever theta is: p l(y, y') + (1 - p) l(y', y). */
static double expected(const struct tree *t, const double *theta, const struct online *o, double (*l)(double h, double beta))
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER], drawn[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    tree_all(t, tree_theta, drawn);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double h = (logp[i] - ref[i]) - (logp[j] - ref[j]), p = o->p(i, j);
            sum += exp(drawn[i] + drawn[j]) * (p * l(h, o->beta) + (1 - p) * l(-h, o->beta));
        }
    return sum;
}
static double dpo_loss(double h, double beta) { return log1p(exp(-beta * h)); }
static double slic_loss(double h, double beta) { return relu(1 - beta * h); }
static double online_ipo(const struct tree *t, const double *theta, const void *o) { return expected(t, theta, o, squared); }
static double online_dpo(const struct tree *t, const double *theta, const void *o) { return expected(t, theta, o, dpo_loss); }
static double online_slic(const struct tree *t, const double *theta, const void *o) { return expected(t, theta, o, slic_loss); }

/* E[update] with soft labels (p on the pair) or drawn ones (a hard label with probability p). */
static void mean_update(const struct tree *t, const double *theta, const struct objective *o, const struct objective_params *p, double (*preference)(int, int), bool soft, double *g)
{
    memset(g, 0, MAX_PARAM * sizeof *g);
    double logp[MAX_ANSWER];
    tree_all(t, theta, logp);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++)
            for (int side = 0; side < (soft ? 1 : 2); side++) {
                struct rows r;
                rows_begin(&r);
                const int a = rows_add(&r, t, theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, theta, j, 0, SOURCE_POLICY);
                const double first = preference(i, j);
                rows_pair(&r, (struct pair){.win = side ? b : a, .lose = side ? a : b, .route = ROUTE_PR, .p = soft ? first : 1});
                rows_update(&r, t, theta, o, p, 1, exp(logp[i] + logp[j]) * (soft ? 1 : side ? 1 - first : first), g);
            }
}

static void frozen_samplers_give_the_gradient(void **state)
{
    (void)state;
    static const struct {
        const char *what, *objective;
        double beta;
        double (*f)(const struct tree *, const double *, const void *);
    } methods[] = {{"online ipo", "ipo", 0.35, online_ipo}, {"online slic", "hinge", 0.61, online_slic}, {"online dpo (sail)", "sail", 0.7, online_dpo}, {"online dpo", "dpo", 0.7, online_dpo}};
    for (int tree = 0; tree < 2; tree++)
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++)
            for (int k = 0; k < 4; k++) {
                const struct tree *t = &trees[tree];
                const struct online o = {k & 1 ? cyclic : bradley_terry, methods[m].beta};
                const struct objective_params p = {.beta = o.beta, .gamma = 0};
                double want[MAX_PARAM], got[MAX_PARAM];
                tree_differences(t, methods[m].f, &o, want);
                mean_update(t, tree_theta, objective_find(methods[m].objective), &p, o.p, k & 2, got);
                assert_same_gradient(t, methods[m].what, got, want);
            }
}

/* Three answers with a cyclic preference. */
static const double cycle[3][3] = {{.5, .9, .2}, {.1, .5, .8}, {.8, .2, .5}}, cycle_ref[3] = {.337585, .412327, .250089};

static void normalise(double *p, int n)
{
    double z = 0;
    for (int i = 0; i < n; i++) z += p[i];
    for (int i = 0; i < n; i++) p[i] /= z;
}

/* pi proportional to ref exp(P pi / tau), by damped iteration. */
static void nash(const double *P, const double *ref, int n, double tau, double *pi)
{
    for (int i = 0; i < n; i++) pi[i] = 1.0 / n;
    for (int step = 0; step < 100000; step++) {
        double next[3];
        for (int i = 0; i < n; i++) {
            double win = 0;
            for (int j = 0; j < n; j++) win += P[i * n + j] * pi[j];
            next[i] = exp(0.98 * log(pi[i]) + 0.02 * (log(ref[i]) + win / tau));
        }
        normalise(next, n);
        memcpy(pi, next, (size_t)n * sizeof *pi);
    }
}

/* One gradient of the objective with answers from pi itself and soft labels; returns its largest component. */
static double tabular_gradient(const char *name, const double *P, const double *ref, int n, double beta, const double *pi, double *g)
{
    const struct objective_params p = {.beta = beta, .gamma = 0};
    double largest = 0;
    for (int k = 0; k < n; k++) g[k] = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double lp[2] = {log(pi[i]), log(pi[j])}, lr[2] = {log(ref[i]), log(ref[j])}, coef[2];
            int32_t one[2] = {1, 1};
            struct pair q = {.win = 0, .lose = 1, .route = ROUTE_PR, .p = P[i * n + j], .weight = 1};
            struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = one, .logp = lp, .logp_ref = lr, .n_pair = 1, .pair = &q, .coef = coef};
            struct objective_stats s = {0};
            objective_eval(objective_find(name), &p, &b, pi[i] * pi[j], &s);
            for (int k = 0; k < n; k++) g[k] += coef[0] * ((k == i) - pi[k]) + coef[1] * ((k == j) - pi[k]);
        }
    for (int k = 0; k < n; k++) largest = fmax(largest, fabs(g[k]));
    return largest;
}

/* Gradient descent on the logits until it stops. */
static void descend(const char *name, const double *P, const double *ref, int n, double beta, double rate, int steps, double *pi)
{
    double g[MAX_ANSWER];
    memcpy(pi, ref, (size_t)n * sizeof *pi);
    for (int step = 0; step < steps; step++) {
        tabular_gradient(name, P, ref, n, beta, pi, g);
        for (int k = 0; k < n; k++) pi[k] *= exp(-rate * g[k]);
        normalise(pi, n);
    }
    if (tabular_gradient(name, P, ref, n, beta, pi, g) > 1e-13) fail_msg("%s has not stopped: gradient %.3g", name, tabular_gradient(name, P, ref, n, beta, pi, g));
}

static double kl(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * log(a[i] / b[i]);
    return sum;
}

static void online_ipo_reaches_nash_and_online_dpo_does_not(void **state)
{
    (void)state;
    static const double tau[2] = {.5, .1}, published[2][3] = {{.387543, .355545, .256913}, {.373541, .276530, .349929}}, dpo[3] = {.32027, .28743, .39230};
    double ref[3], goal[3], pi[3], g[3];
    memcpy(ref, cycle_ref, sizeof ref);
    normalise(ref, 3);
    for (int k = 0; k < 2; k++) {
        nash(&cycle[0][0], ref, 3, tau[k], goal);
        for (int i = 0; i < 3; i++) assert_near(goal[i], published[k][i], 1e-6, 0);
        assert_true(tabular_gradient("ipo", &cycle[0][0], ref, 3, tau[k], goal, g) < 1e-13);
        descend("ipo", &cycle[0][0], ref, 3, tau[k], 0.2 * tau[k], 20000, pi);
        for (int i = 0; i < 3; i++) assert_near(pi[i], goal[i], 1e-11, 0);
    }
    // The same preferences under online DPO: it stops too, elsewhere.
    descend("dpo", &cycle[0][0], ref, 3, 0.1, 4, 50000, pi);
    for (int i = 0; i < 3; i++) assert_near(pi[i], dpo[i], 1e-5, 0);
    assert_near(kl(goal, pi, 3), 0.0068, 5e-5, 0);
    assert_true(tabular_gradient("dpo", &cycle[0][0], ref, 3, 0.1, goal, g) > 1e-3);
}

/* Away from the end: 4 / tau times the policy gradient of self-play, P(y beats pi) - tau d(y). */
static void online_ipo_is_self_play(void **state)
{
    (void)state;
    static const double pi[3] = {.2, .5, .3}, tau = 0.3;
    double g[3];
    tabular_gradient("ipo", &cycle[0][0], cycle_ref, 3, tau, pi, g);
    for (int k = 0; k < 3; k++) {
        double want = 0;
        for (int y = 0; y < 3; y++) {
            double win = 0;
            for (int j = 0; j < 3; j++) win += cycle[y][j] * pi[j];
            want -= 4 / tau * pi[y] * (win - tau * log(pi[y] / cycle_ref[y])) * ((y == k) - pi[k]);
        }
        assert_near(g[k], want, 1e-13, 1e-12);
    }
}

/* One answer wins with p = 0.7: Nash weighs the preference itself, e^((2p - 1) / (2 tau)) ... e^2 at tau = 0.1; Bradley-Terry its log-odds, e^8.47. */
static void nash_and_reward_maximisation_differ(void **state)
{
    (void)state;
    static const double P[4] = {.5, .7, .3, .5}, ref[2] = {.5, .5};
    double ipo[2], dpo[2];
    descend("ipo", P, ref, 2, 0.1, 0.02, 100000, ipo);
    assert_near(ipo[0], 0.880797, 1e-6, 0);
    assert_near(log(ipo[0] / ipo[1]), 2, 1e-9, 0);
    descend("dpo", P, ref, 2, 0.1, 4, 2500000, dpo);
    assert_near(log(dpo[0] / dpo[1]), log(0.7 / 0.3) / 0.1, 1e-6, 0);
}

/* True Bradley-Terry labels: online DPO finds pi_ref exp(r / beta) / Z, answers drawn from the policy as it moves. */
static void online_dpo_with_true_labels_reaches_the_closed_form(void **state)
{
    (void)state;
    enum { N = 5 };
    double P[N * N], ref[N], goal[N], pi[N];
    const double beta = 0.7;
    for (int i = 0; i < N; i++) {
        ref[i] = exp(tree_ref[i]);
        goal[i] = ref[i] * exp(tree_reward[i] / beta);
        for (int j = 0; j < N; j++) P[i * N + j] = bradley_terry(i, j);
    }
    normalise(ref, N);
    normalise(goal, N);
    static const char *const names[] = {"dpo", "sail"};
    for (int k = 0; k < 2; k++) {
        descend(names[k], P, ref, N, beta, 4, 20000, pi);
        assert_true(fabs(kl(goal, pi, N)) < 1e-12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_samplers_give_the_gradient),
        cmocka_unit_test(online_ipo_reaches_nash_and_online_dpo_does_not),
        cmocka_unit_test(online_ipo_is_self_play),
        cmocka_unit_test(nash_and_reward_maximisation_differ),
        cmocka_unit_test(online_dpo_with_true_labels_reaches_the_closed_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
