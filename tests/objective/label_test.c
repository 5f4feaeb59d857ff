/* Soft labels and margins: every pairwise objective under P(win) = p against its two certain labels, the forms that torch confirms, and what a margin moves. */
#include "test.h"

#include "objective/objective.h"

struct result {
    double loss, coef[2];
};

static const struct objective_params defaults = {.beta = 0.1, .eps = 0.1, .delta = 1, .lambda = 0.1, .gamma = 0.5, .tau = 0.05, .alpha = 0.05};

static struct result run(const char *name, const struct objective_params *p, const double *v, double probability, double margin, bool turn)
{
    double logp[2] = {v[0], v[1]}, logp_ref[2] = {v[2], v[3]}, coef[2];
    int32_t n_tok[2] = {30, 45};
    struct pair pair = {.win = turn, .lose = !turn, .p = probability, .margin = margin, .weight = 1};
    struct ranked rank[2];
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_SHIFT, .n = 2, .n_tok = n_tok, .logp = logp, .logp_ref = logp_ref, .n_pair = 1, .pair = &pair, .coef = coef, .rank = rank, .shift = 0.2};
    struct objective_stats s = {0};
    objective_eval(objective_find(name), p, &b, 1, &s);
    return (struct result){s.loss, {coef[0], coef[1]}};
}

#define EACH_PAIRWISE(o) for (const struct objective *o = objective_pairwise; o->name; o++) if (strcmp(o->name, "sft"))

static const double points[][4] = {{-40, -55, -42, -50}, {-60, -35, -50, -38}, {-33, -30, -33.5, -31}};
enum { POINTS = sizeof points / sizeof *points };

/* The slope is linear in p: p times that of the pair, 1 - p times that of the turned pair. SimPO's gamma does not turn, EXO's label is inside a logarithm. */
static void a_soft_label_is_the_mean_of_both(void **state)
{
    (void)state;
    int checked = 0;
    EACH_PAIRWISE(o) {
        const char *name = o->name;
        if (!strcmp(name, "simpo") || !strcmp(name, "exo-pair")) continue;
        checked++;
        const double margin = o->takes & TAKES_MARGIN ? 0.7 : 0;
        struct objective_params p = defaults;
        p.use_margin = margin != 0;
        for (int c = 0; c < POINTS; c++)
            for (double q = 0; q <= 1; q += 0.125) {
                const struct result soft = run(name, &p, points[c], q, margin, false), one = run(name, &p, points[c], 1, margin, false), other = run(name, &p, points[c], 1, -margin, true);
                for (int k = 0; k < 2; k++) {
                    const double want = q * one.coef[k] + (1 - q) * other.coef[k];
                    if (!(fabs(soft.coef[k] - want) <= 1e-13 * (1 + fabs(want)))) fail_msg("%s, p %g: slope %d is %.15g, wanted %.15g", name, q, k, soft.coef[k], want);
                }
                // IPO and SPPO complete the square: another constant.
                const bool square = !strncmp(name, "ipo", 3) || !strcmp(name, "sppo-hard");
                const double want = q * one.loss + (1 - q) * other.loss;
                if (!square) assert_near(soft.loss, want, 1e-13, 1e-13);
            }
    }
    assert_true(checked >= 19);
}

/* Turning the pair and its label changes nothing, for every objective whose loss treats both answers alike. */
static void even_labels_do_not_see_the_order(void **state)
{
    (void)state;
    EACH_PAIRWISE(o) {
        const char *name = o->name;
        if (!strcmp(name, "simpo")) continue;
        const struct result a = run(name, &defaults, points[0], 0.8, 0, false), b = run(name, &defaults, points[0], 0.2, 0, true);
        assert_near(a.loss, b.loss, 1e-14, 1e-13);
        for (int k = 0; k < 2; k++) assert_near(a.coef[k], b.coef[k], 1e-15, 1e-13);
    }
}

