/* Reward models: the loss with margins, smoothed labels and centring against differences, and calibration on made-up scores. */
#include "test.h"

#include "objective/objective.h"
#include "train/calibration.h"

struct table {
    struct batch b;
    double logp[4], coef[4];
    int32_t n_tok[4];
    struct pair pair[2];
};

static void make_table(struct table *t, const double *score)
{
    *t = (struct table){.n_tok = {3, 4, 5, 6},
                        .pair = {{.win = 0, .lose = 1, .p = 1, .margin = 0.7, .weight = 1}, {.win = 2, .lose = 3, .p = 1, .margin = -0.2, .weight = 0.5}}};
    memcpy(t->logp, score, sizeof t->logp);
    t->b = (struct batch){.written = COL_ROWS | COL_LOGP | COL_PAIRS, .n = 4, .n_tok = t->n_tok, .logp = t->logp, .n_pair = 2, .pair = t->pair, .coef = t->coef};
}

static double evaluate(struct table *t, const struct objective_params *p)
{
    struct objective_stats s = {0};
    objective_eval(&objective_reward, p, &t->b, 0.5, &s);
    return s.loss;
}

static void coefficients_are_the_slopes_of_the_loss(void **state)
{
    (void)state;
    const double score[4] = {0.3, -1.1, -2.4, 0.9};
    const struct objective_params params[] = {{0}, {.use_margin = true}, {.label_smoothing = 0.1}, {.center = 0.3}, {.use_margin = true, .label_smoothing = 0.2, .center = 0.05}};
    for (size_t k = 0; k < sizeof params / sizeof *params; k++)
        for (int i = 0; i < 4; i++) {
            struct table t, up, down;
            make_table(&t, score);
            evaluate(&t, &params[k]);
            make_table(&up, score);
            make_table(&down, score);
            up.logp[i] += 1e-5;
            down.logp[i] -= 1e-5;
            assert_near(t.coef[i], (evaluate(&up, &params[k]) - evaluate(&down, &params[k])) / 2e-5, 1e-9, 1e-8);
        }
}

/* By hand: each option changes its own term, and only when it is asked for. */
static void terms_are_what_they_say(void **state)
{
    (void)state;
    const double score[4] = {0.3, -1.1, -2.4, 0.9}, z[2] = {1.4, -3.3}, sum[2] = {-0.8, -1.5};
    struct table t;
    make_table(&t, score);
    const double weight[2] = {0.5, 0.25}; // scale times the pair's weight
    double plain = 0, margin = 0, smooth = 0, centred = 0;
    for (int k = 0; k < 2; k++) {
        plain += weight[k] * log1p(exp(-z[k]));
        margin += weight[k] * log1p(exp(-(z[k] - t.pair[k].margin)));
        smooth += weight[k] * (0.9 * log1p(exp(-z[k])) + 0.1 * log1p(exp(z[k])));
        centred += weight[k] * (log1p(exp(-z[k])) + 0.3 * sum[k] * sum[k]);
    }
    assert_near(evaluate(&t, &(struct objective_params){0}), plain, 1e-12, 0);
    assert_near(evaluate(&t, &(struct objective_params){.use_margin = true}), margin, 1e-12, 0);
    assert_near(evaluate(&t, &(struct objective_params){.label_smoothing = 0.1}), smooth, 1e-12, 0);
    assert_near(evaluate(&t, &(struct objective_params){.center = 0.3}), centred, 1e-12, 0);
}

/* A label of probability p is the mean of both orders: p (win, lose) + (1 - p) (lose, win) with the margin turned. */
static void soft_labels_are_the_mean_of_both(void **state)
{
    (void)state;
    const double score[4] = {0.3, -1.1, -2.4, 0.9}, back[4] = {-1.1, 0.3, 0.9, -2.4};
    const struct objective_params p = {.use_margin = true, .label_smoothing = 0.1, .center = 0.05};
    struct table soft, one, other;
    make_table(&soft, score);
    make_table(&one, score);
    make_table(&other, back);
    for (int k = 0; k < 2; k++) {
        soft.pair[k].p = 0.8;
        other.pair[k].margin *= -1;
    }
    assert_near(evaluate(&soft, &p), 0.8 * evaluate(&one, &p) + 0.2 * evaluate(&other, &p), 1e-14, 0);
    for (int i = 0; i < 4; i++) assert_near(soft.coef[i], 0.8 * one.coef[i] + 0.2 * other.coef[i ^ 1], 1e-15, 1e-13);
}

/* Predictions of 0.75 that are right three times in four have no error; ones that are always right are off by a quarter. */
static void calibration_counts_what_was_right(void **state)
{
    (void)state;
    struct calibration c = {0}, sure = {0}, none = {0};
    const double d = log(3);
    for (int i = 0; i < 40; i++) calibration_add(&c, i % 4 ? d : 0, i % 4 ? 0 : d);
    for (int i = 0; i < 40; i++) calibration_add(&sure, d, 0);
    assert_near(calibration_error(&c), 0, 1e-12, 0);
    assert_near(calibration_error(&sure), 0.25, 1e-12, 0);
    assert_int_equal(c.count[2], 40);
    assert_true(isnan(calibration_error(&none)));
    struct metric m[CALIBRATION_METRICS];
    assert_int_equal(calibration_metrics(&none, m), 0);
    assert_int_equal(calibration_metrics(&c, m), 4);
    calibration_add(&none, 900, -900); // far beyond what exp can hold
    assert_int_equal(none.count[CALIBRATION_BINS - 1], 1);
    assert_near(calibration_error(&none), 0, 1e-12, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(coefficients_are_the_slopes_of_the_loss), cmocka_unit_test(terms_are_what_they_say),
                                       cmocka_unit_test(soft_labels_are_the_mean_of_both), cmocka_unit_test(calibration_counts_what_was_right)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
