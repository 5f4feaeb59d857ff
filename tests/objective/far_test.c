/* What extreme_test.c does for the pairwise objectives, for all others whose coefficients are slopes of a loss: SAIL's routes and worst labels, unpaired rows, terms of sums, optimism, iterates, opponents,
 * rankings, reward models, f-divergences. |h| up to 10^4, losses in long double, slopes by the complex step, 1e-12. */
#include "objective/complex_step.h"
#include "objective/objective.h"

enum { RHO = 1, PI = 1 }; // whole coefficients of SAIL
static const double shift = 0.3, win_rate[2] = {0.8, 0.3}, first_logp[2] = {-9998.25, -10003.5}, lead = 0.4;

/* One way to run an objective. */
struct setting {
    const char *what, *objective;
    oracle_loss *loss;
    struct objective_params p;
    struct pair q;
    bool cancels; /* see assert_exact */
    double most;  /* log-ratios beyond this are another formula's; 0: none are */
};

#define BETA(s) ((long double)(s)->p.beta)
static const struct setting *of(const void *context) { return context; }
static num logit(const struct setting *s, struct answer w, struct answer l) { return BETA(s) * (w.d - l.d); }
static num cross_entropy(num z, long double p) { return p * soft(-z) + (1 - p) * soft(z); }
static num square(num x) { return x * x; }
static num magnitude(num z) { return creall(z) < 0 ? -z : creall(z) > 0 ? z : 0; } // at 0 the worst label is the label itself

static num dpo(struct answer w, struct answer l, const void *c) { return cross_entropy(logit(of(c), w, l), of(c)->q.p); }
static num entropy(struct answer w, struct answer l, const void *c)
{
    const num z = logit(of(c), w, l);
    return logistic_of(z) * soft(-z) + logistic_of(-z) * soft(z);
}
static num drawn_self(struct answer w, struct answer l, const void *c)
{
    const num F = -soft(-logit(of(c), w, l));
    return -F - square(F) / 2;
}
static num shifted_label(struct answer w, struct answer l, const void *c)
{
    const num z = logit(of(c), w, l);
    return cross_entropy(z, of(c)->q.p) + (long double)of(c)->p.robust_rho * magnitude(z);
}
static num chi_square_label(struct answer w, struct answer l, const void *c)
{
    const num z = logit(of(c), w, l);
    const long double p = of(c)->q.p, r = sqrtl(of(c)->p.chi2_nu * p * (1 - p)), side = (creall(z) > 0) - (creall(z) < 0);
    return cross_entropy(z, fminl(1, fmaxl(0, p - side * r)));
}
static num kl_label(struct answer w, struct answer l, const void *c) // a radius that reaches both ends
{
    const num z = logit(of(c), w, l);
    return creall(z) == 0 ? cross_entropy(z, of(c)->q.p) : soft(magnitude(z));
}
static num egpo(struct answer w, struct answer l, const void *c) { return square(w.d - l.d - (long double)lead / BETA(of(c))); }
static num egpo_mean(struct answer w, struct answer l, const void *c) { return square(w.d / w.n - l.d / l.n - (long double)lead / BETA(of(c))); }
static num sppo(struct answer w, struct answer l, const void *c)
{
    return (square(w.d - ((long double)win_rate[0] - 0.5L) / BETA(of(c))) + square(l.d - ((long double)win_rate[1] - 0.5L) / BETA(of(c)))) / 2;
}
static num inpo(struct answer w, struct answer l, const void *c)
{
    const long double share = (long double)of(c)->p.tau / BETA(of(c)), first = (long double)first_logp[0] - first_logp[1];
    const num h = w.l - l.l, last = (w.l - w.d) - (l.l - l.d);
    return square(h - share * first - (1 - share) * last - ((long double)of(c)->q.p - 0.5L) / BETA(of(c)));
}
static num sft_mean(struct answer w, struct answer l, const void *c) { return (void)l, (void)c, -w.l / w.n; }
static num sft_sum(struct answer w, struct answer l, const void *c) { return (void)l, (void)c, -w.l; }
static num bco_shift(struct answer w, struct answer l, const void *c) { return soft((long double)shift - BETA(of(c)) * w.d) + soft(BETA(of(c)) * l.d - (long double)shift); }
static num reward(struct answer w, struct answer l, const void *c)
{
    const long double e = of(c)->p.label_smoothing;
    return cross_entropy(w.l - l.l, e + (1 - 2 * e) * (long double)of(c)->q.p) + (long double)of(c)->p.center * square(w.l + l.l);
}
static num listwise(struct answer w, struct answer l, const void *c) // of two, the first with the larger reward
{
    const num z = logit(of(c), w, l);
    const long double rho = of(c)->p.robust_rho;
    return (1 - rho) * soft(-z) + rho * soft(creall(z) == 0 ? -z : magnitude(z)); // equals keep their order
}
static num phi(struct answer y, const struct setting *s)
{
    const long double k = (long double)s->p.f_alpha - 1;
    switch (s->p.divergence) {
    case DIVERGENCE_FORWARD_KL: return -expm1_of(-y.d);
    case DIVERGENCE_JS: return logl(2) - soft(-y.d);
    case DIVERGENCE_ALPHA: return expm1_of(k * y.d) / k;
    default: return y.d;
    }
}
static num f_dpo(struct answer w, struct answer l, const void *c) { return soft(-BETA(of(c)) * (phi(w, of(c)) - phi(l, of(c)))); }
static num kto(struct answer w, struct answer l, const void *c) { return logistic_of(-BETA(of(c)) * w.d) + logistic_of(BETA(of(c)) * l.d); }
static num bco(struct answer w, struct answer l, const void *c) { return bco_shift(w, l, c); }

