/* Every pairwise objective far out: |h| up to 10^4, answers of one token and of a hundred thousand. The oracle is the loss of the methods page written down as it
 * stands, in long double, whose range holds e^10000, and its derivatives by the complex step. Equal to 1e-12, relative, wherever a double can say the number. */
#include "objective/complex_step.h"
#include "objective/objective.h"

static const struct objective_params params = {.beta = 0.1, .eps = 0.1, .delta = 1, .lambda = 0.1, .gamma = 0.5, .tau = 0.05, .alpha = 0.01, .baseline = BASELINE_LOG2};
#define B ((long double)params.beta)
#define EPS ((long double)params.eps)

static num dpo(struct answer w, struct answer l) { return soft(-B * (w.d - l.d)); }
static num cdpo(struct answer w, struct answer l) { return (1 - EPS) * soft(-B * (w.d - l.d)) + EPS * soft(B * (w.d - l.d)); }
static num robust(struct answer w, struct answer l) { return ((1 - EPS) * soft(-B * (w.d - l.d)) - EPS * soft(B * (w.d - l.d))) / (1 - 2 * EPS); }
static num r_dpo(struct answer w, struct answer l) { return soft(-B * (w.d - l.d) - (long double)params.alpha * (w.n - l.n)); }
static num dpop(struct answer w, struct answer l) { return soft(-B * (w.d - l.d - (long double)params.lambda * positive(-w.d))); }
static num ipo(struct answer w, struct answer l) { return (w.d - l.d - 1 / (2 * B)) * (w.d - l.d - 1 / (2 * B)); }
static num ipo_mean(struct answer w, struct answer l) { return (w.d / w.n - l.d / l.n - 1 / (2 * B)) * (w.d / w.n - l.d / l.n - 1 / (2 * B)); }
static num hinge(struct answer w, struct answer l) { return positive(1 - B * (w.d - l.d)); }
static num slic(struct answer w, struct answer l) { return positive(params.delta - w.l + l.l) - (long double)params.lambda * w.l; }
static num simpo(struct answer w, struct answer l) { return soft(params.gamma - B * (w.l / w.n - l.l / l.n)); }
static num cpo(struct answer w, struct answer l) { return soft(-B * (w.l - l.l)) - (long double)params.alpha * w.l / w.n; }
static num orpo(struct answer w, struct answer l)
{
    const num x = w.l / w.n, y = l.l / l.n; // odds of the loser over the winner's
    return -x + (long double)params.lambda * log1p_of(cexpl(y - x) * expm1_of(x) / expm1_of(y));
}
static num exo_pair(struct answer w, struct answer l)
{
    const num z = B * (w.d - l.d);
    return logistic_of(z) * (-soft(-z) - logl(1 - EPS)) + logistic_of(-z) * (-soft(z) - logl(EPS));
}
static num nca_pair(struct answer w, struct answer l) { return soft(-B * w.d) + soft(B * w.d) / 2 + soft(B * l.d) / 2; }
static num bco_pair(struct answer w, struct answer l) { return soft(-B * w.d) + soft(B * l.d); }
static num sppo_hard(struct answer w, struct answer l) { return (w.d - 1 / (2 * B)) * (w.d - 1 / (2 * B)) + (l.d + 1 / (2 * B)) * (l.d + 1 / (2 * B)); }
static num apo_zero(struct answer w, struct answer l) { return logistic_of(-B * w.d) + logistic_of(B * l.d); }
static num apo_down(struct answer w, struct answer l) { return logistic_of(B * w.d) + logistic_of(-B * (w.d - l.d)); }
static num discopop(struct answer w, struct answer l)
{
    const num z = B * (w.d - l.d), t = z / (long double)params.tau, em = creall(z) > 0 ? cexpl(-z) * logistic_of(t) : cexpl(t - z) / (1 + cexpl(t));
    return soft(-z) * logistic_of(-t) + em;
}
static num sigmoid_norm(struct answer w, struct answer l) { return soft(-B * (w.d / w.n - l.d / l.n)); }

