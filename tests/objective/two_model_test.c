/* Methods whose answers come from two models' logits: on policies with every answer enumerated, the mean update is the gradient of what the paper maximises with what it freezes
 * held constant; and where and how fast they stop, on games that no reward explains. */
#include "objective/enumerate.h"
#include "objective/game.h"

static double bradley_terry(int i, int j) { return sigmoid(tree_reward[i] - tree_reward[j]); }
/* Answers go round in threes, each beating the next. */
static double cyclic(int i, int j)
{
    static const double odds[3] = {0, 1.3, -1.3};
    return sigmoid(odds[(j - i + 21) % 3] + 0.2 * ((i < j) - (i > j)));
}

/* log-probs of answers drawn token by token from softmax(w policy + v reference). A tree's parameters are its logits. */
static void blended(const struct tree *t, const double *theta, double w, double v, double *logp)
{
    double mixed[MAX_PARAM];
    for (int k = 0; k < t->n_param; k++) mixed[k] = w * theta[k] + v * tree_ref[k];
    tree_all(t, mixed, logp);
}

struct game {
    double (*p)(int, int);
    double tau, w, v;
};

/* IPO-MD: both answers from the blend at tree_theta, whatever theta is; p l(y, y') + (1 - p) l(y', y). */
static double ipo_md(const struct tree *t, const double *theta, const void *context)
{
    const struct game *o = context;
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER], drawn[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    blended(t, tree_theta, o->w, o->v, drawn);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++) {
            const double h = (logp[i] - ref[i]) - (logp[j] - ref[j]), p = o->p(i, j), c = 1 / (2 * o->tau);
            sum += exp(drawn[i] + drawn[j]) * (p * (h - c) * (h - c) + (1 - p) * (-h - c) * (-h - c));
        }
    return sum;
}

/* Nash-MD: -E[P(y beats y')] + tau KL(pi || ref), y from theta itself, y' from the blend at tree_theta. */
static double nash_md(const struct tree *t, const double *theta, const void *context)
{
    const struct game *o = context;
    double sum = 0, logp[MAX_ANSWER], ref[MAX_ANSWER], drawn[MAX_ANSWER];
    tree_all(t, theta, logp);
    tree_all(t, tree_ref, ref);
    blended(t, tree_theta, o->w, o->v, drawn);
    for (int i = 0; i < t->n_answer; i++) {
        sum += exp(logp[i]) * o->tau * (logp[i] - ref[i]);
        for (int j = 0; j < t->n_answer; j++) sum -= exp(logp[i] + drawn[j]) * o->p(i, j);
    }
    return sum;
}

/* Columns of tokens beside the rows. */
struct tokens {
    const unsigned char *counted[MAX_ROWS]; /* all of every answer */
    int64_t at[MAX_ROWS];
    float logp[2 * MAX_ROWS], ref[2 * MAX_ROWS], weight[2 * MAX_ROWS];
};

static void lay_tokens(struct rows *r, struct tokens *k, const struct tree *t, const double *theta)
{
    struct batch *b = &r->b;
    memset(k->counted, 0, sizeof k->counted);
    b->counted = k->counted;
    b->token_at = k->at;
    b->token_logp = k->logp;
    b->token_logp_ref = k->ref;
    b->token_weight = k->weight;
    b->token_capacity = 2 * MAX_ROWS;
    b->written |= COL_TOKENS;
    batch_lay_tokens(b);
    for (int i = 0; i < b->n; i++)
        for (int n = 0; n < r->n_tok[i]; n++) {
            k->logp[k->at[i] + n] = (float)tree_token(t, theta, r->answer[i], n, 0, NULL);
            k->ref[k->at[i] + n] = (float)tree_token(t, tree_ref, r->answer[i], n, 0, NULL);
        }
}

/* g += weight * sum over rows and tokens of coef * token weight * grad log pi(token), as the engine's backward pass has it. */
static void token_update(struct rows *r, const struct tree *t, const double *theta, const char *name, const struct objective_params *p, double weight, double *g)
{
    struct objective_stats stats = {0};
    struct tokens k;
    lay_tokens(r, &k, t, theta);
    objective_eval(objective_find(name), p, &r->b, 1, &stats);
    for (int i = 0; i < r->b.n; i++)
        for (int n = 0; n < r->n_tok[i]; n++) tree_token(t, theta, r->answer[i], n, weight * r->coef[i] * k.weight[k.at[i] + n], g);
}

