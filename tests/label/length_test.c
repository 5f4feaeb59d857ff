/* The cost of length in the implicit reward, by hand. */
#include "test.h"

#include "label/labeler.h"

/* Long answers have the larger rewards: 0.2 a character. From coef 0.201 on the short one wins, at 0.2 the first of two equals wins and loses. */
static void two_answers(void **state)
{
    (void)state;
    const double reward[2] = {2, 0}, length[2] = {20, 10};
    assert_true(label_length_coef(1, 2, reward, length) == 0.2); // all equal: the first is best and worst, no lead in length
}

/* Two prompts: at 0 the best are 10 + 4 characters longer; from just over 0.1 on the first prompt turns, -10 + 4; from just over 0.5 on the second too, -14. */
static void the_mean_decides(void **state)
{
    (void)state;
    const double reward[4] = {1.0005, 0, 2.002, 0}, length[4] = {20, 10, 8, 4};
    assert_true(label_length_coef(2, 2, reward, length) == 0.101);
    const double even[4] = {1, 0, 1, 0}, same[4] = {5, 9, 9, 5};
    assert_true(label_length_coef(2, 2, even, same) == 0); // leads of -4 and 4 already cancel
}

/* Answers without a verdict are neither best nor worst; nobody judged: no cost. */
static void missing_verdicts(void **state)
{
    (void)state;
    const double reward[3] = {NAN, 2.0005, 0}, length[3] = {1000, 20, 10}, none[3] = {NAN, NAN, NAN};
    assert_true(label_length_coef(1, 3, reward, length) == 0); // 10 or -10: the least cost of equals
    const double three[3] = {3.0005, 1, 0}, lengths[3] = {30, 10, 12};
    assert_true(label_length_coef(1, 3, three, lengths) == 0.101); // 18 up to 0.1, then the second is best: -2; past 0.15 it is -20
    assert_true(label_length_coef(1, 3, none, length) == 0);
}

/* Runs of four tokens that were there before: 1 2 3 1 2 3 1 2 3 has six runs, three of them new. */
static void repetition_is_the_share_of_known_runs(void **state)
{
    (void)state;
    static const struct {
        int32_t n, ids[12];
        double share;
    } of[] = {{9, {1, 2, 3, 1, 2, 3, 1, 2, 3}, 3.0 / 6}, {12, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, 0}, {12, {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7}, 8.0 / 9},
              {4, {7, 7, 7, 7}, 0}, {0, {0}, 0}, {5, {7, 7, 7, 7, 7}, 0.5}, {8, {1, 2, 3, 4, 1, 2, 3, 4}, 1.0 / 5}, {12, {256, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0}, 3.0 / 9}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        struct token_run work[12];
        assert_near(label_repetition(of[k].ids, of[k].n, work), of[k].share, 1e-15, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_answers), cmocka_unit_test(the_mean_decides), cmocka_unit_test(repetition_is_the_share_of_known_runs), cmocka_unit_test(missing_verdicts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