static void matches_torch(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double beta, eps, p, margin, want[2][3];
    } row[] = {
        {"exo-pair", 0.1, 1e-3, 0.7, 0, {{0.00230393536, -0.00322356823, 0.00322356823}, {0.502163601, -0.0361066267, 0.0361066267}}},
        {"simpo", 2, 0.1, 0.9, 0, {{1.04586705, -0.0382064118, 0.0254709412}, {1.01437009, -0.0560756369, 0.0934593948}}},
        {"orpo", 0.1, 0.1, 1, 0.3, {{1.42790804, -0.0361017939, 0.00192668893}, {3.0905787, -0.0531349625, 0.00524883748}}},
    };
    static const int lengths[2][2] = {{30, 45}, {20, 12}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int c = 0; c < 2; c++) {
            struct objective_params p = defaults;
            p.beta = row[i].beta;
            p.eps = row[i].eps;
            p.use_margin = row[i].margin != 0;
            double logp[2] = {points[c][0], points[c][1]}, logp_ref[2] = {points[c][2], points[c][3]}, coef[2];
            int32_t n_tok[2] = {lengths[c][0], lengths[c][1]};
            struct pair pair = {.win = 0, .lose = 1, .p = row[i].p, .margin = row[i].margin, .weight = 1};
            struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = n_tok, .logp = logp, .logp_ref = logp_ref, .n_pair = 1, .pair = &pair, .coef = coef};
            struct objective_stats s = {0};
            objective_eval(objective_find(row[i].name), &p, &b, 1, &s);
            const double got[3] = {s.loss, coef[0], coef[1]};
            for (int k = 0; k < 3; k++) assert_near(got[k], row[i].want[c][k], 1e-9, 1e-8);
        }
}

/* A margin m on a logit beta h + ... is a winner that is m / beta less likely; per token, n m / beta. */
static void a_margin_is_a_handicap(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double per_beta;
    } row[] = {{"dpo", 1}, {"cdpo", 1}, {"robust", 1}, {"r-dpo", 1}, {"exo-pair", 1}, {"aot", 1}, {"simpo", 30}, {"sigmoid-norm", 30}};
    struct objective_params with = defaults;
    with.use_margin = true;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        for (int c = 0; c < POINTS; c++) {
            double v[4];
            memcpy(v, points[c], sizeof v);
            v[0] -= 0.7 * row[i].per_beta / defaults.beta;
            const struct result a = run(row[i].name, &with, points[c], 0.9, 0.7, false), b = run(row[i].name, &defaults, v, 0.9, 0.7, false);
            assert_near(a.loss, b.loss, 1e-13, 1e-12);
            for (int k = 0; k < 2; k++) assert_near(a.coef[k], b.coef[k], 1e-15, 1e-12);
        }
}

/* An objective either reads the margins or refuses them. */
static void no_margin_is_ignored(void **state)
{
    (void)state;
    struct objective_params p = defaults;
    p.use_margin = true;
    EACH_PAIRWISE(o) {
        const char *name = o->name;
        sail_err err = {0};
        const bool refused = objective_check(o, &p, "m", &err) != SAIL_OK;
        assert_true(refused == !(o->takes & TAKES_MARGIN));
        if (refused) {
            assert_non_null(strstr(err.message, "--margin"));
        } else {
            assert_true(run(name, &p, points[0], 1, 0.7, false).loss != run(name, &p, points[0], 1, 0, false).loss);
            for (int side = 0; side < 2; side++) { // and its slopes are of that loss
                double up[4], down[4];
                memcpy(up, points[2], sizeof up);
                memcpy(down, points[2], sizeof down);
                up[side] += 1e-4;
                down[side] -= 1e-4;
                assert_near(run(name, &p, points[2], 0.6, 0.7, false).coef[side], (run(name, &p, up, 0.6, 0.7, false).loss - run(name, &p, down, 0.6, 0.7, false).loss) / 2e-4, 1e-9, 0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_soft_label_is_the_mean_of_both), cmocka_unit_test(even_labels_do_not_see_the_order), cmocka_unit_test(matches_torch),
        cmocka_unit_test(a_margin_is_a_handicap), cmocka_unit_test(no_margin_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
