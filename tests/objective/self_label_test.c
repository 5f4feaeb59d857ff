/* K answers of a prompt and the pairs that are made of them: as the policy itself has labelled them (DICE, OSP, PFPO, pDPO), as rewards or points have (iterative DPO, DNO, Self-Rewarding). Sampler and labels
 * frozen, the mean update is the gradient of the expected loss. */
#include "objective/enumerate.h"

static const double tree_base[MAX_PARAM] = {-0.2, 0.5, 0.3, -0.6, 0.1, 0.4, 0.2, -0.1, 0.7};
static const double beta = 0.4;

enum { K = 3 };
struct label {
    int win, lose; /* of the K answers */
    double p;
};
struct method {
    const char *name, *objective, *weights;
    const double *sampler; /* whose answers */
    double offline;        /* share of the data's pair */
    int (*label)(const struct tree *t, const int *answer, struct label *out);
    double (*loss)(const struct tree *t, const double *theta, int win, int lose, double p);
};
struct context {
    const struct method *m;
};

static double implicit_reward(const struct tree *t, int y) { return tree_logp(t, tree_ref, y, 0, NULL) - tree_logp(t, tree_base, y, 0, NULL) - 0.3 * tree_tokens(t, y); }

static int best_against_worst(const struct tree *t, const int *answer, struct label *out)
{
    *out = (struct label){0, 0, 1};
    for (int k = 1; k < K; k++) {
        if (implicit_reward(t, answer[k]) > implicit_reward(t, answer[out->win])) out->win = k;
        if (implicit_reward(t, answer[k]) < implicit_reward(t, answer[out->lose])) out->lose = k;
    }
    return answer[out->win] != answer[out->lose];
}

/* Rewards of a labeler; equals are no pair. */
static int best_reward_against_worst(const struct tree *t, const int *answer, struct label *out)
{
    (void)t;
    *out = (struct label){0, 0, 1};
    for (int k = 1; k < K; k++) {
        if (tree_reward[answer[k]] > tree_reward[answer[out->win]]) out->win = k;
        if (tree_reward[answer[k]] < tree_reward[answer[out->lose]]) out->lose = k;
    }
    return tree_reward[answer[out->win]] != tree_reward[answer[out->lose]];
}

/* DNO: whatever is far enough apart and won with enough. */
static int far_apart(const struct tree *t, const int *answer, struct label *out)
{
    int n = 0;
    (void)t;
    for (int x = 0; x < K; x++)
        for (int y = 0; y < K; y++)
            if (tree_reward[answer[x]] >= 0.6 && tree_reward[answer[x]] - tree_reward[answer[y]] >= 0.5) out[n++] = (struct label){x, y, 1};
    return n;
}

/* A judge whose preferences go in circles: no rewards give them. */
static int every_duel(const struct tree *t, const int *answer, struct label *out)
{
    int n = 0;
    (void)t;
    for (int x = 0; x < K; x++)
        for (int y = x + 1; y < K; y++) out[n++] = (struct label){x, y, sigmoid(sin(2.0 * (answer[x] - answer[y])))};
    return n;
}

/* Answers that are equal modulo 3 count as the same final answer; two of three are the majority. */
static int right_against_wrong(const struct tree *t, const int *answer, struct label *out)
{
    int n = 0;
    (void)t;
    for (int x = 0; x < K; x++) {
        const int y = (x + 1) % K, z = (x + 2) % K;
        if (answer[x] % 3 != answer[y] % 3 || answer[x] % 3 == answer[z] % 3) continue;
        out[n++] = (struct label){x, z, 1};
        out[n++] = (struct label){y, z, 1};
    }
    return n;
}

/* pDPO: beginnings whose endings were all right against those whose endings were all wrong. */
static int always_against_never(const struct tree *t, const int *answer, struct label *out)
{
    static const double value[MAX_ANSWER] = {1, 0, 1 / 3.0, 1, 0, 0, 2 / 3.0};
    int n = 0;
    (void)t;
    for (int x = 0; x < K; x++)
        for (int y = 0; y < K; y++)
            if (value[answer[x]] == 1 && value[answer[y]] == 0) out[n++] = (struct label){x, y, 1};
    return n;
}

