/* Several evaluators as one: every rule by hand, who counts when some are silent, what the order of evaluators and answers may not change. */
#include "test.h"

#include "label/ensemble.h"

static struct label_answer combine(struct ensemble e, int members, int n, const double *reward, const double *p, double *out)
{
    struct label_answer a = {.reward = out, .p = 7};
    double none[MAX_EVALUATORS];
    for (int k = 0; k < MAX_EVALUATORS; k++) none[k] = NAN;
    e.n = members;
    for (int k = 0; k < members; k++)
        if (e.weight[k] == 0) e.weight[k] = 1;
    ensemble_combine(&e, n, reward, p ? p : none, &a);
    return a;
}

static void rewards_by_hand(void **state)
{
    (void)state;
    const double reward[] = {1, 4, -2, /* second evaluator */ 3, 4, 0, /* third */ 8, 4, -4};
    double r[3];
    struct label_answer a = combine((struct ensemble){.rule = ENSEMBLE_MEAN}, 3, 3, reward, NULL, r);
    assert_true(r[0] == 4 && r[1] == 4 && r[2] == -2 && isnan(a.p));
    a = combine((struct ensemble){.rule = ENSEMBLE_MEAN, .weight = {2, 1, 1}}, 3, 3, reward, NULL, r);
    assert_true(r[0] == 13.0 / 4 && r[1] == 4 && r[2] == -2 && isnan(a.p));
    a = combine((struct ensemble){.rule = ENSEMBLE_MIN}, 3, 3, reward, NULL, r);
    assert_true(r[0] == 1 && r[1] == 4 && r[2] == -4 && isnan(a.p));
    a = combine((struct ensemble){.rule = ENSEMBLE_MEAN_SPREAD, .spread_coef = 0.5}, 3, 3, reward, NULL, r); // variances 26/3, 0, 8/3
    assert_near(r[0], 4 - 0.5 * sqrt(26.0 / 3), 1e-15, 0);
    assert_near(r[1], 4, 0, 0);
    assert_near(r[2], -2 - 0.5 * sqrt(8.0 / 3), 1e-15, 0);
    combine((struct ensemble){.rule = ENSEMBLE_MEAN_SPREAD, .spread_coef = 2, .weight = {3, 1}}, 2, 1, (double[]){0, 4}, NULL, r); // mean 1, variance (3 + 9)/4
    assert_near(r[0], 1 - 2 * sqrt(3), 1e-15, 0);
    assert_true(isnan(a.p));
}

static void votes_by_hand(void **state)
{
    (void)state;
    double r[3];
    const double reward[] = {1, 2, /* a tie */ 5, 5, /* prefers the first by little */ 0.3, 0.2};
    struct label_answer a = combine((struct ensemble){.rule = ENSEMBLE_VOTE}, 3, 2, reward, NULL, r);
    assert_near(a.p, 0.5, 1e-16, 0);
    assert_true(isnan(r[0]) && isnan(r[1]));
    a = combine((struct ensemble){.rule = ENSEMBLE_VOTE, .weight = {1, 1, 6}}, 3, 2, reward, NULL, r);
    assert_near(a.p, (0.5 + 6) / 8, 1e-16, 0);
    const double mixed[] = {1, 2, NAN, NAN, 0.3, 0.2};
    a = combine((struct ensemble){.rule = ENSEMBLE_VOTE}, 3, 2, mixed, (double[]){NAN, 0.8, NAN}, r); // the second says P itself
    assert_near(a.p, (0 + 0.8 + 1) / 3, 1e-16, 0);
    // Among three: the first evaluator says A > B > C, the second C > A = B.
    combine((struct ensemble){.rule = ENSEMBLE_VOTE}, 2, 3, (double[]){3, 2, 1, 4, 4, 9}, NULL, r);
    assert_near(r[0], (0.75 + 0.5) / 2, 1e-16, 0); // P(A > B) = (1 + 1/2)/2, P(A > C) = 1/2
    assert_near(r[1], (0.25 + 0.5) / 2, 1e-16, 0);
    assert_near(r[2], 0.5, 1e-16, 0);
    a = combine((struct ensemble){.rule = ENSEMBLE_VOTE}, 2, 1, (double[]){1, 2}, NULL, r); // nothing to compare with
    assert_true(isnan(r[0]) && isnan(a.p));
}

