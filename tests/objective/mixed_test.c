/* DPO-Mix-R and -P: the pairs are visited as often as the paper's two samplers say; the mean update is the gradient with the samplers held constant; errors fall quadratically with the
 * paper's weight between the samplers, linearly with uniform pairs and with weight 1. */
#include "objective/enumerate.h"

#include "train/run.h"

static double bradley_terry(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }

/* Both of Mix-P's parts at once: half of the pairs from the policy, half from two blends, all at tree_theta whatever theta is. */
static const double strong[2] = {1.5, -0.5}, weak[2] = {0.5, 0.5};

static void drawn_logps(const struct tree *t, const double *w, double *logp)
{
    double mixed[MAX_PARAM];
    for (int k = 0; k < t->n_param; k++) mixed[k] = w[0] * tree_theta[k] + w[1] * tree_ref[k];
    tree_all(t, mixed, logp);
}

static double visits(const struct tree *t, int i, int j)
{
    double policy[MAX_ANSWER], up[MAX_ANSWER], down[MAX_ANSWER];
    tree_all(t, tree_theta, policy);
    drawn_logps(t, strong, up);
    drawn_logps(t, weak, down);
    return 0.5 * exp(policy[i] + policy[j]) + 0.5 * exp(up[i] + down[j]);
}

static double mix_p(const struct tree *t, const double *theta, const void *context)
{
    const double beta = *(const double *)context;
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double z = beta * ((logp[i] - ref[i]) - (logp[j] - ref[j])), p = bradley_terry(i, j);
            sum -= visits(t, i, j) * (p * log_sigmoid(z) + (1 - p) * log_sigmoid(-z));
        }
    return sum;
}

static void mix_p_is_the_gradient(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        const struct tree *t = &trees[tree];
        const double beta = 0.7;
        const struct objective_params p = {.beta = beta};
        double want[MAX_PARAM], got[MAX_PARAM] = {0};
        tree_differences(t, mix_p, &beta, want);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++) {
                struct rows r;
                rows_begin(&r);
                rows_add(&r, t, tree_theta, i, 0, SOURCE_MIXTURE);
                rows_add(&r, t, tree_theta, j, 0, SOURCE_MIXTURE);
                rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = ROUTE_PR, .p = bradley_terry(i, j)});
                rows_update(&r, t, tree_theta, objective_find("dpo"), &p, 1, visits(t, i, j), got);
            }
        assert_same_gradient(t, "dpo-mix-p", got, want);
    }
}

/* The tilted pairing on a fine grid of uniform numbers: exp(r_i - r_j) / S on ordered pairs, answers without a reward left out; weight S / (pairs). */
static void tilted_pairs_are_drawn_by_reward(void **state)
{
    (void)state;
    enum { K = 5, GRID = 200000 };
    static const double reward[2][K] = {{0.2, -1.0, 0.7, 1.5, -0.3}, {0.2, NAN, 0.7, NAN, -2.1}};
    const struct pairing *tilted = pairing_find("tilted");
    for (int c = 0; c < 2; c++) {
        double count[K][K] = {{0}}, sum = 0, pairs = 0;
        for (int g = 0; g < GRID; g++) {
            int of[K * (K - 1) / 2][2];
            assert_int_equal(tilted->choose(K, reward[c], (g + 0.5) / GRID, of), 1);
            count[of[0][0]][of[0][1]]++;
        }
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++)
                if (i != j && !isnan(reward[c][i] + reward[c][j])) sum += exp(reward[c][i] - reward[c][j]), pairs++;
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) assert_near(count[i][j] / GRID, i == j || isnan(reward[c][i] + reward[c][j]) ? 0 : exp(reward[c][i] - reward[c][j]) / sum, 2.0 / GRID, 0);
        assert_near(tilted->weight(K, reward[c]), sum / pairs, 0, 1e-13);
    }
    static const double far[3] = {4000, -4000, 0}, none[3] = {NAN, 1, NAN};
    int of[3][2];
    for (int g = 0; g < 10; g++) {
        tilted->choose(3, far, g / 10.0, of);
        assert_true(of[0][0] == 0 && of[0][1] == 1);
        tilted->choose(3, none, g / 10.0, of);
        assert_true(of[0][0] == 0 && of[0][1] == 1); // has no label and is dropped
    }
    assert_true(tilted->weight(3, none) == 1);
}

enum { N = 5 };
enum second { UNIFORM, MIX_R, MIX_P };

/* One step of gradient descent on N arms with all pairs enumerated, as the engine would weigh them: pairs of the first sampler with weight 1, of the second with `exact`'s weight or 1, a
 * half of the prompts each. Mix-R's second sampler is the tilted pairing of all arms; Mix-P's is the blends beta : -beta and -beta : beta. Returns the largest error of beta h against r - r' before it. */
