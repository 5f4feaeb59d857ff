/* Objectives: the golden vectors of the methods page, coefficients against central differences of the loss, behaviour in the extremes. */
#include "test.h"

#include "objective/objective.h"

struct table {
    struct batch b;
    double logp[4], logp_ref[4], logp_init[4], coef[4], reward[4], win_rate[4], learned[4];
    int32_t n_tok[4], group[4];
    enum source source[4];
    struct pair pair[2];
    struct ranked rank[4];
    const unsigned char *counted[4];
    int64_t token_at[4];
    float token_logp[1024], token_logp_ref[1024], token_weight[1024];
};

static void make_pair(struct table *t, double lw, double ll, double rw, double rl, int nw, int nl)
{
    *t = (struct table){.logp = {lw, ll}, .logp_ref = {rw, rl}, .logp_init = {rw, rl}, .win_rate = {0.8, 0.3}, .learned = {0.4, -0.2}, .n_tok = {nw, nl}, .source = {SOURCE_POLICY, SOURCE_REFERENCE}, .pair = {{.win = 0, .lose = 1, .p = 1, .weight = 1}}};
    t->b = (struct batch){.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_REWARD | COL_TOKENS | COL_SHIFT | COL_WIN_RATE | COL_LOGP_INIT | COL_LEARNED, .n = 2, .n_tok = t->n_tok, .counted = t->counted, .group = t->group, .logp = t->logp, .logp_ref = t->logp_ref, .n_pair = 1,
                          .pair = t->pair, .coef = t->coef, .reward = t->reward, .rank = t->rank, .logp_init = t->logp_init, .win_rate = t->win_rate, .learned = t->learned,
                          .source = t->source, .n_reference = 1, .token_at = t->token_at, .token_logp = t->token_logp, .token_logp_ref = t->token_logp_ref,
                          .token_weight = t->token_weight, .token_capacity = 1024};
    batch_lay_tokens(&t->b);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < t->n_tok[i]; k++) {
            t->token_logp[t->token_at[i] + k] = (float)(t->logp[i] / t->n_tok[i]);
            t->token_logp_ref[t->token_at[i] + k] = (float)(t->logp_ref[i] / t->n_tok[i]);
        }
}

static double evaluate(struct table *t, const char *name, const struct objective_params *p)
{
    struct objective_stats s = {0};
    objective_eval(objective_find(name), p, &t->b, 1, &s);
    return s.loss;
}

static const struct objective_params defaults = {.beta = 0.1, .eps = 0.1, .delta = 1, .lambda = 0.1, .gamma = 0.5, .tau = 0.05, .alpha = 1, .rho = 0.2, .pi = 0.2, .baseline = BASELINE_LOG2};

/* The vectors of the methods page to all of its nine digits, and below them, made with torch in float64 from the papers' formulas, the objectives and forms that
 * the page has no numbers for. A constant left out is the one of `defaults`; a p left out is 1. */
static const struct golden {
    const char *name;
    double value[2][3];
    double beta, eps, lambda, alpha, p, margin;
    enum route route;
    enum label_rule label;
} golden[] = {
    {"dpo", .value = {{0.403186049, -0.0331812228, 0.0331812228}, {1.54100845, -0.0785834983, 0.0785834983}}},
    {"cdpo", .value = {{0.473186049, -0.0231812228, 0.0231812228}, {1.41100845, -0.0685834983, 0.0685834983}}},
    {"robust", .value = {{0.315686049, -0.0456812228, 0.0456812228}, {1.70350845, -0.0910834983, 0.0910834983}}},
    {"ipo", .value = {{4, 4, -4}, {324, -36, 36}}},
    {"ipo-mean", .value = {{23.2538272, -0.321481481, 0.214320988}, {33.0625, -0.575, 0.958333333}}},
    {"hinge", .value = {{0.3, -0.1, 0.1}, {2.3, -0.1, 0.1}}},
    {"slic", .value = {{4, -0.1, 0}, {32, -1.1, 1}}},
    {"simpo", .value = {{1.11808927, -0.0448730785, 0.0299153857}, {1.08103675, -0.0660756369, 0.110126061}}, .beta = 2},
    {"orpo", .value = {{1.41064893, -0.0357706129, 0.00169620604}, {3.07380612, -0.0527465431, 0.00459851061}}},
    {"apo-zero", .value = {{0.827706671, -0.0247516573, 0.0235003712}, {1.3055011, -0.0196611933, 0.0244458312}}},
    {"apo-down", .value = {{0.881646225, 0.00258036994, 0.0221712873}, {1.0547764, 0.00283135708, 0.0168298362}}},
    {"exo-pair", .value = {{1.65729158, -0.137611744, 0.137611744}, {4.90914705, -0.138118339, 0.138118339}}, .eps = 1e-3},
    {"nca-pair", .value = {{1.2342468, -0.0175249004, 0.0188770334}, {1.89707015, -0.0596587868, 0.0287221258}}},
    {"bco-pair", .value = {{1.07221585, -0.0450166003, 0.0377540669}, {2.16761693, -0.0731058579, 0.0574442517}}},
    {"sppo-hard", .value = {{9, -6, 0}, {289, -30, 16}}},
    {"discopop", .value = {{0.496585226, -0.0496583613, 0.0496583613}, {1.54100845, -0.0785834983, 0.0785834983}}},
    {"sigmoid-norm", .value = {{0.684297797, -0.00165185224, 0.00110123483}, {0.731350141, -0.00259370608, 0.00432284347}}},
    {"sail", .value = {{0.38693015, -0.0305055816, 0.0305055816}, {1.30353775, -0.0543639313, 0.0543639313}}, .route = ROUTE_DP, .label = LABEL_SAMPLED},
    {"dpo", .value = {{0.613186049, -0.00318122278, 0.00318122278}, {1.15100845, -0.0485834983, 0.0485834983}}, .p = 0.7},
    {"ipo", .value = {{25, 10, -10}, {225, -30, 30}}, .p = 0.7},
    // torch
    {"r-dpo", .value = {{0.718459648, -0.0512497396, 0.0512497396}, {1.24115387, -0.0710949503, 0.0710949503}}, .alpha = 0.05},
    {"dpop", .value = {{0.403186049, -0.0331812228, 0.0331812228}, {6.30183462, -0.598900237, 0.0998167061}}, .lambda = 5},
    {"cpo", .value = {{1.53474661, -0.0515758857, 0.0182425524}, {5.57888973, -0.142414182, 0.092414182}}},
    {"aot", .value = {{0.403186049, -0.0331812228, 0.0331812228}, {1.54100845, -0.0785834983, 0.0785834983}}}, // one pair: DPO
};
static const double cases[2][6] = {{-40, -55, -42, -50, 30, 45}, {-60, -35, -50, -38, 20, 12}};

