/* Two levels (2410.15610): every tuple of answers enumerated. Each policy's mean update is the gradient of what it minimises with the reward model held constant, the reward model's that of the
 * penalised upper level with both policies held constant; where both policies have come to rest, it tends to the gradient of the upper level through the lower one, which is that of SAIL's one
 * level. */
#include "objective/enumerate.h"

static const double beta = 0.7, penalty = 0.3;
static const double tree_score[MAX_ANSWER] = {0.6, -0.4, 0.1, 1.2, -0.9, 0.35, -0.15}; /* r_phi: a parameter for each answer */

/* The labeler: Bradley-Terry on tree_reward. */
static double wins(int a, int b) { return sigmoid(tree_reward[a] - tree_reward[b]); }

static double pair_loss(const double *r, int a, int b) { return -(wins(a, b) * log_sigmoid(r[a] - r[b]) + wins(b, a) * log_sigmoid(r[b] - r[a])); }

/* f(phi, pi) and J(pi, phi) for probabilities pi. */
static double upper(const struct tree *t, const double *pi, const double *r)
{
    double sum = 0;
    for (int a = 0; a < t->n_answer; a++)
        for (int b = 0; b < t->n_answer; b++) sum += pi[a] * pi[b] * pair_loss(r, a, b);
    return sum;
}

static double lower(const struct tree *t, const double *pi, const double *r)
{
    double sum = 0;
    for (int a = 0; a < t->n_answer; a++) sum -= pi[a] * (r[a] - beta * (log(pi[a]) - tree_logp(t, tree_ref, a, 0, NULL)));
    return sum;
}

static void probabilities(const struct tree *t, const double *theta, double *pi)
{
    tree_all(t, theta, pi);
    for (int a = 0; a < t->n_answer; a++) pi[a] = exp(pi[a]);
}

/* --- The policies --- */
static double what_it_minimises(const struct tree *t, const double *theta, const void *second)
{
    double pi[MAX_ANSWER];
    probabilities(t, theta, pi);
    return lower(t, pi, tree_score) + (*(const bool *)second ? penalty * upper(t, pi, tree_score) : 0);
}

/* Fills r with n pairs of answers: code's digits. What they weigh under the policy. */
static double draw(struct rows *r, const struct tree *t, const double *pi, int code, int n)
{
    static double learned[MAX_ROWS];
    double weight = 1;
    rows_begin(r);
    r->b.learned = learned;
    r->b.written |= COL_LEARNED;
    for (int i = 0; i < 2 * n; i++, code /= t->n_answer) {
        const int y = code % t->n_answer;
        weight *= pi[y];
        learned[rows_add(r, t, tree_theta, y, i / 2, SOURCE_POLICY)] = tree_score[y];
    }
    for (int k = 0; k < n; k++) rows_pair(r, (struct pair){.win = 2 * k, .lose = 2 * k + 1, .p = wins(r->answer[2 * k], r->answer[2 * k + 1])});
    return weight;
}

static int tuples(const struct tree *t, int pairs)
{
    int n = 1;
    for (int i = 0; i < 2 * pairs; i++) n *= t->n_answer;
    return n;
}

static void each_policy_goes_down_its_own_function(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++)
        for (int second = 0; second < 2; second++)
            for (int n = 1; n <= 2; n++) { // one pair: the baseline is log 2; two: the other's
                const struct tree *t = &trees[tree];
                const struct objective_params p = {.beta = beta, .penalty = penalty, .second = second};
                double pi[MAX_ANSWER], got[MAX_PARAM] = {0}, want[MAX_PARAM];
                probabilities(t, tree_theta, pi);
                for (int code = 0; code < tuples(t, n); code++) {
                    struct rows r;
                    const double weight = draw(&r, t, pi, code, n);
                    rows_update(&r, t, tree_theta, &objective_two_level, &p, 1.0 / n, weight, got);
                }
                tree_differences(t, what_it_minimises, &p.second, want);
                assert_same_gradient(t, second ? "second policy" : "first policy", got, want);
            }
}

