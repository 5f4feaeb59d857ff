/* Intervals of means and shares against published and hand-computed values. */
#include "test.h"

#include "train/statistics.h"

static void means(void **state)
{
    (void)state;
    const double x[] = {1, 2, NAN, 3, 4};
    const struct interval r = statistics_mean(x, 5);
    assert_int_equal(r.n, 4);
    assert_near(r.mean, 2.5, 1e-15, 0);
    assert_near(r.high - r.mean, 3.182 * sqrt(5.0 / 3 / 4), 1e-12, 0); // Student's t, 3 degrees of freedom
    assert_true(isnan(statistics_mean(x, 1).low) && isnan(statistics_mean(x + 2, 1).mean));
}

static void shares(void **state)
{
    (void)state;
    double x[263];
    // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29 by Wilson's score.
    static const struct {
        int yes, n;
        double low, high;
    } table[] = {{81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}};
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        for (int i = 0; i < table[k].n; i++) x[i] = i < table[k].yes;
        const struct interval r = statistics_share(x, table[k].n);
        assert_near(r.mean, (double)table[k].yes / table[k].n, 1e-15, 0);
        assert_near(r.low, table[k].low, 5.1e-5, 0);
        assert_near(r.high, table[k].high, 5.1e-5, 0);
    }
    // Means of several answers a prompt vary less than one answer does, and say more.
    for (int i = 0; i < 50; i++) x[i] = i % 2 ? 0.75 : 0.25;
    const struct interval several = statistics_share(x, 50);
    for (int i = 0; i < 50; i++) x[i] = i % 2;
    assert_true(several.high - several.low < 0.55 * (statistics_share(x, 50).high - statistics_share(x, 50).low));
    assert_true(isnan(statistics_share(x, 0).mean));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(means), cmocka_unit_test(shares)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
