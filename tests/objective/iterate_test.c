/* SPPO and INPO: answers of the iterate's first policy, labels and that policy frozen; the mean update is the gradient of the expected loss, and INPO's iterates go to the regularised Nash
 * policy. */
#include "objective/enumerate.h"

#include "label/labeler.h"

/* The iterate began at tree_ref; the run at this one. */
static const double tree_init[MAX_PARAM] = {-0.2, 0.5, 0.3, -0.6, 0.1, 0.4, 0.2, -0.1, 0.7};
static const double beta = 0.4, tau = 0.15;

static double p_of(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }

enum { K = 3 };
static void best_and_worst(const int *answer, int *win, int *lose)
{
    *win = *lose = 0;
    for (int k = 1; k < K; k++) {
        if (tree_reward[answer[k]] > tree_reward[answer[*win]]) *win = k;
        if (tree_reward[answer[k]] < tree_reward[answer[*lose]]) *lose = k;
    }
}

/* Wins over the K answers, oneself among them. */
static double wins(const int *answer, int k)
{
    double sum = 0;
    for (int j = 0; j < K; j++) sum += p_of(answer[k], answer[j]) / K;
    return sum;
}

static double weight_of(const struct tree *t, const int *answer, int n)
{
    double weight = 1;
    for (int k = 0; k < n; k++) weight *= exp(tree_logp(t, tree_ref, answer[k], 0, NULL));
    return weight;
}

static double d_of(const struct tree *t, const double *theta, int y) { return tree_logp(t, theta, y, 0, NULL) - tree_logp(t, tree_ref, y, 0, NULL); }

static double sppo(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0;
    (void)context;
    for (int code = 0; code < t->n_answer * t->n_answer * t->n_answer; code++) {
        const int answer[K] = {code % t->n_answer, code / t->n_answer % t->n_answer, code / t->n_answer / t->n_answer};
        int w, l;
        best_and_worst(answer, &w, &l);
        if (w == l) continue;
        const double u = d_of(t, theta, answer[w]) - (wins(answer, w) - 0.5) / beta, v = d_of(t, theta, answer[l]) - (wins(answer, l) - 0.5) / beta;
        sum += weight_of(t, answer, K) * 0.5 * (u * u + v * v);
    }
    return sum;
}

static void sppo_is_the_gradient(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        const struct tree *t = &trees[tree];
        const struct objective_params p = {.beta = beta};
        double want[MAX_PARAM], got[MAX_PARAM] = {0};
        tree_differences(t, sppo, NULL, want);
        for (int code = 0; code < t->n_answer * t->n_answer * t->n_answer; code++) {
            const int answer[K] = {code % t->n_answer, code / t->n_answer % t->n_answer, code / t->n_answer / t->n_answer};
            struct rows r;
            double rate[K];
            int w, l;
            rows_begin(&r);
            for (int k = 0; k < K; k++) rows_add(&r, t, tree_theta, answer[k], 0, SOURCE_REFERENCE);
            label_win_rates(K, r.reward, NAN, 1, rate);
            r.b.win_rate = rate;
            r.b.written |= COL_WIN_RATE;
            best_and_worst(answer, &w, &l);
            rows_pair(&r, (struct pair){.win = w, .lose = l, .p = 1, .unlabelled = w == l});
            rows_update(&r, t, tree_theta, objective_find("sppo"), &p, 1, weight_of(t, answer, K), got);
        }
        assert_same_gradient(t, "sppo", got, want);
    }
}

static double inpo(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0;
    (void)context;
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const int answer[2] = {i, j};
            const double h = tree_logp(t, theta, i, 0, NULL) - tree_logp(t, theta, j, 0, NULL), first = tree_logp(t, tree_init, i, 0, NULL) - tree_logp(t, tree_init, j, 0, NULL);
            const double last = tree_logp(t, tree_ref, i, 0, NULL) - tree_logp(t, tree_ref, j, 0, NULL), ht = h - tau / beta * first - (1 - tau / beta) * last;
            sum += weight_of(t, answer, 2) * (p_of(i, j) * pow(ht - 1 / (2 * beta), 2) + p_of(j, i) * pow(-ht - 1 / (2 * beta), 2));
        }
    return sum;
}

