/* SAIL's routes on policies of one and of two tokens, one by one and mixed as sail-mix draws them, with expected and with drawn labels: all answers and labels enumerated, the mean update is the gradient of the
 * objective, samplers and self-labels differentiated. law_test.c has baselines over a batch, stale answers and several answers of a prompt. */
#include "objective/enumerate.h"

static const double beta = 0.7, rho = 0.2, pi = 0.6;

struct shares {
    double dp, pp, pr;
};
static const struct shares every[] = {{0, 0, 0}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {0.2, 0.15, 0.3}};
enum { MIXTURES = sizeof every / sizeof *every };

static double p_of(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }

/* How often the data has i before j. */
static double data_weight(const struct tree *t, int i, int j)
{
    double sum = 0;
    for (int a = 0; a < t->n_answer; a++)
        for (int b = 0; b < t->n_answer; b++) sum += a == b ? 0 : 1 + a + 2 * b;
    return i == j ? 0 : (1 + i + 2 * j) / sum;
}

static double entropy(double s) { return -s * log(s) - (1 - s) * log(1 - s); }

static double minus_J(const struct tree *t, const double *theta, const void *context)
{
    const struct shares *m = context;
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double z = beta * ((logp[i] - ref[i]) - (logp[j] - ref[j])), s = 1 / (1 + exp(-z)), data = data_weight(t, i, j), drawn = exp(logp[i] + logp[j]), p = p_of(i, j);
            sum += data * (-(1 - m->dp - m->pp - m->pr) * log(s) + m->dp * rho * entropy(s));
            sum += drawn * (m->pp * pi * entropy(s) - m->pr * (p * log(s) + (1 - p) * log(1 - s)));
        }
    return sum;
}

/* One pair of a route, its label expected or drawn either way. */
static void add(const struct tree *t, const struct objective_params *p, enum route route, int i, int j, bool drawn, double weight, double *g)
{
    double z = 0;
    for (int side = 0; side < (drawn ? 2 : 1); side++) {
        struct rows r;
        rows_begin(&r);
        const int a = rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_POLICY);
        z = beta * ((r.logp[a] - r.logp_ref[a]) - (r.logp[b] - r.logp_ref[b]));
        const double first = route == ROUTE_PR ? p_of(i, j) : sigmoid(z), chance = !drawn ? 1 : side ? 1 - first : first;
        rows_pair(&r, (struct pair){.win = side ? b : a, .lose = side ? a : b, .route = route, .p = drawn || route != ROUTE_PR ? 1 : first});
        rows_update(&r, t, tree_theta, objective_find("sail"), p, 1, weight * chance, g);
    }
}

static void the_mean_update_is_the_gradient(void **state)
{
    (void)state;
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_LOG2, BASELINE_NUMBER, BASELINE_LOO};
    for (int c = 0; c < 2 * MIXTURES * 4 * 2; c++) {
        const struct tree *t = &trees[c % 2];
        const struct shares *m = &every[c / 2 % MIXTURES];
        const bool drawn = c / (2 * MIXTURES) % 2;
        const struct objective_params p = {.beta = beta, .rho = rho, .pi = pi, .gamma = 1, .label = drawn ? LABEL_SAMPLED : LABEL_EXACT, .baseline = baselines[c / (4 * MIXTURES)], .baseline_value = -1.3};
        double want[MAX_PARAM], got[MAX_PARAM] = {0}, logp[MAX_ANSWER];
        char what[80];
        tree_differences(t, minus_J, m, want);
        tree_all(t, tree_theta, logp);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++) {
                const double data = data_weight(t, i, j), sampled = exp(logp[i] + logp[j]);
                add(t, &p, ROUTE_OFFLINE, i, j, false, (1 - m->dp - m->pp - m->pr) * data, got);
                add(t, &p, ROUTE_DP, i, j, drawn, m->dp * data, got);
                add(t, &p, ROUTE_PP, i, j, drawn, m->pp * sampled, got);
                add(t, &p, ROUTE_PR, i, j, drawn, m->pr * sampled, got);
            }
        snprintf(what, sizeof what, "dp %g, pp %g, pr %g, %s labels, baseline %d", m->dp, m->pp, m->pr, drawn ? "drawn" : "expected", (int)p.baseline);
        assert_same_gradient(t, what, got, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_mean_update_is_the_gradient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
