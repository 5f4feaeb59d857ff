/* Where losses rest and what their means are: the margin at which a pair's slope vanishes, losses at the reference, turned labels, self-labels at the reference, the curvature that SAIL-RevKL adds,
 * the answer that online IPO gives to a certain preference. */
#include "objective/enumerate.h"

static const double beta = 0.7;

/* Loss and slope in h of a pair with this margin; the reference's log-probs are 0. */
static struct pair_slope {
    double loss, slope;
} pair_at(const char *name, const struct objective_params *p, double h, double label)
{
    struct rows r;
    struct objective_stats s = {0};
    rows_begin(&r);
    for (int k = 0; k < 2; k++) {
        rows_add(&r, &trees[1], tree_theta, 1 + k, 0, SOURCE_DATASET);
        r.logp[k] = -9 + (k ? 0 : h);
        r.logp_ref[k] = -9;
    }
    rows_pair(&r, (struct pair){.win = 0, .lose = 1, .p = label});
    objective_eval(objective_find(name), p, &r.b, 1, &s);
    return (struct pair_slope){s.loss, r.coef[0]};
}

static double log_odds(double p) { return log(p / (1 - p)); }

/* A pair by itself: DPO's margin grows without end, smoothed and soft labels and IPO stop it. */
static void a_pair_rests_where_its_label_says(void **state)
{
    (void)state;
    const double eps = 0.15, label = 0.8;
    const struct objective_params p = {.beta = beta, .eps = eps};
    const struct {
        const char *name;
        double label, h;
    } rest[] = {{"cdpo", 1, log_odds(1 - eps) / beta}, {"cdpo", label, log_odds(eps + (1 - 2 * eps) * label) / beta}, {"dpo", label, log_odds(label) / beta},
                {"ipo", 1, 1 / (2 * beta)}, {"ipo", label, (label - 0.5) / beta}, {"exo-pair", 1, log_odds(1 - eps) / beta}};
    for (size_t k = 0; k < sizeof rest / sizeof *rest; k++) {
        assert_near(pair_at(rest[k].name, &p, rest[k].h, rest[k].label).slope, 0, 1e-14, 0);
        assert_true(pair_at(rest[k].name, &p, rest[k].h - 0.1, rest[k].label).slope < -1e-4);
        assert_true(pair_at(rest[k].name, &p, rest[k].h + 0.1, rest[k].label).slope > 1e-4);
    }
    for (double h = -30; h <= 30; h += 1.5) {
        assert_true(pair_at("dpo", &p, h, 1).slope < 0 && pair_at("robust", &p, h, 1).slope < 0);
        if (h > 0) assert_true(pair_at("robust", &p, h + 9, 1).loss < pair_at("robust", &p, h, 1).loss); // no lower bound
    }
    assert_true(pair_at("robust", &p, 30, 1).loss < -3);
}

/* Labels turned with rate eps: robust DPO's mean is DPO's loss and slope on the clean label, cDPO's is not; hard IPO's mean slope over a label of p is the soft one's. */
static void turned_labels_have_the_clean_mean(void **state)
{
    (void)state;
    const double eps = 0.15, label = 0.8;
    const struct objective_params p = {.beta = beta, .eps = eps};
    for (double h = -6; h <= 6; h += 0.75) {
        const struct pair_slope clean = pair_at("dpo", &p, h, 1), kept = pair_at("robust", &p, h, 1), turned = pair_at("robust", &p, -h, 1);
        assert_near((1 - eps) * kept.loss + eps * turned.loss, clean.loss, 1e-13, 1e-13);
        assert_near((1 - eps) * kept.slope - eps * turned.slope, clean.slope, 1e-14, 1e-13);
        const struct pair_slope smooth = pair_at("cdpo", &p, h, 1), back = pair_at("cdpo", &p, -h, 1);
        assert_true(fabs((1 - eps) * smooth.slope - eps * back.slope - clean.slope) > 1e-3);
        assert_near(label * pair_at("ipo", &p, h, 1).slope - (1 - label) * pair_at("ipo", &p, -h, 1).slope, pair_at("ipo", &p, h, label).slope, 1e-12, 1e-13);
    }
}

/* Policy = reference: every loss has its own value, DPO's slope is -beta / 2, margins are 0 and no pair counts as right. */
static void the_first_step_has_known_values(void **state)
{
    (void)state;
    const struct objective_params p = {.beta = beta, .tau = 0.05, .eps = 1e-3};
    const struct {
        const char *name;
        double loss;
    } known[] = {{"dpo", 0.6931471805599453}, {"ipo", 1 / (4 * beta * beta)}, {"hinge", 1}, {"bco-pair", 2 * 0.6931471805599453}, {"nca-pair", 2 * 0.6931471805599453}, {"apo-zero", 1}, {"apo-down", 1},
                 {"sppo-hard", 1 / (2 * beta * beta)}, {"sail", 0.6931471805599453}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) assert_near(pair_at(known[k].name, &p, 0, 1).loss, known[k].loss, 1e-14, 1e-14);
    assert_near(pair_at("dpo", &p, 0, 1).slope, -beta / 2, 1e-16, 0);
    struct rows r;
    struct objective_stats s = {0};
    rows_begin(&r);
    for (int k = 0; k < 2; k++) r.logp[rows_add(&r, &trees[1], tree_ref, 1 + k, 0, SOURCE_DATASET)] = r.logp_ref[k];
    rows_pair(&r, (struct pair){.win = 0, .lose = 1, .p = 1});
    objective_eval(objective_find("dpo"), &p, &r.b, 1, &s);
    assert_true(s.margin == 0 && s.accuracy == 0 && s.chosen == 0 && s.rejected == 0 && s.n_pair == 1);
}