#define SETTING(name, way, f, ...) {.what = way, .objective = name, .loss = f, __VA_ARGS__}
static const struct setting settings[] = {
    SETTING("sail", "offline", dpo, .p = {.beta = 0.1}, .q = {.p = 1}),
    SETTING("sail", "dp, exact", entropy, .p = {.beta = 0.1, .rho = RHO}, .q = {.p = 1, .route = ROUTE_DP}, .cancels = true),
    SETTING("sail", "dp, drawn", drawn_self, .p = {.beta = 0.1, .rho = RHO, .label = LABEL_SAMPLED}, .q = {.p = 1, .route = ROUTE_DP}, .cancels = true),
    SETTING("sail", "pr, hard", dpo, .p = {.beta = 0.1}, .q = {.p = 1, .route = ROUTE_PR}),
    SETTING("sail", "pr, lost", dpo, .p = {.beta = 0.1}, .q = {.p = 0, .route = ROUTE_PR}),
    SETTING("sail", "pr, soft", dpo, .p = {.beta = 0.1}, .q = {.p = 0.7, .route = ROUTE_PR}, .cancels = true),
    SETTING("sail", "pr, label shift", shifted_label, .p = {.beta = 0.1, .robust_rho = 0.15}, .q = {.p = 0.7, .route = ROUTE_PR}, .cancels = true),
    SETTING("sail", "pr, chi-square", chi_square_label, .p = {.beta = 0.1, .chi2_nu = 0.3}, .q = {.p = 0.7, .route = ROUTE_PR}, .cancels = true),
    SETTING("sail", "pr, kl", kl_label, .p = {.beta = 0.1, .kl_nu = 3}, .q = {.p = 0.7, .route = ROUTE_PR}, .cancels = true),
    SETTING("xpo", "hard", dpo, .p = {.beta = 0.1}, .q = {.p = 1}),
    SETTING("selm", "hard", dpo, .p = {.beta = 0.01}, .q = {.p = 1}),
    SETTING("egpo", "sums", egpo, .p = {.beta = 0.1}, .q = {.p = 1, .margin = lead}, .cancels = true),
    SETTING("egpo-mean", "means", egpo_mean, .p = {.beta = 0.1}, .q = {.p = 1, .margin = lead}, .cancels = true),
    SETTING("sppo", "rates", sppo, .p = {.beta = 1e-3}, .q = {.p = 1}, .cancels = true),
    SETTING("inpo", "hard", inpo, .p = {.beta = 0.0075, .tau = 0.0025}, .q = {.p = 1}, .cancels = true),
    SETTING("sft-mean", "likelihood", sft_mean, .p = {.beta = 0.1}, .q = {.p = 1}),
    SETTING("sft-sum", "likelihood", sft_sum, .p = {.beta = 0.1}, .q = {.p = 1}),
    SETTING("bco-pair-shift", "shifted", bco_shift, .p = {.beta = 0.1}, .q = {.p = 1}, .cancels = true),
    SETTING("reward", "certain", reward, .p = {.beta = 0.1}, .q = {.p = 1}),
    SETTING("reward", "smoothed, centred", reward, .p = {.label_smoothing = 0.1, .center = 0.01}, .q = {.p = 0.8}, .cancels = true),
    SETTING("listwise", "two answers", listwise, .p = {.beta = 0.1, .robust_rho = 0.05}, .cancels = true),
    SETTING("dpo", "forward kl", f_dpo, .p = {.beta = 0.1, .divergence = DIVERGENCE_FORWARD_KL}, .q = {.p = 1}, .most = 80),
    SETTING("dpo", "js", f_dpo, .p = {.beta = 0.1, .divergence = DIVERGENCE_JS}, .q = {.p = 1}),
    SETTING("dpo", "alpha", f_dpo, .p = {.beta = 0.1, .divergence = DIVERGENCE_ALPHA, .f_alpha = 0.5}, .q = {.p = 1}, .most = 160),
    SETTING("kto", "one of each", kto, .p = {.beta = 0.1}),
    SETTING("apo-zero-unpaired", "one of each", kto, .p = {.beta = 0.1}),
    SETTING("bco-unpaired", "one of each", bco, .p = {.beta = 0.1}, .cancels = true),
    SETTING("aot-unpaired", "one of each", dpo, .p = {.beta = 0.1}, .q = {.p = 1}),
};
enum { SETTINGS = sizeof settings / sizeof *settings };

