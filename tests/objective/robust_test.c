/* Robust SAIL: the worst label of a set around the labeler's. All answers and labels enumerated, the mean update is the gradient of E[max over the set] with the sampler differentiated;
 * the set's two ends are tried one by one here. */
#include "objective/enumerate.h"

static const double beta = 0.7, rho = 0.15, nu = 0.3;

static double p_of(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double cross_entropy(double z, double p) { return p * softplus(-z) + (1 - p) * softplus(z); }

struct set {
    bool chi2, hard; /* hard: the labeler says 1 for the likelier answer */
};

static double label_of(const struct set *s, int i, int j) { return !s->hard ? p_of(i, j) : i == j ? 0.5 : tree_reward[i] > tree_reward[j] ? 1 : 0; }

static double worst(const struct set *s, int i, int j, double z)
{
    const double p = label_of(s, i, j), r = s->chi2 ? sqrt(nu * p * (1 - p)) : rho;
    const double low = s->chi2 ? fmax(0, p - r) : p - r, high = s->chi2 ? fmin(1, p + r) : p + r;
    return fmax(cross_entropy(z, low), cross_entropy(z, high));
}

static double robust_J(const struct tree *t, const double *theta, const void *set)
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double z = beta * ((logp[i] - ref[i]) - (logp[j] - ref[j]));
            if (i != j && !(fabs(z) > 0.01)) fail_msg("answers %d and %d are at the kink", i, j);
            sum += exp(logp[i] + logp[j]) * worst(set, i, j, z);
        }
    return sum;
}

static void the_worst_label_is_the_gradient(void **state)
{
    (void)state;
    static const struct set sets[] = {{.chi2 = false}, {.chi2 = false, .hard = true}, {.chi2 = true}};
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_LOG2};
    for (int tree = 0; tree < 2; tree++)
        for (int k = 0; k < 6; k++) {
            const struct tree *t = &trees[tree];
            const struct set *s = &sets[k / 2];
            const struct objective_params p = {.beta = beta, .gamma = 1, .robust_rho = s->chi2 ? 0 : rho, .chi2_nu = s->chi2 ? nu : 0, .baseline = baselines[k % 2]};
            double want[MAX_PARAM], got[MAX_PARAM] = {0}, logp[MAX_ANSWER];
            tree_differences(t, robust_J, s, want);
            tree_all(t, tree_theta, logp);
            for (int i = 0; i < t->n_answer; i++)
                for (int j = 0; j < t->n_answer; j++) {
                    struct rows r;
                    rows_begin(&r);
                    int a = rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_POLICY);
                    double label = label_of(s, i, j);
                    if (s->hard && label == 0) { // the winner comes first
                        const int swap = a;
                        a = b;
                        b = swap;
                        label = 1;
                    }
                    rows_pair(&r, (struct pair){.win = a, .lose = b, .route = ROUTE_PR, .p = label});
                    rows_update(&r, t, tree_theta, objective_find("sail"), &p, 1, exp(logp[i] + logp[j]), got);
                }
            assert_same_gradient(t, s->chi2 ? "chi-square" : s->hard ? "shift of hard labels" : "shift", got, want);
        }
}

/* The shift adds rho |z| to the loss; drawn labels have the same mean; data rows and self-labels know no labeler. */
static void the_shift_adds_rho_z(void **state)
{
    (void)state;
    for (int route = 0; route < ROUTE_COUNT; route++) {
        double loss[2], z = 0;
        for (int k = 0; k < 2; k++) {
            struct rows r;
            rows_begin(&r);
            rows_add(&r, &trees[1], tree_theta, 1, 0, SOURCE_POLICY);
            rows_add(&r, &trees[1], tree_theta, 6, 0, SOURCE_POLICY);
            rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = (enum route)route, .p = 1});
            const struct objective_params p = {.beta = beta, .rho = 1, .pi = 1, .robust_rho = k ? rho : 0};
            struct objective_stats s = {0};
            objective_eval(objective_find("sail"), &p, &r.b, 1, &s);
            loss[k] = s.loss;
            z = beta * ((r.logp[0] - r.logp_ref[0]) - (r.logp[1] - r.logp_ref[1]));
        }
        assert_near(loss[1] - loss[0], route == ROUTE_PR ? rho * fabs(z) : 0, 1e-14, 1e-13);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_worst_label_is_the_gradient), cmocka_unit_test(the_shift_adds_rho_z)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