/* A pair without a verdict teaches the policies its rewards and nothing of the labeler; its weight in the labeler's mean is the others'. */
static void a_pair_without_a_verdict_keeps_its_rewards(void **state)
{
    (void)state;
    const struct tree *t = &trees[0];
    const struct objective_params p = {.beta = beta, .penalty = penalty, .second = true}, first = {.beta = beta, .penalty = penalty};
    const double pi[MAX_ANSWER] = {1, 1, 1, 1, 1, 1, 1};
    struct rows r, plain;
    struct objective_stats s = {0};
    draw(&r, t, pi, 3 + 5 * 1 + 25 * 4 + 125 * 2, 2);
    draw(&plain, t, pi, 3 + 5 * 1 + 25 * 4 + 125 * 2, 2);
    r.pair[1].unlabelled = true;
    objective_eval(&objective_two_level, &p, &r.b, 0.5, &s);
    objective_eval(&objective_two_level, &first, &plain.b, 0.5, &s);
    assert_near(r.coef[2], plain.coef[2], 1e-15, 0);
    assert_near(r.coef[3], plain.coef[3], 1e-15, 0);
    const double pulled = penalty * (pair_loss(tree_score, 3, 1) - log(2));
    assert_near(r.coef[0] - plain.coef[0], pulled, 1e-14, 0);
    assert_near(r.coef[1] - plain.coef[1], pulled, 1e-14, 0);
}

/* --- The reward model --- */
/* The mean of dL/dr over all draws of one of two policies, added to g. */
static void half_update(const struct tree *t, const double *pi, const double *pi2, const double *r, bool second, double c, double *g)
{
    const struct objective_params p = {.penalty = c, .second = second};
    const double *drawn = second ? pi2 : pi;
    for (int a = 0; a < t->n_answer; a++)
        for (int b = 0; b < t->n_answer; b++) {
            struct rows rows;
            struct objective_stats s = {0};
            double ahead[2] = {log(pi[a] / pi2[a]), log(pi[b] / pi2[b])};
            rows_begin(&rows);
            rows_add(&rows, t, tree_theta, a, 0, SOURCE_POLICY);
            rows_add(&rows, t, tree_theta, b, 0, SOURCE_POLICY);
            rows.logp[0] = r[a];
            rows.logp[1] = r[b];
            rows.b.ahead = ahead;
            rows.b.written |= COL_LEARNED;
            rows_pair(&rows, (struct pair){.win = 0, .lose = 1, .p = wins(a, b), .unlabelled = !second});
            objective_eval(&objective_two_level_reward, &p, &rows.b, 1, &s);
            g[a] += drawn[a] * drawn[b] * rows.coef[0];
            g[b] += drawn[a] * drawn[b] * rows.coef[1];
        }
}

static void reward_update(const struct tree *t, const double *pi, const double *pi2, const double *r, double c, double *g)
{
    half_update(t, pi, pi2, r, false, c, g);
    half_update(t, pi, pi2, r, true, c, g);
}

static void the_reward_model_goes_down_the_penalised_upper_level(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        const struct tree *t = &trees[tree];
        double pi[MAX_ANSWER], pi2[MAX_ANSWER], got[MAX_ANSWER] = {0}, turned[MAX_PARAM];
        for (int k = 0; k < t->n_param; k++) turned[k] = 0.5 * tree_theta[(k + 1) % t->n_param];
        probabilities(t, tree_theta, pi);
        probabilities(t, turned, pi2);
        reward_update(t, pi, pi2, tree_score, penalty, got);
        for (int y = 0; y < t->n_answer; y++) {
            double value[4], r[MAX_ANSWER];
            memcpy(r, tree_score, sizeof r);
            for (int s = 0; s < 4; s++) {
                r[y] = tree_score[y] + 2e-3 * (s < 2 ? s - 2 : s - 1);
                value[s] = upper(t, pi2, r) + (lower(t, pi2, r) - lower(t, pi, r)) / penalty;
            }
            const double want = (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * 2e-3);
            assert_near(got[y], want, 1e-9, 1e-8);
        }
    }
}

/* argmin J: ref exp(r / beta). */
static void best_response(const struct tree *t, const double *r, double *pi)
{
    double z = 0;
    for (int a = 0; a < t->n_answer; a++) z += pi[a] = exp(tree_logp(t, tree_ref, a, 0, NULL) + r[a] / beta);
    for (int a = 0; a < t->n_answer; a++) pi[a] /= z;
}

/* argmin J + c f, where its slope in pi vanishes: r is lowered by c times the slope of f, 2 E_b[L(a, b)]. */
static void penalised_response(const struct tree *t, const double *r, double c, double *pi)
{
    double lowered[MAX_ANSWER];
    best_response(t, r, pi);
    for (int round = 0; round < 200; round++) {
        for (int a = 0; a < t->n_answer; a++) {
            lowered[a] = r[a];
            for (int b = 0; b < t->n_answer; b++) lowered[a] -= 2 * c * pi[b] * pair_loss(r, a, b);
        }
        best_response(t, lowered, pi);
    }
}