static void make_case(struct table *t, int c) { make_pair(t, cases[c][0], cases[c][1], cases[c][2], cases[c][3], (int)cases[c][4], (int)cases[c][5]); }

static void golden_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        for (int c = 0; c < 2; c++) {
            const struct golden *g = &golden[i];
            struct table t;
            make_case(&t, c);
            t.pair[0].p = g->p > 0 ? g->p : 1;
            t.pair[0].margin = g->margin;
            t.pair[0].route = g->route;
            struct objective_params p = defaults;
            p.beta = g->beta > 0 ? g->beta : p.beta;
            p.eps = g->eps > 0 ? g->eps : p.eps;
            p.lambda = g->lambda > 0 ? g->lambda : p.lambda;
            p.alpha = g->alpha > 0 ? g->alpha : p.alpha;
            p.label = g->label;
            p.use_margin = g->margin != 0;
            const double *want = g->value[c], got[3] = {evaluate(&t, g->name, &p), t.coef[0], t.coef[1]};
            for (int k = 0; k < 3; k++)
                if (fabs(got[k] - want[k]) > 1e-8 * fmax(1, fabs(want[k]))) fail_msg("%s, row %zu, case %c, number %d: %.10g, wanted %.10g", g->name, i, 'A' + c, k, got[k], want[k]);
        }
}

/* Fourth-order central differences at pseudo-random points, kinks excluded. */
static void coefficients_are_derivatives(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int i = 0; objective_at(i); i++) {
        if (objective_at(i)->needs & COL_VERDICT) continue; // rows, not pairs: unpaired_test.c
        const char *name = objective_at(i)->name;
        if (!strcmp(name, "sail") || objective_at(i)->needs & (SCORES_FIRST | GROUPS | LEARNS_REWARD)) continue; // a score term is no derivative of a loss: law_test.c, two_model_test.c, group_test.c, two_level_test.c
        for (int trial = 0; trial < 80; trial++) {
            double v[4];
            for (int k = 0; k < 4; k++) {
                seed = seed * 1664525u + 1013904223u;
                v[k] = -5 - 60.0 * (double)(seed >> 8) / 16777216.0;
            }
            struct objective_params p = defaults;
            p.beta = !strcmp(name, "simpo") ? 2 : 0.1;
            if (!strcmp(name, "hinge") && fabs(1 - p.beta * ((v[0] - v[2]) - (v[1] - v[3]))) < 0.01) continue;
            if (!strcmp(name, "dpop") && fabs(v[0] - v[2]) < 0.05) continue;
            if (!strcmp(name, "slic") && fabs(1 - v[0] + v[1]) < 0.1) continue;
            const int side = trial % 2;
            const double h = 1e-2;
            double f[4];
            struct table t;
            make_pair(&t, v[0], v[1], v[2], v[3], 11, 17);
            evaluate(&t, name, &p);
            const double got = t.coef[side];
            for (int s = 0; s < 4; s++) {
                make_pair(&t, v[0], v[1], v[2], v[3], 11, 17);
                t.logp[side] += h * (double)(s < 2 ? s - 2 : s - 1);
                f[s] = evaluate(&t, name, &p);
            }
            const double want = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h);
            if (fabs(got - want) > 2e-7 * (1 + fabs(want))) fail_msg("%s: d/dlogp[%d] = %.12g, differences say %.12g", name, side, got, want);
        }
    }
}