/* E[update]; first: y is drawn from the policy, else from the blend as y' is. soft: p on the pair, else a drawn label. */
static void mean_update(const struct tree *t, const char *name, const struct game *o, bool first, bool soft, double *g)
{
    const struct objective_params p = {.beta = o->tau};
    double policy[MAX_ANSWER], drawn[MAX_ANSWER];
    memset(g, 0, MAX_PARAM * sizeof *g);
    tree_all(t, tree_theta, policy);
    blended(t, tree_theta, o->w, o->v, drawn);
    for (int i = 0; i < t->n_answer; i++)
        for (int j = 0; j < t->n_answer; j++)
            for (int side = 0; side < (soft ? 1 : 2); side++) {
                struct rows r;
                rows_begin(&r);
                const int a = rows_add(&r, t, tree_theta, i, 0, first ? SOURCE_POLICY : SOURCE_MIXTURE), b = rows_add(&r, t, tree_theta, j, 0, SOURCE_MIXTURE);
                const double wins = o->p(i, j), weight = exp((first ? policy[i] : drawn[i]) + drawn[j]) * (soft ? 1 : side ? 1 - wins : wins);
                rows_pair(&r, (struct pair){.win = side ? b : a, .lose = side ? a : b, .route = ROUTE_PR, .p = soft ? wins : 1});
                token_update(&r, t, tree_theta, name, &p, weight, g);
            }
}

static const double weights[][2] = {{0.875, 0.125}, {1.5, -0.5}, {0, 1}, {1, 0}};
enum { N_WEIGHTS = sizeof weights / sizeof *weights };

static void ipo_md_is_the_gradient(void **state)
{
    (void)state;
    for (int c = 0; c < 2 * N_WEIGHTS * 4; c++) {
        const struct tree *t = &trees[c % 2];
        const double *w = weights[c / 2 % N_WEIGHTS];
        const struct game o = {c / 8 % 2 ? cyclic : bradley_terry, 0.35, w[0], w[1]};
        double want[MAX_PARAM], got[MAX_PARAM];
        tree_differences(t, ipo_md, &o, want);
        mean_update(t, "ipo", &o, false, c / 16 % 2, got);
        assert_same_gradient(t, "ipo-md", got, want);
    }
}

/* Rewards-to-go are formed from f32 token log-probs: 1e-6 there. */
static void assert_close(const struct tree *t, const char *what, const double *got, const double *want)
{
    double size = 0, off = 0;
    for (int k = 0; k < t->n_param; k++) {
        size = fmax(size, fabs(want[k]));
        off = fmax(off, fabs(got[k] - want[k]));
    }
    if (!(size > 1e-3) || !(off < 1e-6 * size)) fail_msg("%s, %s: the mean update is off by %.3g of %.3g", what, t->name, off, size);
}

static void nash_md_is_the_gradient(void **state)
{
    (void)state;
    for (int c = 0; c < 2 * N_WEIGHTS * 4; c++) {
        const struct tree *t = &trees[c % 2];
        const double *w = weights[c / 2 % N_WEIGHTS];
        const struct game o = {c / 8 % 2 ? cyclic : bradley_terry, c / 16 % 2 ? 0.008 : 0.4, w[0], w[1]};
        double want[MAX_PARAM], got[MAX_PARAM];
        tree_differences(t, nash_md, &o, want);
        mean_update(t, "nash-md", &o, true, true, got);
        assert_same_gradient(t, "nash-md", got, want);
        mean_update(t, "nash-md-togo", &o, true, true, got);
        assert_close(t, "nash-md-togo", got, want);
    }
}

/* What a common trainer has: each token answers for its own KL only. Right for one token; on two it is another gradient. */
static void token_local_kl_is_not(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++) {
        const struct tree *t = &trees[tree];
        const struct game o = {bradley_terry, 0.4, 0.875, 0.125};
        double want[MAX_PARAM], got[MAX_PARAM] = {0}, policy[MAX_ANSWER], drawn[MAX_ANSWER], size = 0, off = 0;
        tree_differences(t, nash_md, &o, want);
        tree_all(t, tree_theta, policy);
        blended(t, tree_theta, o.w, o.v, drawn);
        for (int i = 0; i < t->n_answer; i++)
            for (int j = 0; j < t->n_answer; j++)
                for (int n = 0; n < tree_tokens(t, i); n++) {
                    const double local = tree_token(t, tree_theta, i, n, 0, NULL) - tree_token(t, tree_ref, i, n, 0, NULL);
                    tree_token(t, tree_theta, i, n, -exp(policy[i] + drawn[j]) * (o.p(i, j) - 0.5 - o.tau * local), got);
                }
        for (int k = 0; k < t->n_param; k++) {
            size = fmax(size, fabs(want[k]));
            off = fmax(off, fabs(got[k] - want[k]));
        }
        assert_true(t->two_tokens ? off > 0.1 * size : off < 1e-8 * size);
    }
}

/* Coefficients of one pair of answers at logits' log-probs logp. */
static void pair_coef(const char *name, double beta, const double *logp, int i, int j, struct pair q, double *coef)
{
    double lr[N], ref[2], lp[2] = {logp[i], logp[j]};
    int32_t one[2] = {1, 1};
    log_softmax(lr, start);
    ref[0] = lr[i];
    ref[1] = lr[j];
    q.win = 0;
    q.lose = 1;
    q.weight = 1;
    const struct objective_params p = {.beta = beta};
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = one, .logp = lp, .logp_ref = ref, .n_pair = 1, .pair = &q, .coef = coef};
    struct objective_stats s = {0};
    objective_eval(objective_find(name), &p, &b, 1, &s);
}