static const struct {
    const char *name;
    num (*loss)(struct answer, struct answer);
    bool cancels; /* its loss or slope is a difference of like numbers somewhere: 1e-12 of the terms, not of what they leave */
} oracle[] = {
    {"dpo", dpo, false}, {"cdpo", cdpo, true}, {"robust", robust, true}, {"r-dpo", r_dpo, false}, {"dpop", dpop, false}, {"ipo", ipo, false}, {"ipo-mean", ipo_mean, false}, {"hinge", hinge, false},
    {"slic", slic, false}, {"simpo", simpo, false}, {"cpo", cpo, false}, {"orpo", orpo, false}, {"exo-pair", exo_pair, true}, {"nca-pair", nca_pair, true}, {"bco-pair", bco_pair, false},
    {"sppo-hard", sppo_hard, false}, {"apo-zero", apo_zero, false}, {"apo-down", apo_down, true}, {"discopop", discopop, true}, {"sigmoid-norm", sigmoid_norm, false}, {"aot", dpo, false},
};
enum { N_ORACLE = sizeof oracle / sizeof *oracle };

static double run(const struct objective *o, const struct objective_params *p, const struct point *x, enum route route, double *coef)
{
    double logp[2] = {x->l[0], x->l[1]}, logp_ref[2] = {x->r[0], x->r[1]};
    int32_t n_tok[2] = {x->n[0], x->n[1]};
    struct pair pair = {.win = 0, .lose = 1, .p = 1, .weight = 1, .route = route};
    struct ranked rank[2];
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = n_tok, .logp = logp, .logp_ref = logp_ref, .n_pair = 1, .pair = &pair, .coef = coef, .rank = rank};
    struct objective_stats s = {0};
    objective_eval(o, p, &b, 1, &s);
    return s.loss;
}

static num of_pair(struct answer w, struct answer l, const void *i) { return oracle[*(const int *)i].loss(w, l); }

static void exact_to_the_far_ends(void **state)
{
    (void)state;
    static struct point at[MOST_POINTS];
    const int n = points(at);
    int named = 0;
    for (const struct objective *o = objective_pairwise; o->name; o++) {
        if (!strcmp(o->name, "sft")) continue;
        int i = 0;
        while (i < N_ORACLE && strcmp(oracle[i].name, o->name)) i++;
        if (i == N_ORACLE) fail_msg("%s has no oracle here", o->name);
        named++;
        for (int k = 0; k < n; k++) {
            long double slope[2];
            double coef[2];
            const long double loss = oracle_truth(of_pair, &i, &at[k], slope);
            assert_exact(o->name, "the loss", &at[k], run(o, &params, &at[k], ROUTE_OFFLINE, coef), loss, oracle[i].cancels);
            assert_exact(o->name, "dL/dlw", &at[k], coef[0], slope[0], oracle[i].cancels);
            assert_exact(o->name, "dL/dll", &at[k], coef[1], slope[1], oracle[i].cancels);
        }
    }
    assert_int_equal(named, N_ORACLE);
}

/* Everything else that takes pairs, on all routes, with the constants of the papers that are largest and smallest. */
static void finite_everywhere(void **state)
{
    (void)state;
    static struct point at[MOST_POINTS];
    const int n = points(at);
    static const struct objective_params extreme[] = {
        {.beta = 10, .eps = 1e-3, .delta = 1, .lambda = 50, .gamma = 5.5, .tau = 0.05, .alpha = 1, .rho = 1, .pi = 1},
        {.beta = 1e-3, .eps = 0.4, .delta = 10, .lambda = 1, .gamma = 0, .tau = 1, .alpha = 0, .rho = 1, .pi = 1, .label = LABEL_SAMPLED},
    };
    for (int i = 0; objective_at(i); i++) {
        const struct objective *o = objective_at(i);
        if (o->needs & ~(uint32_t)(COL_PAIRS | COL_LOGP_REF)) continue;
        for (int k = 0; k < n; k++)
            for (int e = 0; e < 2; e++)
                for (int route = 0; route < ROUTE_COUNT; route++) {
                    double coef[2];
                    const double loss = run(o, &extreme[e], &at[k], (enum route)route, coef);
                    if (!isfinite(loss) || !isfinite(coef[0]) || !isfinite(coef[1])) fail_msg("%s is not finite: constants %d, route %d, l = (%g, %g)", o->name, e, route, at[k].l[0], at[k].l[1]);
                }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_to_the_far_ends), cmocka_unit_test(finite_everywhere)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
