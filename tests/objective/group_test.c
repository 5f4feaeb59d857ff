/* Objectives on the judged answers of a prompt: every tuple of answers enumerated. REINFORCE and RLOO give the gradient of E[r] - beta KL with the sampler differentiated, whatever the
 * baseline; GRPO that of its surrogate with the advantages held constant, which without the division is (K - 1) / K of E[r]'s; listwise SAIL that of E[L] with the sampler differentiated. */
#include "objective/enumerate.h"

static const double beta = 0.7;

/* Calls back for every tuple of n answers of the policy at tree_theta, with its probability. */
typedef void each_tuple(const struct tree *t, const int *answer, int n, double weight, void *context);
static void tuples(const struct tree *t, int n, each_tuple *f, void *context)
{
    double logp[MAX_ANSWER];
    int total = 1;
    tree_all(t, tree_theta, logp);
    for (int i = 0; i < n; i++) total *= t->n_answer;
    for (int code = 0; code < total; code++) {
        int answer[MAX_ROWS], rest = code;
        double weight = 1;
        for (int i = 0; i < n; i++, rest /= t->n_answer) {
            answer[i] = rest % t->n_answer;
            weight *= exp(logp[answer[i]]);
        }
        f(t, answer, n, weight, context);
    }
}

struct update {
    const char *objective;
    const struct objective_params *p;
    int k; /* answers of a prompt */
    double g[MAX_PARAM];
};

static void add_update(const struct tree *t, const int *answer, int n, double weight, void *context)
{
    struct update *u = context;
    const struct objective *o = objective_find(u->objective);
    struct rows r;
    float logp[2 * MAX_ROWS], logp_ref[2 * MAX_ROWS], token_weight[2 * MAX_ROWS];
    int64_t token_at[MAX_ROWS], tokens = 0;
    rows_begin(&r);
    for (int i = 0; i < n; i++) {
        rows_add(&r, t, tree_theta, answer[i], i / u->k, SOURCE_POLICY);
        token_at[i] = tokens;
        for (int k = 0; k < tree_tokens(t, answer[i]); k++, tokens++) {
            logp[tokens] = (float)tree_token(t, tree_theta, answer[i], k, 0, NULL);
            logp_ref[tokens] = (float)tree_token(t, tree_ref, answer[i], k, 0, NULL);
            token_weight[tokens] = 1;
        }
    }
    r.b.token_at = token_at;
    r.b.token_logp = logp;
    r.b.token_logp_ref = logp_ref;
    r.b.token_weight = token_weight;
    r.b.written |= COL_TOKENS;
    struct objective_stats s = {0};
    objective_eval(o, u->p, &r.b, o->needs & TOKEN_MEAN ? 1.0 / (double)tokens : (double)u->k / n, &s);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < tree_tokens(t, answer[i]); k++) tree_token(t, tree_theta, answer[i], k, weight * r.coef[i] * token_weight[token_at[i] + k], u->g);
}

static double minus_reward_and_kl(const struct tree *t, const double *theta, const void *context)
{
    double sum = 0;
    const double tie = *(const double *)context;
    for (int y = 0; y < t->n_answer; y++) {
        const double logp = tree_logp(t, theta, y, 0, NULL);
        sum -= exp(logp) * (tree_reward[y] - tie * (logp - tree_logp(t, tree_ref, y, 0, NULL)));
    }
    return sum;
}

static void reinforce_is_the_gradient(void **state)
{
    (void)state;
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_NUMBER, BASELINE_BATCH, BASELINE_LOO};
    for (int tree = 0; tree < 2; tree++)
        for (int k = 0; k < 4; k++) {
            const struct objective_params p = {.beta = beta, .baseline = baselines[k], .baseline_value = -1.3};
            struct update u = {.objective = "reinforce", .p = &p, .k = 2};
            double want[MAX_PARAM];
            tree_differences(&trees[tree], minus_reward_and_kl, &beta, want);
            tuples(&trees[tree], 4, add_update, &u); // two prompts, two answers
            assert_same_gradient(&trees[tree], "reinforce", u.g, want);
        }
    const struct objective_params p = {.beta = beta, .baseline = BASELINE_LOO};
    struct update u = {.objective = "reinforce", .p = &p, .k = 3};
    double want[MAX_PARAM];
    tree_differences(&trees[1], minus_reward_and_kl, &beta, want);
    tuples(&trees[1], 3, add_update, &u);
    assert_same_gradient(&trees[1], "rloo, three answers", u.g, want);
}