/* Gradient of the logits with pairs drawn independently from u and v (log-probs). Returns its largest component. */
static double tabular_gradient(const char *name, double beta, const double *logp, const double *u, const double *v, double *g)
{
    double largest = 0;
    for (int k = 0; k < N; k++) g[k] = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double coef[2];
            pair_coef(name, beta, logp, i, j, (struct pair){.p = cycle[i][j]}, coef);
            for (int k = 0; k < N; k++) g[k] += exp(u[i] + v[j]) * (coef[0] * ((k == i) - exp(logp[k])) + coef[1] * ((k == j) - exp(logp[k])));
        }
    for (int k = 0; k < N; k++) largest = fmax(largest, fabs(g[k]));
    return largest;
}

/* Answers from pi^(1-a) ref^a: IPO-MD and Nash-MD stop at one policy, whose mixture is the Nash policy of temperature tau / (1 - a); gradient descent finds it. */
static void ipo_md_and_nash_md_stop_at_one_policy(void **state)
{
    (void)state;
    static const double taus[] = {0.5, 0.1}, shares[] = {0, 0.125, 0.5};
    for (int c = 0; c < 6; c++) {
        const double tau = taus[c % 2], a = shares[c / 2];
        double ref[N], mixed[N], pi[N], t[N], g[N];
        log_softmax(ref, start);
        nash(tau / (1 - a), mixed);
        for (int i = 0; i < N; i++) t[i] = (mixed[i] - a * ref[i]) / (1 - a);
        log_softmax(pi, t);
        assert_true(tabular_gradient("ipo", tau, pi, mixed, mixed, g) < 1e-12);
        assert_true(tabular_gradient("nash-md", tau, pi, pi, mixed, g) < 1e-12);
        static const char *const names[] = {"ipo", "nash-md"};
        for (int m = 0; m < 2; m++) {
            double logp[N], drawn[N];
            memcpy(t, start, sizeof t);
            for (int step = 0; step < 20000; step++) {
                log_softmax(logp, t);
                for (int i = 0; i < N; i++) drawn[i] = (1 - a) * logp[i] + a * ref[i];
                log_softmax(drawn, drawn);
                tabular_gradient(names[m], tau, logp, m ? logp : drawn, drawn, g);
                for (int k = 0; k < N; k++) t[k] -= (m ? 1 : 0.2 * tau) * g[k];
            }
            log_softmax(logp, t);
            if (!(fabs(kl(pi, logp)) < 1e-13)) fail_msg("%s, tau %g, share %g: KL %.3g from the fixed point", names[m], tau, a, kl(pi, logp));
        }
    }
}

/* The paper's mirror step, pi' = mixture exp(eta P(. beats mixture)) / z with the mixture pi^(1 - eta tau) ref^(eta tau), from the coefficients: the regularised
 * advantage is minus the coefficient on y, and log pi - log ref is in it. */
static double nash_md_run(double tau, double share, int steps)
{
    double t[N], ref[N], goal[N], logp[N];
    log_softmax(ref, start);
    nash(tau, goal);
    memcpy(t, start, sizeof t);
    for (int step = 0; step < steps; step++) {
        const double s = share > 0 ? share : fmin(1, 2.0 / (step + 2)); // 0: eta = 2 / (tau (t + 2))
        double drawn[N], next[N];
        log_softmax(logp, t);
        for (int i = 0; i < N; i++) drawn[i] = (1 - s) * logp[i] + s * ref[i];
        log_softmax(drawn, drawn);
        for (int i = 0; i < N; i++) {
            double gain = 0;
            for (int j = 0; j < N; j++) {
                double coef[2];
                pair_coef("nash-md", tau, logp, i, j, (struct pair){.p = cycle[i][j]}, coef);
                gain -= exp(drawn[j]) * coef[0];
            }
            next[i] = t[i] + s / tau * gain;
        }
        memcpy(t, next, sizeof t);
    }
    log_softmax(logp, t);
    return kl(goal, logp);
}

/* A constant step stops beside the Nash policy, the farther the larger it is; the paper's eta_t removes that, KL as 1/t^2. */
static void nash_md_needs_falling_steps(void **state)
{
    (void)state;
    const double small = nash_md_run(0.5, 0.05, 5000), larger = nash_md_run(0.5, 0.1, 5000), large = nash_md_run(0.5, 0.9, 5000);
    assert_near(small, 2.41e-6, 0, 0.01);
    assert_near(large, 8.88e-4, 0, 0.01);
    assert_near(larger / small, 4, 0, 0.15);
    double last = 1;
    for (int steps = 100; steps <= 10000; steps *= 10) {
        const double now = nash_md_run(0.5, 0, steps);
        assert_true(now < 0.02 * last);
        last = now;
    }
    assert_true(last < 2e-10 && nash_md_run(0.1, 0, 10000) < 2e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ipo_md_is_the_gradient),
        cmocka_unit_test(nash_md_is_the_gradient),
        cmocka_unit_test(token_local_kl_is_not),
        cmocka_unit_test(ipo_md_and_nash_md_stop_at_one_policy),
        cmocka_unit_test(nash_md_needs_falling_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