static double descend(enum second how, bool exact, const double *reward, double beta, double rate, double *theta)
{
    double g[N] = {0}, z = 0, off = 0, sum = 0, logp[N], implicit[N];
    const struct objective_params p = {.beta = beta};
    for (int k = 0; k < N; k++) z += exp(theta[k]);
    for (int k = 0; k < N; k++) {
        logp[k] = theta[k] - log(z);
        implicit[k] = beta * (logp[k] + log(N)); // beta d(y), uniform reference: on one token the logits of the first blend, and minus those of the second
    }
    const double *tilt = how == MIX_P ? implicit : reward;
    const double weight = exact ? pairing_find("tilted")->weight(N, tilt) : 1;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) sum += i == j ? 0 : exp(tilt[i] - tilt[j]);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            if (i == j) continue; // h = 0 and p = 1/2: no slope
            off = fmax(off, fabs(beta * (theta[i] - theta[j]) - (reward[i] - reward[j])));
            for (int part = 0; part < 2; part++) {
                const bool second = part && how != UNIFORM;
                const double chance = second ? exp(tilt[i] - tilt[j]) / sum : 1 / (N * (N - 1.0)); // given that the answers differ
                double lp[2] = {logp[i], logp[j]}, lr[2] = {-log(N), -log(N)}, coef[2];
                int32_t one[2] = {1, 1};
                struct pair q = {.win = 0, .lose = 1, .route = ROUTE_PR, .p = sigmoid(reward[i] - reward[j]), .weight = second ? weight : 1};
                struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = one, .logp = lp, .logp_ref = lr, .n_pair = 1, .pair = &q, .coef = coef};
                struct objective_stats s = {0};
                objective_eval(objective_find("dpo"), &p, &b, 0.5 * chance, &s);
                for (int k = 0; k < N; k++) g[k] += coef[0] * ((k == i) - exp(logp[k])) + coef[1] * ((k == j) - exp(logp[k]));
            }
        }
    for (int k = 0; k < N; k++) theta[k] -= rate * g[k];
    return off;
}

/* The paper's step n / beta^2 is for its sum over both samplers of uniform pairs with i = j among them; here the samplers share the prompts and i differs from j: 2 (n - 1) / beta^2. */
static void the_right_weights_converge_quadratically(void **state)
{
    (void)state;
    static const double reward[N] = {0.2, -1.0, 0.7, 1.5, -0.3}, beta = 0.7, rate = 2 * (N - 1) / (0.7 * 0.7);
    for (enum second how = MIX_R; how <= MIX_P; how++) {
        double theta[N] = {0}, last = NAN, off = NAN;
        int quadratic = 0;
        for (int step = 0; step <= 8; step++, last = off) {
            off = descend(how, true, reward, beta, rate, theta);
            if (last < 0.2 && last > 1e-7) { // the phase is local, and ends in rounding
                assert_true(off < last * last);
                quadratic++;
            }
        }
        if (!(off < 1e-14) || quadratic < 2) fail_msg("mix-%c: error %.3g after 8 steps, %d of them quadratic", how == MIX_R ? 'r' : 'p', off, quadratic);
    }
}

static void other_weights_converge_linearly(void **state)
{
    (void)state;
    static const double reward[N] = {0.2, -1.0, 0.7, 1.5, -0.3}, beta = 0.7;
    static const struct {
        const char *what;
        enum second how;
        double least, most; /* of the share of the error that a step leaves */
    } kinds[] = {{"uniform", UNIFORM, 0.45, 0.55}, {"mix-r, weight 1", MIX_R, 0.3, 0.5}, {"mix-p, weight 1", MIX_P, 0.3, 0.5}};
    for (int c = 0; c < 3; c++) {
        double theta[N] = {0}, last = NAN, off = NAN, ratio = NAN;
        for (int step = 0; step < 16; step++, last = off) {
            off = descend(kinds[c].how, false, reward, beta, 2 * (N - 1) / (beta * beta), theta);
            if (step >= 14) {
                if (step == 15) assert_near(off / last, ratio, 0.01, 0);
                ratio = off / last;
            }
        }
        if (!(ratio > kinds[c].least && ratio < kinds[c].most)) fail_msg("%s: a step leaves %.3g of the error", kinds[c].what, ratio);
        assert_true(off > 1e-9);
    }
}

/* Larger rewards: uniform pairs hardly see the flat part of the slope; the right weights do not mind. */
static void larger_rewards_slow_uniform_pairs_only(void **state)
{
    (void)state;
    static const double beta = 0.7, rate = 2 * (N - 1) / (0.7 * 0.7);
    double left[2][2]; /* uniform, mix-r; small, large */
    for (int large = 0; large < 2; large++)
        for (int mixed = 0; mixed < 2; mixed++) {
            double reward[N] = {0.2, -1.0, 0.7, 1.5, -0.3}, theta[N] = {0};
            for (int k = 0; k < N; k++) reward[k] *= large ? 1.6 : 0.8;
            for (int step = 0; step < 24; step++) left[mixed][large] = descend(mixed ? MIX_R : UNIFORM, mixed, reward, beta, rate, theta);
        }
    assert_true(left[0][1] > 100 * left[0][0]);
    assert_true(left[1][0] < 1e-14 && left[1][1] < 1e-14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mix_p_is_the_gradient),
        cmocka_unit_test(tilted_pairs_are_drawn_by_reward),
        cmocka_unit_test(the_right_weights_converge_quadratically),
        cmocka_unit_test(other_weights_converge_linearly),
        cmocka_unit_test(larger_rewards_slow_uniform_pairs_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