static double run(const struct setting *s, const struct point *x, double *coef)
{
    double logp[2] = {x->l[0], x->l[1]}, ref[2] = {x->r[0], x->r[1]}, rewards[2] = {1, 0}, rate[2] = {win_rate[0], win_rate[1]}, init[2] = {first_logp[0], first_logp[1]};
    int32_t n_tok[2] = {x->n[0], x->n[1]}, group[2] = {0, 0};
    enum source source[2] = {SOURCE_POLICY, SOURCE_POLICY};
    enum verdict verdict[2] = {VERDICT_DESIRABLE, VERDICT_UNDESIRABLE};
    struct ranked rank[2];
    struct pair pair = s->q;
    struct objective_params p = s->p;
    p.desirable_weight = p.undesirable_weight = 1;
    pair.win = 0;
    pair.lose = 1;
    pair.weight = 1;
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS | COL_REWARD | COL_WIN_RATE | COL_LOGP_INIT | COL_SHIFT | COL_VERDICT | COL_MISMATCH, .n = 2, .n_tok = n_tok, .group = group,
                      .source = source, .logp = logp, .logp_ref = ref, .logp_init = init, .win_rate = rate, .reward = rewards, .verdict = verdict, .shift = shift, .rank = rank, .n_pair = 1, .pair = &pair, .coef = coef};
    struct objective_stats stats = {0};
    objective_eval(objective_find(s->objective), &p, &b, strcmp(s->objective, "aot-unpaired") ? 1 : 0.5, &stats); // its scale is of the two rows
    return stats.loss;
}

static void exact_to_the_far_ends(void **state)
{
    (void)state;
    static struct point at[MOST_POINTS];
    const int n = points(at);
    for (int i = 0; i < SETTINGS; i++)
        for (int k = 0; k < n; k++) {
            const struct setting *s = &settings[i];
            char name[80];
            long double slope[2];
            double coef[2];
            if (s->most > 0 && (fabs(at[k].l[0] - at[k].r[0]) >= s->most || fabs(at[k].l[1] - at[k].r[1]) >= s->most)) continue;
            snprintf(name, sizeof name, "%s (%s)", s->objective, s->what);
            const long double loss = oracle_truth(s->loss, s, &at[k], slope);
            assert_exact(name, "the loss", &at[k], run(s, &at[k], coef), loss, s->cancels);
            assert_exact(name, "dL/dlw", &at[k], coef[0], slope[0], s->cancels);
            assert_exact(name, "dL/dll", &at[k], coef[1], slope[1], s->cancels);
        }
}

/* PP's coefficients, whose score part is no slope: -+ beta z s (1 - s) + H, and of a drawn label -+ beta (1 - s)(1 + F) - F, without a baseline. */
static void self_labels_far_out(void **state)
{
    (void)state;
    static struct point at[MOST_POINTS];
    const int n = points(at);
    for (int drawn = 0; drawn < 2; drawn++)
        for (int k = 0; k < n; k++) {
            const struct setting s = {.objective = "sail", .p = {.beta = 0.1, .pi = PI, .label = drawn ? LABEL_SAMPLED : LABEL_EXACT, .baseline = BASELINE_NONE}, .q = {.p = 1, .route = ROUTE_PP}};
            const long double z = BETA(&s) * ((long double)(at[k].l[0] - at[k].r[0]) - (at[k].l[1] - at[k].r[1])), F = -creall(soft(-z)), up = creall(logistic_of(z)), down = creall(logistic_of(-z));
            const long double H = up * -F + down * creall(soft(z)), pull = BETA(&s) * (drawn ? down * (1 + F) : z * up * down), score = drawn ? F : -H;
            double coef[2];
            assert_true(isfinite(run(&s, &at[k], coef)));
            assert_exact("sail (pp)", "dL/dlw", &at[k], coef[0], -pull - score, true);
            assert_exact("sail (pp)", "dL/dll", &at[k], coef[1], pull - score, true);
        }
}

/* Coefficients that are linear in what they read have no far end; every other objective is here or in extreme_test.c. */
static void no_objective_is_left_out(void **state)
{
    (void)state;
    static const char *const linear[] = {"sft", "nash-md", "nash-md-togo", "reinforce", "grpo", "grpo-kl", "two-level"};
    for (int i = 0; objective_at(i); i++) {
        const struct objective *o = objective_at(i);
        bool here = false;
        for (const struct objective *pairwise = objective_pairwise; pairwise->name; pairwise++) here |= o == pairwise;
        for (int k = 0; k < SETTINGS; k++) here |= !strcmp(settings[k].objective, o->name);
        for (size_t k = 0; k < sizeof linear / sizeof *linear; k++) here |= !strcmp(linear[k], o->name);
        if (!here) fail_msg("%s has no oracle", o->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exact_to_the_far_ends), cmocka_unit_test(self_labels_far_out), cmocka_unit_test(no_objective_is_left_out)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