/* The policy's own labels: no slope at all at the reference (expected labels), and drawn ones teach nothing on the average beyond rho z s (1 - s). */
static void self_labels_teach_nothing_at_the_reference(void **state)
{
    (void)state;
    static const enum route routes[] = {ROUTE_DP, ROUTE_PP};
    const struct objective_params p = {.beta = beta, .rho = 1, .pi = 1, .baseline = BASELINE_LOG2};
    const struct objective_params drawn = {.beta = beta, .rho = 0.4, .label = LABEL_SAMPLED}, plain = {.beta = beta, .rho = 0, .label = LABEL_SAMPLED};
    for (int k = 0; k < 2; k++) {
        struct rows r;
        struct objective_stats s = {0};
        rows_begin(&r);
        for (int i = 0; i < 2; i++) r.logp[rows_add(&r, &trees[1], tree_theta, 3 + i, 0, SOURCE_POLICY)] = r.logp_ref[i];
        rows_pair(&r, (struct pair){.win = 0, .lose = 1, .route = routes[k], .p = 1});
        objective_eval(objective_find("sail"), &p, &r.b, 1, &s);
        assert_true(r.coef[0] == 0 && r.coef[1] == 0);
    }
    for (double h = -5; h <= 5; h += 0.5) {
        double mean[2] = {0};
        const double z = beta * h, q = sigmoid(z);
        for (int side = 0; side < 2; side++)
            for (int k = 0; k < 2; k++) {
                struct rows r;
                struct objective_stats s = {0};
                rows_begin(&r);
                for (int i = 0; i < 2; i++) {
                    rows_add(&r, &trees[1], tree_theta, 3 + i, 0, SOURCE_DATASET);
                    r.logp[i] = i ? 0 : h;
                    r.logp_ref[i] = 0;
                }
                rows_pair(&r, (struct pair){.win = side, .lose = !side, .route = ROUTE_DP, .p = 1});
                objective_eval(objective_find("sail"), k ? &drawn : &plain, &r.b, 1, &s);
                mean[k] += (side ? 1 - q : q) * r.coef[0];
            }
        assert_near(mean[0], 0, 1e-15, 0);
        assert_near(mean[1], -beta * 0.4 * z * q * (1 - q), 1e-15, 1e-13);
    }
}

/* SAIL-RevKL's penalty on a softmax: the derivative of its mean update is its weight times the Fisher matrix, diag(pi) - pi pi', at any policy: that is what repairs concavity. */
static void revkl_adds_the_fisher_matrix(void **state)
{
    (void)state;
    const struct tree *t = &trees[0];
    const double weight = 0.37, h = 1e-4;
    const struct objective_params p = {.beta = beta, .revkl = weight};
    double ref[MAX_ANSWER], logp[MAX_ANSWER];
    tree_all(t, tree_ref, ref);
    tree_all(t, tree_theta, logp);
    for (int k = 0; k < t->n_param; k++) {
        double g[2][MAX_PARAM] = {{0}};
        for (int side = 0; side < 2; side++) {
            double theta[MAX_PARAM];
            memcpy(theta, tree_theta, sizeof theta);
            theta[k] += side ? h : -h;
            for (int y = 0; y < t->n_answer; y++) {
                struct rows r;
                rows_begin(&r);
                rows_add(&r, t, theta, y, 0, SOURCE_REFERENCE);
                r.b.n_reference = 1;
                rows_update(&r, t, theta, objective_find("sail"), &p, 1, exp(ref[y]), g[side]);
            }
        }
        for (int i = 0; i < t->n_param; i++) assert_near((g[1][i] - g[0][i]) / (2 * h), weight * ((i == k) * exp(logp[k]) - exp(logp[i] + logp[k])), 1e-8, 0);
    }
}

/* Two answers, one preferred for certain, uniform reference, tau 1/2: online IPO goes to s(1 / (2 tau)) = 0.731059. */
static void online_ipo_answers_a_certain_preference(void **state)
{
    (void)state;
    const double tau = 0.5;
    const struct objective_params p = {.beta = tau};
    double logits[2] = {0, 0};
    for (int step = 0; step < 4000; step++) {
        double pi[2], g[2] = {0};
        for (int k = 0; k < 2; k++) pi[k] = exp(logits[k]) / (exp(logits[0]) + exp(logits[1]));
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++) {
                struct rows r;
                struct objective_stats s = {0};
                rows_begin(&r);
                for (int k = 0; k < 2; k++) {
                    rows_add(&r, &trees[0], tree_theta, k, 0, SOURCE_POLICY);
                    r.logp[k] = log(pi[k ? j : i]);
                    r.logp_ref[k] = log(0.5);
                }
                rows_pair(&r, (struct pair){.win = 0, .lose = 1, .p = i == j ? 0.5 : i == 0});
                objective_eval(objective_find("ipo"), &p, &r.b, 1, &s);
                for (int k = 0; k < 2; k++) g[k] += pi[i] * pi[j] * (r.coef[0] * ((k == i) - pi[k]) + r.coef[1] * ((k == j) - pi[k]));
            }
        for (int k = 0; k < 2; k++) logits[k] -= 0.1 * g[k];
    }
    assert_near(1 / (1 + exp(logits[1] - logits[0])), 0.7310585786300049, 1e-12, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_pair_rests_where_its_label_says), cmocka_unit_test(turned_labels_have_the_clean_mean), cmocka_unit_test(the_first_step_has_known_values),
                                       cmocka_unit_test(self_labels_teach_nothing_at_the_reference), cmocka_unit_test(revkl_adds_the_fisher_matrix),
                                       cmocka_unit_test(online_ipo_answers_a_certain_preference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