struct surrogate {
    const double *theta;
    bool scaled;
    double tie, sum;
};

/* E over the policy at tree_theta of [-sum_k A_k log pi_theta(y_k) + tie sum_t k3(x_t)] / tokens */
static void add_surrogate(const struct tree *t, const int *answer, int n, double weight, void *context)
{
    struct surrogate *q = context;
    double m = 0, squares = 0, tokens = 0, sum = 0;
    for (int i = 0; i < n; i++) m += tree_reward[answer[i]] / n;
    for (int i = 0; i < n; i++) squares += (tree_reward[answer[i]] - m) * (tree_reward[answer[i]] - m);
    for (int i = 0; i < n; i++) {
        const double A = (tree_reward[answer[i]] - m) / (q->scaled ? sqrt(squares / (n - 1)) + 1e-4 : 1);
        for (int k = 0; k < tree_tokens(t, answer[i]); k++, tokens++) {
            const double lp = tree_token(t, q->theta, answer[i], k, 0, NULL), x = lp - tree_token(t, tree_ref, answer[i], k, 0, NULL);
            sum += -A * lp + q->tie * (exp(-x) + x - 1);
        }
    }
    q->sum += weight * sum / tokens;
}

static double surrogate(const struct tree *t, const double *theta, const void *context)
{
    struct surrogate q = *(const struct surrogate *)context;
    q.theta = theta;
    tuples(t, 3, add_surrogate, &q);
    return q.sum;
}

static void grpo_is_the_gradient_of_its_surrogate(void **state)
{
    (void)state;
    for (int tree = 0; tree < 2; tree++)
        for (int k = 0; k < 4; k++) {
            const struct surrogate q = {.scaled = k & 1, .tie = k & 2 ? beta : 0};
            const struct objective_params p = {.beta = q.tie, .scale_rewards = q.scaled};
            struct update u = {.objective = k & 2 ? "grpo-kl" : "grpo", .p = &p, .k = 3};
            double want[MAX_PARAM];
            tree_differences(&trees[tree], surrogate, &q, want);
            tuples(&trees[tree], 3, add_update, &u);
            for (int i = 0; k & 2 && i < trees[tree].n_param; i++) { // token log-probs and weights are f32
                assert_near(u.g[i], want[i], 2e-7, 0);
                u.g[i] = want[i];
            }
            assert_same_gradient(&trees[tree], "grpo", u.g, want);
        }
}

static void grpo_without_division_is_the_reward_gradient(void **state)
{
    (void)state;
    const double none = 0;
    const struct objective_params p = {.scale_rewards = false};
    struct update u = {.objective = "grpo", .p = &p, .k = 3};
    double want[MAX_PARAM];
    tree_differences(&trees[0], minus_reward_and_kl, &none, want);
    for (int i = 0; i < trees[0].n_param; i++) want[i] *= 2.0 / 3;
    tuples(&trees[0], 3, add_update, &u);
    assert_same_gradient(&trees[0], "grpo, rewards as they are", u.g, want);
}

/* L from its definition: the worst of all rankings, tried one by one, is the one that the objective takes. */
enum { K = 3 };
static double pl(const double *g, const int *order)
{
    double sum = 0;
    for (int i = 0; i < K; i++) {
        double rest = 0;
        for (int j = i; j < K; j++) rest += exp(g[order[j]] - g[order[i]]);
        sum += log(rest);
    }
    return sum;
}

static double list_loss(const double *g, const int *answer, double rho)
{
    static const int orders[6][K] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    double worst = 0, ranked = 0;
    for (int k = 5; k >= 0; k--) { // the first of equals stays
        const int *o = orders[k];
        worst = fmax(worst, pl(g, o));
        bool fits = true;
        for (int i = 0; i + 1 < K; i++) {
            const double a = tree_reward[answer[o[i]]], b = tree_reward[answer[o[i + 1]]];
            fits &= a > b || (a == b && o[i] < o[i + 1]);
        }
        if (fits) ranked = pl(g, o);
    }
    return (1 - rho) * ranked + rho * worst;
}

static double expected_list_loss(const struct tree *t, const double *theta, const void *context)
{
    const double rho = *(const double *)context;
    double sum = 0, logp[MAX_ANSWER];
    tree_all(t, theta, logp);
    for (int code = 0; code < t->n_answer * t->n_answer * t->n_answer; code++) {
        const int answer[K] = {code % t->n_answer, code / t->n_answer % t->n_answer, code / t->n_answer / t->n_answer};
        double g[K], weight = 1;
        for (int k = 0; k < K; k++) {
            g[k] = beta * (logp[answer[k]] - tree_logp(t, tree_ref, answer[k], 0, NULL));
            weight *= exp(logp[answer[k]]);
        }
        sum += weight * list_loss(g, answer, rho);
    }
    return sum;
}

