/* Terms on answers of the reference: XPO, SELM and SAIL-RevKL. Every answer of policy and reference enumerated, the mean update is the gradient of the paper's objective; the optimistic terms
 * push away from the reference, the KL pulls towards it. */
#include "objective/enumerate.h"

static const double alpha = 0.4, beta = 0.7, revkl = 0.6;

static double p_of(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }
static double softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double cross_entropy(double z, double p) { return p * softplus(-z) + (1 - p) * softplus(z); }

static int greedy_of_reference(const struct tree *t)
{
    int best = 0;
    for (int y = 1; y < t->n_answer; y++)
        if (tree_logp(t, tree_ref, y, 0, NULL) > tree_logp(t, tree_ref, best, 0, NULL)) best = y;
    return best;
}

/* The policy that draws is the one at tree_theta. */
static double xpo(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER], drawn[MAX_ANSWER];
    (void)context;
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    tree_all(t, tree_theta, drawn);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) sum += exp(drawn[i] + ref[j]) * cross_entropy(beta * ((logp[i] - ref[i]) - (logp[j] - ref[j])), p_of(i, j));
    for (int j = 0; j < t->n_answer; j++) sum += alpha * exp(ref[j]) * logp[j];
    return sum;
}

static void xpo_is_the_gradient(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++)
        for (int soft = 0; soft < 2; soft++) {
            const struct tree *t = &trees[tree];
            const struct objective_params p = {.beta = beta, .alpha = alpha};
            double want[MAX_PARAM], got[MAX_PARAM] = {0}, logp[MAX_ANSWER], ref[MAX_ANSWER];
            tree_differences(t, xpo, NULL, want);
            tree_all(t, tree_theta, logp);
            tree_all(t, tree_ref, ref);
            for (int i = 0; i < t->n_answer; i++)
                for (int j = 0; j < t->n_answer; j++)
                    for (int side = 0; side < 2 - soft; side++) {
                        struct rows r;
                        rows_begin(&r);
                        const int a = rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_REFERENCE);
                        r.b.n_reference = 1;
                        rows_pair(&r, (struct pair){.win = side ? b : a, .lose = side ? a : b, .route = ROUTE_PR, .p = soft ? p_of(i, j) : 1});
                        rows_update(&r, t, tree_theta, objective_find("xpo"), &p, 1, exp(logp[i] + ref[j]) * (soft ? 1 : side ? p_of(j, i) : p_of(i, j)), got);
                    }
            assert_same_gradient(t, soft ? "xpo, soft" : "xpo, drawn", got, want);
        }
}

/* A tie leaves the answer of the reference without a pair, and it still counts: the mean is over answers of the reference, not over pairs. */
static void a_tie_does_not_silence_the_reference(void **state)
{
    (void)state;
    const struct tree *t = &trees[1];
    const struct objective_params p = {.beta = beta, .alpha = alpha};
    struct rows r;
    rows_begin(&r);
    const int a = rows_add(&r, t, tree_theta, 2, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, 5, 0, SOURCE_REFERENCE), c = rows_add(&r, t, tree_theta, 1, 1, SOURCE_REFERENCE);
    r.b.n_reference = 2;
    rows_pair(&r, (struct pair){.win = a, .lose = b, .p = 1});
    struct objective_stats s = {0};
    objective_eval(objective_find("xpo"), &p, &r.b, 1, &s);
    const double z = beta * ((r.logp[a] - r.logp_ref[a]) - (r.logp[b] - r.logp_ref[b]));
    assert_near(r.coef[a], -beta * sigmoid(-z), 1e-15, 1e-14);
    assert_near(r.coef[b], beta * sigmoid(-z) + alpha / 2, 1e-15, 1e-14);
    assert_near(r.coef[c], alpha / 2, 1e-15, 1e-14);
    assert_near(s.reference, alpha / 2 * (r.logp[b] - r.logp_ref[b] + r.logp[c] - r.logp_ref[c]), 1e-15, 1e-14);
}

/* Published numbers; the loss without alpha log pi_ref(y~), which no parameter moves. */
static void golden_xpo(void **state)
{
    (void)state;
    static const double in[2][4] = {{-40, -55, -42, -50}, {-60, -35, -50, -38}}, want[2][3] = {{0.402636049, -0.0331812228, 0.0331912228}, {1.54065845, -0.0785834983, 0.0785934983}};
    for (int c = 0; c < 2; c++) {
        struct rows r;
        rows_begin(&r);
        r.b.n = 2;
        r.b.n_reference = 1;
        r.source[1] = SOURCE_REFERENCE;
        for (int k = 0; k < 2; k++) {
            r.logp[k] = in[c][k];
            r.logp_ref[k] = in[c][2 + k];
        }
        r.source[0] = SOURCE_POLICY;
        rows_pair(&r, (struct pair){.win = 0, .lose = 1, .p = 1});
        const struct objective_params p = {.beta = 0.1, .alpha = 1e-5};
        struct objective_stats s = {0};
        objective_eval(objective_find("xpo"), &p, &r.b, 1, &s);
        assert_near(s.loss + p.alpha * r.logp_ref[1], want[c][0], 0, 1e-8);
        assert_near(r.coef[0], want[c][1], 0, 1e-8);
        assert_near(r.coef[1], want[c][2], 0, 1e-8);
    }
}