static double soft_dpo(const struct tree *t, const double *theta, int win, int lose, double p)
{
    const double h = tree_logp(t, theta, win, 0, NULL) - tree_logp(t, tree_ref, win, 0, NULL) - tree_logp(t, theta, lose, 0, NULL) + tree_logp(t, tree_ref, lose, 0, NULL);
    return p * log1p(exp(-beta * h)) + (1 - p) * log1p(exp(beta * h));
}

static double dpo_and_likelihood(const struct tree *t, const double *theta, int win, int lose, double p)
{
    return soft_dpo(t, theta, win, lose, p) - 0.2 * tree_logp(t, theta, win, 0, NULL) / tree_tokens(t, win);
}

static const struct method methods[] = {
    {"iterative dpo", "sail", NULL, tree_theta, 0, best_reward_against_worst, soft_dpo},
    {"self-rewarding", "dpo", NULL, tree_ref, 0, best_reward_against_worst, soft_dpo},
    {"dno", "dpo", NULL, tree_ref, 0, far_apart, soft_dpo},
    {"dice", "dpo", NULL, tree_ref, 0.5, best_against_worst, soft_dpo},
    {"osp", "dpo", NULL, tree_theta, 0, every_duel, soft_dpo},
    {"pfpo", "dpo,sft-mean", "1,0.2", tree_theta, 0, right_against_wrong, dpo_and_likelihood},
    {"pdpo", "dpo,sft-mean", "1,0.2", tree_theta, 0, always_against_never, dpo_and_likelihood},
};
enum { METHODS = sizeof methods / sizeof *methods };

static bool group_of(const struct method *m, const struct tree *t, int code, int *answer, double *weight)
{
    *weight = 1 - m->offline;
    for (int k = 0; k < K; k++, code /= t->n_answer) {
        answer[k] = code % t->n_answer;
        *weight *= exp(tree_logp(t, m->sampler, answer[k], 0, NULL));
    }
    return code == 0;
}

enum { DATA_WIN = 2, DATA_LOSE = 1 };

static double expected_loss(const struct tree *t, const double *theta, const void *context)
{
    const struct method *m = ((const struct context *)context)->m;
    double sum = m->offline * m->loss(t, theta, DATA_WIN, DATA_LOSE, 1), weight;
    int answer[K];
    struct label label[K * K];
    for (int code = 0; group_of(m, t, code, answer, &weight); code++) {
        const int n = m->label(t, answer, label);
        for (int k = 0; k < n; k++) sum += weight / n * m->loss(t, theta, answer[label[k].win], answer[label[k].lose], label[k].p);
    }
    return sum;
}

static void update(const struct method *m, const struct tree *t, const int *answer, int n_answer, enum source source, const struct label *label, int n, double weight, double *g)
{
    struct objective_params p = {.beta = beta};
    struct rows r;
    const struct objective *o = m->weights ? &objective_sum : objective_find(m->objective);
    if (m->weights) assert_ok(objective_sum_parse(&p.sum, m->objective, m->weights, err));
    rows_begin(&r);
    for (int k = 0; k < n_answer; k++) rows_add(&r, t, tree_theta, answer[k], 0, source);
    for (int k = 0; k < n; k++) rows_pair(&r, (struct pair){.win = label[k].win, .lose = label[k].lose, .p = label[k].p, .route = ROUTE_PR});
    if (n) rows_update(&r, t, tree_theta, o, &p, 1.0 / n, weight, g);
}

static void the_mean_update_is_the_gradient(void **state)
{
    (void)state;
    for (int k = 0; k < 2 * METHODS; k++) {
        const struct method *m = &methods[k / 2];
        const struct tree *t = &trees[k % 2];
        const int data[2] = {DATA_WIN, DATA_LOSE};
        double want[MAX_PARAM], got[MAX_PARAM] = {0}, weight;
        int answer[K];
        struct label label[K * K];
        tree_differences(t, expected_loss, &(struct context){m}, want);
        update(m, t, data, 2, SOURCE_DATASET, &(struct label){0, 1, 1}, 1, m->offline, got);
        for (int code = 0; group_of(m, t, code, answer, &weight); code++) {
            const int n = m->label(t, answer, label);
            update(m, t, answer, K, m->sampler == tree_ref ? SOURCE_REFERENCE : SOURCE_POLICY, label, n, weight, got);
        }
        assert_same_gradient(t, m->name, got, want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_mean_update_is_the_gradient)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
