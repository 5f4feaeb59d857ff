/* f-divergences: DPO under each of them against torch, the slope per row against differences, the limits of alpha, and the far ends. */
#include "test.h"

#include "objective/objective.h"

static double run(const char *name, const struct objective_params *p, const double *v, double *coef)
{
    double logp[2] = {v[0], v[1]}, logp_ref[2] = {v[2], v[3]};
    int32_t n_tok[2] = {30, 45};
    struct pair pair = {.win = 0, .lose = 1, .p = 1, .weight = 1};
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = n_tok, .logp = logp, .logp_ref = logp_ref, .n_pair = 1, .pair = &pair, .coef = coef};
    struct objective_stats s = {0};
    objective_eval(objective_find(name), p, &b, 1, &s);
    return s.loss;
}

static struct objective_params params(enum divergence d, double alpha) { return (struct objective_params){.beta = 0.1, .eps = 0.1, .tau = 0.05, .alpha = 0.05, .divergence = d, .f_alpha = alpha}; }

static const double point[2][4] = {{-40, -55, -42, -50}, {-60, -35, -50, -38}};

static void dpo_matches_torch(void **state)
{
    (void)state;
    static const double want[3][2][3] = {{{3.63392411e-07, -4.9179806e-09, 5.3932206e-06}, {2202.6416, -2202.64658, 0.00497870684}},
                                         {{0.478632498, -0.00453411966, 0.0377824083}, {1.3097153, -0.0730069971, 0.00346257778}},
                                         {{0.0899729118, -0.00316538398, 0.104823121}, {29.6380058, -14.8413159, 0.022313016}}};
    for (int d = DIVERGENCE_FORWARD_KL; d <= DIVERGENCE_ALPHA; d++)
        for (int c = 0; c < 2; c++) {
            const struct objective_params p = params((enum divergence)d, 0.5);
            double coef[2];
            const double *w = want[d - DIVERGENCE_FORWARD_KL][c], loss = run("dpo", &p, point[c], coef);
            assert_near(loss, w[0], 1e-14, 5e-9);
            assert_near(coef[0], w[1], 1e-14, 5e-9);
            assert_near(coef[1], w[2], 1e-14, 5e-9);
        }
}

/* Fourth-order differences of every objective that takes a divergence, at moderate log-ratios. */
static void slopes_are_of_the_loss(void **state)
{
    (void)state;
    static const double at[][4] = {{-40, -41, -40.6, -40.3}, {-20.5, -18, -19.1, -19.2}, {-7, -7.5, -6.2, -8}};
    int checked = 0;
    for (int i = 0; objective_at(i); i++) {
        if (!(objective_at(i)->takes & TAKES_DIVERGENCE)) continue;
        checked++;
        for (int d = DIVERGENCE_REVERSE_KL; d <= DIVERGENCE_ALPHA; d++)
            for (size_t c = 0; c < sizeof at / sizeof *at; c++)
                for (int side = 0; side < 2; side++) {
                    const struct objective_params p = params((enum divergence)d, -0.4);
                    double coef[2], moved[2], f[4], v[4];
                    run(objective_at(i)->name, &p, at[c], coef);
                    for (int k = 0; k < 4; k++) {
                        memcpy(v, at[c], sizeof v);
                        v[side] += 1e-3 * (double)(k < 2 ? k - 2 : k - 1);
                        f[k] = run(objective_at(i)->name, &p, v, moved);
                    }
                    assert_near(coef[side], (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 12e-3, 1e-10, 1e-8);
                }
    }
    assert_int_equal(checked, 8);
}

static void alpha_runs_from_forward_to_reverse(void **state)
{
    (void)state;
    const struct objective_params forward = params(DIVERGENCE_FORWARD_KL, 0), reverse = params(DIVERGENCE_REVERSE_KL, 0);
    const struct objective_params zero = params(DIVERGENCE_ALPHA, 0), one = params(DIVERGENCE_ALPHA, 1), near = params(DIVERGENCE_ALPHA, 1 + 1e-13);
    for (double d = -30; d < 31; d += 1.7) {
        assert_near(divergence_score(&zero, d), divergence_score(&forward, d), 0, 1e-14);
        assert_near(divergence_slope(&zero, d), divergence_slope(&forward, d), 0, 1e-14);
        assert_near(divergence_score(&one, d), divergence_score(&reverse, d), 0, 0);
        assert_near(divergence_score(&near, d), d, 0, 1e-11);
    }
    // Near the reference nothing cancels: to first order every one of them is its slope times d.
    assert_near(divergence_score(&forward, 1e-12), 1e-12, 0, 1e-11);
    assert_near(divergence_score(&zero, -1e-12), -1e-12, 0, 1e-11);
}

static void far_from_the_reference_all_is_finite(void **state)
{
    (void)state;
    for (int i = 0; objective_at(i); i++)
        for (int d = DIVERGENCE_REVERSE_KL; objective_at(i)->takes & TAKES_DIVERGENCE && d <= DIVERGENCE_ALPHA; d++)
            for (int k = 0; k < 4; k++) {
                const double far = k & 1 ? 1e4 : -1e4, v[4] = {k & 2 ? far : 0, k & 2 ? 0 : far, 0, 0};
                const struct objective_params p = params((enum divergence)d, 0.5);
                double coef[2];
                assert_true(isfinite(run(objective_at(i)->name, &p, v, coef)) && isfinite(coef[0]) && isfinite(coef[1]));
            }
}

static void others_refuse(void **state)
{
    (void)state;
    const struct objective_params p = params(DIVERGENCE_JS, 0);
    for (int i = 0; objective_at(i); i++) {
        sail_err err = {0};
        const bool refused = objective_check(objective_at(i), &p, "m", &err) != SAIL_OK;
        assert_true(refused == !(objective_at(i)->takes & TAKES_DIVERGENCE));
        assert_true(!refused || strstr(err.message, "--f-divergence"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dpo_matches_torch), cmocka_unit_test(slopes_are_of_the_loss), cmocka_unit_test(alpha_runs_from_forward_to_reverse),
        cmocka_unit_test(far_from_the_reference_all_is_finite), cmocka_unit_test(others_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