static void extremes_stay_finite(void **state)
{
    (void)state;
    for (int i = 0; objective_at(i); i++)
        for (int k = 0; k < 4; k++) {
            if (objective_at(i)->needs & COL_VERDICT) continue; // rows, not pairs: unpaired_test.c
            struct table t;
            const double far = k < 2 ? 1e4 : 1e-9;
            make_pair(&t, k % 2 ? -far : -1e-9, k % 2 ? -1e-9 : -far, -1, -1, 5, 700);
            const double loss = evaluate(&t, objective_at(i)->name, &defaults);
            if (!isfinite(loss) || !isfinite(t.coef[0]) || !isfinite(t.coef[1])) fail_msg("%s is not finite in case %d", objective_at(i)->name, k);
        }
    assert_near(log_sigmoid(-800), -800, 0, 1e-15);
    assert_near(log_sigmoid(40), -exp(-40), 0, 1e-12);
    assert_near(sigmoid(-40), exp(-40), 0, 1e-12);
    assert_near(log1m_exp(-1e-10), log(1e-10), 0, 1e-10);
    assert_near(log1m_exp(-50), -exp(-50), 0, 1e-12);
    assert_near(preference_entropy(0), log(2), 0, 1e-15);
}

/* ORPO by odds themselves, in long double: L = -x_w + lambda log(1 + odds_l / odds_w), odds = e^x / (1 - e^x). Answers from hopeless to all but certain. */
static void orpo_is_exact_where_an_answer_is_nearly_certain(void **state)
{
    (void)state;
    static const double x[] = {-1e-24, -1e-15, -1e-9, -1e-4, -0.69, -0.7, -3, -40, -600};
    enum { N = sizeof x / sizeof *x };
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            struct table t;
            make_pair(&t, 8 * x[i], 16 * x[j], 0, 0, 8, 16);
            const double loss = evaluate(&t, "orpo", &defaults);
            const long double ratio = expl(x[j] - (long double)x[i]) * expm1l(x[i]) / expm1l(x[j]), share = ratio / (1 + ratio), lambda = defaults.lambda;
            assert_near(loss, (double)(-(long double)x[i] + lambda * log1pl(ratio)), 0, 1e-12);
            assert_near(t.coef[0], (double)(-1 / 8.0L + lambda * share / (8 * expm1l(x[i]))), 0, 1e-12);
            assert_near(t.coef[1], (double)(-lambda * share / (16 * expm1l(x[j]))), 0, 1e-12);
        }
    // Certain: the winner's slope is the limit, the loser's odds no longer move. Rounding may put a log-prob above 0.
    for (int k = 0; k < 2; k++) {
        struct table t;
        make_pair(&t, k ? 1e-7 : 0, -16, 0, 0, 8, 16);
        evaluate(&t, "orpo", &defaults);
        assert_near(t.coef[0], -(1 + 0.1 / expm1(1)) / 8, 0, 1e-12);
        make_pair(&t, -8, k ? 1e-7 : 0, 0, 0, 8, 16);
        assert_true(isfinite(evaluate(&t, "orpo", &defaults)) && t.coef[1] == 0);
    }
}

static void at_the_reference_the_loss_is_known(void **state)
{
    (void)state;
    for (int i = 0; objective_at(i); i++)
        for (int route = 0; objective_at(i)->at_reference && route < ROUTE_COUNT; route++) {
            if (objective_at(i)->needs & COL_VERDICT) continue; // rows, not pairs: unpaired_test.c
            struct table t;
            make_pair(&t, -40, -55, -40, -55, 30, 45);
            t.pair[0].route = (enum route)route;
            assert_near(evaluate(&t, objective_at(i)->name, &defaults), objective_at(i)->at_reference(&defaults, &t.pair[0]), 1e-14, 1e-14);
        }
}

static void unlabelled_pairs_are_left_out(void **state)
{
    (void)state;
    struct table t;
    make_case(&t, 0);
    t.pair[0].unlabelled = true;
    assert_true(evaluate(&t, "dpo", &defaults) == 0);
    assert_true(evaluate(&t, "sail", &defaults) == 0);
    assert_true(t.coef[0] == 0 && t.coef[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_vectors), cmocka_unit_test(coefficients_are_derivatives), cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(orpo_is_exact_where_an_answer_is_nearly_certain),
        cmocka_unit_test(at_the_reference_the_loss_is_known), cmocka_unit_test(unlabelled_pairs_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