/* A silent evaluator is no 0 and no 1/2. */
static void the_silent_do_not_count(void **state)
{
    (void)state;
    double r[4];
    const double silent[] = {-3, -5, NAN, NAN};
    for (enum ensemble_rule rule = ENSEMBLE_MEAN; rule <= ENSEMBLE_VOTE; rule++) {
        struct label_answer a = combine((struct ensemble){.rule = rule, .spread_coef = 1}, 2, 2, silent, NULL, r);
        assert_true(isnan(r[0]) && isnan(r[1]) && isnan(a.p)); // all must have judged unless a quorum says otherwise
        a = combine((struct ensemble){.rule = rule, .spread_coef = 1, .quorum = 1}, 2, 2, silent, NULL, r);
        if (rule == ENSEMBLE_VOTE) assert_true(a.p == 1);
        if (rule != ENSEMBLE_VOTE) assert_true(r[0] == -3 && r[1] == -5);
        a = combine((struct ensemble){.rule = rule, .quorum = 1}, 2, 2, (double[]){NAN, NAN, NAN, NAN}, NULL, r);
        assert_true(isnan(r[0]) && isnan(r[1]) && isnan(a.p));
    }
    // One answer that not all judged leaves the others theirs.
    combine((struct ensemble){.rule = ENSEMBLE_MEAN}, 2, 3, (double[]){1, 2, 3, 5, NAN, 7}, NULL, r);
    assert_true(r[0] == 3 && isnan(r[1]) && r[2] == 5);
    combine((struct ensemble){.rule = ENSEMBLE_VOTE}, 2, 3, (double[]){1, 2, 3, 5, NAN, 7}, NULL, r);
    assert_true(r[0] == 0 && isnan(r[1]) && r[2] == 1);
    // With a quorum of two, the third evaluator, who is generous to the one answer that it saw, is left out for all of them.
    combine((struct ensemble){.rule = ENSEMBLE_MEAN, .quorum = 2}, 3, 2, (double[]){1, 2, 3, 4, 100, NAN}, NULL, r);
    assert_true(r[0] == 2 && r[1] == 3);
    combine((struct ensemble){.rule = ENSEMBLE_MEAN, .quorum = 1}, 2, 2, (double[]){1, NAN, NAN, 2}, NULL, r); // each saw one: they cannot be set against each other
    assert_true(isnan(r[0]) && isnan(r[1]));
}

/* The verdict does not depend on the order of evaluators, and follows that of the answers. */
static void order_is_no_matter(void **state)
{
    (void)state;
    const double reward[] = {0.5, 2, -1, 8, 4, 4, 0.25, NAN, 3}, evaluators[] = {0.25, NAN, 3, 0.5, 2, -1, 8, 4, 4}, answers[] = {-1, 2, 0.5, 4, 4, 8, 3, NAN, 0.25};
    for (enum ensemble_rule rule = ENSEMBLE_MEAN; rule <= ENSEMBLE_VOTE; rule++)
        for (int quorum = 0; quorum <= 3; quorum++) {
            double a[3], b[3], c[3];
            combine((struct ensemble){.rule = rule, .spread_coef = 1, .quorum = quorum, .weight = {1, 2, 4}}, 3, 3, reward, NULL, a);
            combine((struct ensemble){.rule = rule, .spread_coef = 1, .quorum = quorum, .weight = {4, 1, 2}}, 3, 3, evaluators, NULL, b);
            combine((struct ensemble){.rule = rule, .spread_coef = 1, .quorum = quorum, .weight = {1, 2, 4}}, 3, 3, answers, NULL, c);
            for (int i = 0; i < 3; i++) {
                assert_int_equal(isnan(a[i]), isnan(b[i]));
                assert_int_equal(isnan(a[i]), isnan(c[2 - i]));
                if (!isnan(a[i])) assert_near(b[i], a[i], 1e-14, 1e-14);
                if (!isnan(a[i])) assert_near(c[2 - i], a[i], 1e-14, 1e-14);
            }
            assert_true(!isnan(a[0]) && !isnan(a[2]) && isnan(a[1]) == (quorum == 0 || quorum == 3));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rewards_by_hand), cmocka_unit_test(votes_by_hand), cmocka_unit_test(the_silent_do_not_count), cmocka_unit_test(order_is_no_matter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