/* Candidates: two answers of the data and the reference's greedy one; best and worst by reward make the pair. The data are every pair of answers, equally often. */
static void best_and_worst(const int *candidate, int *win, int *lose)
{
    *win = *lose = 0;
    for (int k = 1; k < 3; k++) {
        if (tree_reward[candidate[k]] > tree_reward[candidate[*win]]) *win = k;
        if (tree_reward[candidate[k]] < tree_reward[candidate[*lose]]) *lose = k;
    }
}

static double selm(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    const int g = greedy_of_reference(t);
    (void)context;
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            int win, lose;
            const int candidate[3] = {g, i, j};
            best_and_worst(candidate, &win, &lose);
            const int w = candidate[win], l = candidate[lose];
            sum += (cross_entropy(beta * ((logp[w] - ref[w]) - (logp[l] - ref[l])), 1) + alpha * beta * (logp[g] - ref[g])) / (t->n_answer * t->n_answer);
        }
    return sum;
}

static void selm_is_the_gradient(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        const struct tree *t = &trees[tree];
        const struct objective_params p = {.beta = beta, .alpha = alpha};
        double want[MAX_PARAM], got[MAX_PARAM] = {0};
        tree_differences(t, selm, NULL, want);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++) {
                const int candidate[3] = {greedy_of_reference(t), i, j};
                struct rows r;
                int win, lose;
                rows_begin(&r);
                for (int k = 0; k < 3; k++) rows_add(&r, t, tree_theta, candidate[k], 0, k ? SOURCE_CANDIDATE : SOURCE_REFERENCE);
                r.b.n_reference = 1;
                best_and_worst(candidate, &win, &lose);
                rows_pair(&r, (struct pair){.win = win, .lose = lose, .route = ROUTE_PR, .p = 1});
                rows_update(&r, t, tree_theta, objective_find("selm"), &p, 1, 1.0 / (t->n_answer * t->n_answer), got);
            }
        assert_same_gradient(t, "selm", got, want);
    }
}

/* -J + revkl KL(ref || pi), J = E[F] with the sampler differentiated. */
static double minus_J_and_kl(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    (void)context;
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) sum += exp(logp[i] + logp[j]) * cross_entropy(beta * ((logp[i] - ref[i]) - (logp[j] - ref[j])), p_of(i, j));
    for (int y = 0; y < t->n_answer; y++) sum += revkl * exp(ref[y]) * (ref[y] - logp[y]);
    return sum;
}

static void revkl_is_the_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) { // both policies, by samples and over the whole vocabulary
        const struct tree *t = &trees[k % 2];
        const struct objective_params p = {.beta = beta, .gamma = 1, .revkl = revkl, .revkl_vocabulary = k > 1, .baseline = BASELINE_LOG2};
        double want[MAX_PARAM], got[MAX_PARAM] = {0}, logp[MAX_ANSWER], ref[MAX_ANSWER];
        tree_differences(t, minus_J_and_kl, NULL, want);
        tree_all(t, tree_theta, logp);
        tree_all(t, tree_ref, ref);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++)
                for (int y = 0; y < t->n_answer; y++)
                    for (int side = 0; side < 2; side++) {
                        struct rows r;
                        rows_begin(&r);
                        const int a = rows_add(&r, t, tree_theta, i, 0, SOURCE_POLICY), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_POLICY);
                        rows_add(&r, t, tree_theta, y, 1, SOURCE_REFERENCE);
                        r.b.n_reference = 1;
                        rows_pair(&r, (struct pair){.win = side ? b : a, .lose = side ? a : b, .route = ROUTE_PR, .p = 1});
                        rows_update(&r, t, tree_theta, objective_find("sail"), &p, 1, exp(logp[i] + logp[j] + ref[y]) * (side ? p_of(j, i) : p_of(i, j)), got);
                    }
        assert_same_gradient(t, k > 1 ? "revkl, vocabulary" : "revkl, samples", got, want);
    }
}

/* On the batch: the token mean of log ref - log pi of every answer of the pair, in loss and coefficients alike. */
static void revkl_on_the_batch(void **state)
{
    (void)state;
    const struct tree *t = &trees[1];
    const struct objective_params with = {.beta = beta, .revkl = revkl, .revkl_on_batch = true}, without = {.beta = beta};
    double coef[2] = {0}, loss = 0, want = 0;
    for (int k = 0; k < 2; k++) {
        struct rows r;
        rows_begin(&r);
        rows_add(&r, t, tree_theta, 0, 0, SOURCE_POLICY);
        rows_add(&r, t, tree_theta, 4, 0, SOURCE_POLICY);
        rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = ROUTE_PR, .p = 1});
        struct objective_stats s = {0};
        objective_eval(objective_find("sail"), k ? &with : &without, &r.b, 1, &s);
        for (int i = 0; i < 2; i++) {
            if (k) assert_near(r.coef[i] - coef[i], -revkl / 2 / (i + 1), 1e-15, 1e-13); // answers of one token and of two
            coef[i] = r.coef[i];
            want += k * revkl / 2 * (r.logp_ref[i] - r.logp[i]) / (i + 1);
        }
        if (k) assert_near(s.loss - loss, want, 1e-15, 1e-13);
        loss = s.loss;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xpo_is_the_gradient),  cmocka_unit_test(a_tie_does_not_silence_the_reference), cmocka_unit_test(golden_xpo),
        cmocka_unit_test(selm_is_the_gradient), cmocka_unit_test(revkl_is_the_gradient),                cmocka_unit_test(revkl_on_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