static void listwise_is_the_gradient(void **state)
{
    (void)state;
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_LOG2, BASELINE_NUMBER};
    for (int tree = 0; tree < 2; tree++)
        for (int k = 0; k < 6; k++) {
            const double rho = k % 2 ? 0.2 : 0;
            const struct objective_params p = {.beta = beta, .gamma = 1, .robust_rho = rho, .baseline = baselines[k / 2], .baseline_value = -1.3};
            struct update u = {.objective = "listwise", .p = &p, .k = K};
            double want[MAX_PARAM];
            tree_differences(&trees[tree], expected_list_loss, &rho, want);
            tuples(&trees[tree], K, add_update, &u);
            assert_same_gradient(&trees[tree], "listwise", u.g, want);
        }
}

/* A baseline over the batch's other groups changes the mean by nothing: two prompts, two answers each. */
static void listwise_baselines_change_no_mean(void **state)
{
    (void)state;
    static const enum baseline baselines[] = {BASELINE_NONE, BASELINE_BATCH, BASELINE_LOO};
    struct update u[3];
    for (int k = 0; k < 3; k++) {
        const struct objective_params p = {.beta = beta, .gamma = 1, .robust_rho = 0.2, .baseline = baselines[k]};
        u[k] = (struct update){.objective = "listwise", .p = &p, .k = 2};
        tuples(&trees[0], 4, add_update, &u[k]);
        assert_same_gradient(&trees[0], "listwise, baselines", u[k].g, u[0].g);
    }
}

/* Two answers: -log s(z) + rho max(z, 0). */
static void a_list_of_two_is_a_pair(void **state)
{
    (void)state;
    for (int a = 0; a < 7; a++)
        for (int b = 0; b < 7; b++) {
            if (a == b) continue;
            const struct objective_params p = {.beta = beta, .robust_rho = 0.2};
            struct rows r;
            rows_begin(&r);
            rows_add(&r, &trees[1], tree_theta, a, 0, SOURCE_POLICY);
            rows_add(&r, &trees[1], tree_theta, b, 0, SOURCE_POLICY);
            struct objective_stats s = {0};
            objective_eval(objective_find("listwise"), &p, &r.b, 1, &s);
            const double side = tree_reward[a] > tree_reward[b] ? 1 : -1, z = side * beta * ((r.logp[0] - r.logp_ref[0]) - (r.logp[1] - r.logp_ref[1]));
            assert_near(s.loss, -log_sigmoid(z) + 0.2 * fmax(z, 0), 1e-13, 0);
            assert_near(r.coef[0], side * beta * (-sigmoid(-z) + 0.2 * (z > 0)), 1e-13, 0);
            assert_near(r.coef[0] + r.coef[1], 0, 1e-14, 0);
        }
}

/* What may be computed slice by slice: groups, unless a baseline looks beyond them. */
static void baselines_couple_what_they_look_at(void **state)
{
    (void)state;
    static const struct {
        const char *objective;
        enum baseline baseline;
        enum coupling coupling;
    } want[] = {{"reinforce", BASELINE_LOO, COUPLE_GROUP}, {"reinforce", BASELINE_BATCH, COUPLE_BATCH}, {"reinforce", BASELINE_NONE, COUPLE_GROUP}, {"listwise", BASELINE_LOO, COUPLE_BATCH},
                {"listwise", BASELINE_LOG2, COUPLE_GROUP}, {"sail", BASELINE_LOO, COUPLE_BATCH}, {"sail", BASELINE_LOG2, COUPLE_PAIR}, {"grpo", BASELINE_LOO, COUPLE_GROUP}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct objective_params p = {.baseline = want[i].baseline};
        assert_int_equal(objective_coupling(objective_find(want[i].objective), &p), want[i].coupling);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reinforce_is_the_gradient),
        cmocka_unit_test(grpo_is_the_gradient_of_its_surrogate),
        cmocka_unit_test(grpo_without_division_is_the_reward_gradient),
        cmocka_unit_test(listwise_is_the_gradient),
        cmocka_unit_test(listwise_baselines_change_no_mean),
        cmocka_unit_test(a_list_of_two_is_a_pair),
        cmocka_unit_test(baselines_couple_what_they_look_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