/* The upper level through the lower one, as a function of r alone. */
static double both_levels(const struct tree *t, const double *r)
{
    double pi[MAX_ANSWER];
    best_response(t, r, pi);
    return upper(t, pi, r);
}

static double distance(const double *a, const double *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

/* With both policies at rest the update is the gradient of both levels up to O(c). */
static void with_a_small_penalty_it_is_the_gradient_of_both_levels(void **state)
{
    (void)state;
    const struct tree *t = &trees[1];
    double want[MAX_ANSWER], off[3], size = 0;
    for (int y = 0; y < t->n_answer; y++) {
        double value[4], r[MAX_ANSWER];
        memcpy(r, tree_score, sizeof r);
        for (int s = 0; s < 4; s++) {
            r[y] = tree_score[y] + 2e-3 * (s < 2 ? s - 2 : s - 1);
            value[s] = both_levels(t, r);
        }
        want[y] = (value[0] - 8 * value[1] + 8 * value[2] - value[3]) / (12 * 2e-3);
        size += want[y] * want[y];
    }
    for (int k = 0; k < 3; k++) {
        const double c = 0.1 * pow(0.1, k);
        double pi[MAX_ANSWER], pi2[MAX_ANSWER], got[MAX_ANSWER] = {0};
        best_response(t, tree_score, pi);
        penalised_response(t, tree_score, c, pi2);
        reward_update(t, pi, pi2, tree_score, c, got);
        off[k] = distance(got, want, t->n_answer) / sqrt(size);
    }
    assert_true(off[0] > 1e-4); // there is something to tend to 0
    assert_near(off[1] / off[0], 0.1, 0.02, 0);
    assert_near(off[2] / off[1], 0.1, 0.02, 0);
    assert_true(off[2] < 1e-3);
    // without the penalty's term, data that the policy makes is taken for given: another direction
    double pi[MAX_ANSWER], given[MAX_ANSWER] = {0};
    best_response(t, tree_score, pi);
    reward_update(t, pi, pi, tree_score, penalty, given); // one policy for both
    assert_true(distance(given, want, t->n_answer) > 0.1 * sqrt(size));
}

/* One level: r = beta log pi / ref, so that theta is the softmax's logits = log ref + r / beta, and SAIL's gradient in them is beta times that of both levels in r. */
static void both_levels_are_sails_one_level(void **state)
{
    (void)state;
    const struct tree *t = &trees[0];
    const double c = 1e-6;
    double theta[MAX_PARAM], pi[MAX_ANSWER], pi2[MAX_ANSWER], two[MAX_ANSWER] = {0}, one[MAX_PARAM] = {0}, size = 0;
    for (int y = 0; y < t->n_param; y++) theta[y] = tree_ref[y] + tree_score[y] / beta;
    best_response(t, tree_score, pi);
    penalised_response(t, tree_score, c, pi2);
    reward_update(t, pi, pi2, tree_score, c, two);
    const struct objective_params p = {.beta = beta, .gamma = 1, .baseline = BASELINE_LOG2};
    for (int a = 0; a < t->n_answer; a++)
        for (int b = 0; b < t->n_answer; b++) {
            struct rows r;
            rows_begin(&r);
            rows_add(&r, t, theta, a, 0, SOURCE_POLICY);
            rows_add(&r, t, theta, b, 0, SOURCE_POLICY);
            rows_pair(&r, (struct pair){.win = 0, .lose = 1, .p = wins(a, b), .route = ROUTE_PR});
            rows_update(&r, t, theta, &objective_sail, &p, 1, pi[a] * pi[b], one);
        }
    for (int y = 0; y < t->n_param; y++) size = fmax(size, fabs(one[y]));
    assert_true(size > 1e-3);
    for (int y = 0; y < t->n_param; y++) assert_near(beta * two[y], one[y], 1e-5 * size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_policy_goes_down_its_own_function), cmocka_unit_test(a_pair_without_a_verdict_keeps_its_rewards),
                                       cmocka_unit_test(the_reward_model_goes_down_the_penalised_upper_level), cmocka_unit_test(with_a_small_penalty_it_is_the_gradient_of_both_levels),
                                       cmocka_unit_test(both_levels_are_sails_one_level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