static void inpo_is_the_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        const struct tree *t = &trees[k % 2];
        const bool soft = k > 1;
        const struct objective_params p = {.beta = beta, .tau = tau};
        double want[MAX_PARAM], got[MAX_PARAM] = {0};
        tree_differences(t, inpo, NULL, want);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++)
                for (int side = 0; side < 2 - soft; side++) {
                    const int answer[2] = {i, j};
                    double init[2];
                    struct rows r;
                    rows_begin(&r);
                    for (int a = 0; a < 2; a++) {
                        rows_add(&r, t, tree_theta, answer[a], 0, SOURCE_REFERENCE);
                        init[a] = tree_logp(t, tree_init, answer[a], 0, NULL);
                    }
                    r.b.logp_init = init;
                    r.b.written |= COL_LOGP_INIT;
                    rows_pair(&r, (struct pair){.win = side, .lose = 1 - side, .p = soft ? p_of(i, j) : 1});
                    rows_update(&r, t, tree_theta, objective_find("inpo"), &p, 1, weight_of(t, answer, 2) * (soft ? 1 : side ? p_of(j, i) : p_of(i, j)), got);
                }
        assert_same_gradient(t, soft ? "inpo, soft" : "inpo, drawn", got, want);
    }
}

static void normalise(double *p)
{
    const double z = p[0] + p[1] + p[2];
    for (int i = 0; i < 3; i++) p[i] /= z;
}

/* Each iterate's loss has its minimum where the paper says, exp(P(y beats pi_t) / eta) ref^(tau/eta) pi_t^(1 - tau/eta), and these go to Nash at tau. */
static void inpo_goes_to_nash(void **state)
{
    (void)state;
    static const double P[3][3] = {{.5, .9, .2}, {.1, .5, .8}, {.8, .2, .5}}, published[3] = {.373541, .276530, .349929};
    const struct objective_params p = {.beta = 0.5, .tau = 0.1};
    double ref[3] = {.337585, .412327, .250089}, last[3], next[3];
    normalise(ref);
    memcpy(last, ref, sizeof last);
    for (int step = 0; step < 400; step++) {
        double g[3] = {0};
        for (int i = 0; i < 3; i++) {
            double win = 0;
            for (int j = 0; j < 3; j++) win += P[i][j] * last[j];
            next[i] = exp(win / p.beta + p.tau / p.beta * log(ref[i]) + (1 - p.tau / p.beta) * log(last[i]));
        }
        normalise(next);
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                double logp[2] = {log(next[i]), log(next[j])}, lr[2] = {log(last[i]), log(last[j])}, li[2] = {log(ref[i]), log(ref[j])}, coef[2];
                struct pair q = {.win = 0, .lose = 1, .p = P[i][j], .weight = 1};
                struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_LOGP_INIT, .n = 2, .logp = logp, .logp_ref = lr, .logp_init = li, .n_pair = 1, .pair = &q, .coef = coef};
                struct objective_stats s = {0};
                objective_eval(objective_find("inpo"), &p, &b, last[i] * last[j], &s);
                for (int k = 0; k < 3; k++) g[k] += coef[0] * ((k == i) - next[k]) + coef[1] * ((k == j) - next[k]);
            }
        for (int k = 0; k < 3; k++) assert_near(g[k], 0, 1e-13, 0);
        memcpy(last, next, sizeof last);
    }
    for (int k = 0; k < 3; k++) assert_near(last[k], published[k], 1e-6, 0);
}

static void win_rates_count_oneself(void **state)
{
    (void)state;
    const double reward[4] = {0, 2, NAN, 2}, none[2] = {NAN, NAN};
    double rate[4];
    label_win_rates(4, reward, NAN, 2, rate);
    assert_near(rate[0], (0.5 + 2 * sigmoid(-1)) / 3, 1e-15, 0);
    assert_near(rate[1], (1 + sigmoid(1)) / 3, 1e-15, 0);
    assert_true(isnan(rate[2]));
    label_win_rates(2, none, 0.9, 1, rate);
    assert_near(rate[0], 0.7, 1e-15, 0);
    assert_near(rate[1], 0.3, 1e-15, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sppo_is_the_gradient), cmocka_unit_test(inpo_is_the_gradient), cmocka_unit_test(inpo_goes_to_nash), cmocka_unit_test(win_rates_count_oneself)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
