/* Answers drawn from the blended logits of two models: what the cached decoder says of them is what full forwards of both models say; weights (1, 0) are the
 * plain sampler to the bit; frequencies are the enumerated probabilities. */
#include "test.h"

#include <jansson.h>

#include "base/file.h"
#include "model/model.h"
#include "sample/sampler.h"

enum { PROMPTS = 3, LONGEST = 64, VOCAB = 256, NEW = 6 };

struct world {
    struct policy policy, reference; /* an adapter on the model, and the model without it, or another file */
    struct model *other;
    int32_t ids[PROMPTS][LONGEST];
    struct prompt prompt[PROMPTS];
};

static const char *golden(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), name);
    return path;
}

static void read_prompts(struct world *w, const char *name)
{
    char path[4300], *data, *rest;
    size_t n;
    snprintf(path, sizeof path, "%s/data.jsonl", golden(name));
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    int k = 0;
    for (char *line = strtok_r(data, "\n", &rest); line && k < PROMPTS; line = strtok_r(NULL, "\n", &rest), k++) {
        json_t *j = json_loads(line, 0, NULL), *ids = json_object_get(j, "prompt_ids");
        for (size_t i = 0; i < json_array_size(ids); i++) w->ids[k][i] = (int32_t)json_integer_value(json_array_get(ids, i));
        w->prompt[k] = (struct prompt){.ids = w->ids[k], .n = (int32_t)json_array_size(ids), .key = (uint64_t)k};
        json_decref(j);
    }
    assert_int_equal(k, PROMPTS);
    free(data);
}

/* A policy that has moved away from its reference. second: the reference is this file instead of the adapter's base. */
static void open_world(struct world *w, const char *name, const char *second)
{
    struct param *q;
    const struct model_options o = {.compute = DTYPE_F32, .backward = true, .micro_tokens = 8192};
    const struct lora_options lora = {.r = 3, .alpha = 6, .seed = 7};
    memset(w, 0, sizeof *w);
    read_prompts(w, name);
    assert_ok(model_open(&w->policy.model, golden(name), &o, err));
    assert_ok(adapter_create(&w->policy.adapter, w->policy.model, &lora, err));
    for (int64_t i = 0, n = policy_params(w->policy, &q); i < n; i++)
        for (int64_t k = 0; k < q[i].n; k++) q[i].value[k] += 0.08f * sinf((float)(7 * i + k));
    policy_params_changed(w->policy);
    if (second) assert_ok(model_open(&w->other, golden(second), &o, err));
    w->reference = (struct policy){.model = second ? w->other : w->policy.model};
    assert_true(model_facts(w->policy.model)->vocab <= VOCAB);
}

static void close_world(struct world *w)
{
    adapter_close(w->policy.adapter);
    model_close(w->policy.model);
    model_close(w->other);
}

static struct answer *draw(struct sampler **s, const struct world *w, const struct sampler_options *o)
{
    struct answer *y;
    if (!*s) assert_ok(sampler_create(s, w->policy.model, err));
    assert_ok(sampler_run(*s, w->policy, w->prompt, PROMPTS, o, &y, NULL, NULL, err));
    return y;
}

static const struct sampler_options plain = {.max_new_tokens = NEW, .temperature = 1, .top_p = 1, .n_return = 2, .n_slot = 4, .seed = 11, .ignore_eos = true};

static struct sampler_options blended(const struct world *w, double policy, double reference)
{
    struct sampler_options o = plain;
    o.blend = (struct blend){.with = w->reference, .policy = policy, .reference = reference, .support = 1};
    return o;
}

/* log pi(v | ids) for every token, by scoring every sequence of n + 1 tokens in full. */
static void next_logps(struct policy p, const int32_t *ids, int32_t n, double *logp)
{
    enum { MOST = 2 * LONGEST };
    static int32_t row[VOCAB][MOST];
    const int32_t *at[VOCAB];
    int32_t n_prompt[VOCAB], n_tok[VOCAB], group[VOCAB];
    const int V = (int)model_facts(p.model)->vocab;
    for (int v = 0; v < V; v++) {
        memcpy(row[v], ids, (size_t)n * sizeof *ids);
        row[v][n] = v;
        at[v] = row[v];
        n_prompt[v] = n;
        n_tok[v] = 1;
        group[v] = 0;
    }
    const struct sequences s = {.n = V, .ids = at, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};
    assert_ok(model_score(p, &s, logp, NULL, err));
}

/* The definition: log softmax of the weighted sum, over the policy's nucleus where there is a support. */
static void next_blended(const struct world *w, const struct blend *b, const int32_t *ids, int32_t n, double *logp, double *policy)
{
    double reference[VOCAB], z = 0, top = -INFINITY;
    const int V = (int)model_facts(w->policy.model)->vocab;
    next_logps(w->policy, ids, n, policy);
    next_logps(w->reference, ids, n, reference);
    for (int v = 0; v < V; v++) {
        double likelier = 0; // the mass of the tokens that come before v
        for (int u = 0; u < V; u++) likelier += policy[u] > policy[v] ? exp(policy[u]) : 0;
        logp[v] = likelier < b->support ? b->policy * policy[v] + b->reference * reference[v] : -INFINITY;
        top = fmax(top, logp[v]);
    }
    for (int v = 0; v < V; v++) z += exp(logp[v] - top);
    for (int v = 0; v < V; v++) logp[v] -= top + log(z);
}

static void normalise(double *logp, int V)
{
    double z = 0, top = -INFINITY;
    for (int v = 0; v < V; v++) top = fmax(top, logp[v]);
    for (int v = 0; v < V; v++) z += exp(logp[v] - top);
    for (int v = 0; v < V; v++) logp[v] -= top + log(z);
}

/* Number and mass of the tokens that are likelier than v. */
static double before(const double *logp, int V, int v, int *n)
{
    double mass = 0;
    *n = 0;
    for (int u = 0; u < V; u++) {
        if (logp[u] <= logp[v]) continue;
        mass += exp(logp[u]);
        ++*n;
    }
    return mass;
}

/* What temperature, then top-k, then top-p leave of a distribution. */
static void leave(double *logp, int V, const struct sampler_options *o)
{
    double kept[VOCAB];
    int n;
    for (int v = 0; v < V; v++) logp[v] /= o->temperature;
    normalise(logp, V);
    for (int step = 0; step < 2; step++) {
        for (int v = 0; v < V; v++) {
            const double mass = before(logp, V, v, &n);
            kept[v] = (step ? mass < o->top_p : !o->top_k || n < o->top_k) ? logp[v] : -INFINITY;
        }
        memcpy(logp, kept, (size_t)V * sizeof *logp);
        normalise(logp, V);
    }
}

static void check_answers(const struct world *w, const struct sampler_options *o, const struct answer *y)
{
    const int64_t turn = model_facts(w->policy.model)->rope_switch;
    for (int i = 0; i < PROMPTS * (int)o->n_return; i++) {
        int32_t ids[2 * LONGEST], n = w->prompt[y[i].i].n;
        double drawn[VOCAB], policy[VOCAB], total = 0, own = 0;
        memcpy(ids, w->prompt[y[i].i].ids, (size_t)n * sizeof *ids);
        assert_int_equal(y[i].n, NEW);
        for (int t = 0; t < NEW; t++) {
            total += y[i].token_drawn[t];
            own += y[i].token_logp[t];
            if (!turn || n != turn) { // a full sequence of n + 1 tokens turns otherwise than the n that were read
                next_blended(w, &o->blend, ids, n, drawn, policy);
                leave(drawn, (int)model_facts(w->policy.model)->vocab, o);
                assert_near(y[i].token_drawn[t], drawn[y[i].ids[t]], 1e-4, 0);
                assert_near(y[i].token_logp[t], policy[y[i].ids[t]], 5e-5, 0);
            }
            ids[n++] = y[i].ids[t];
        }
        assert_near(y[i].drawn, total, 1e-9, 0);
        assert_near(y[i].logp, own, 1e-9, 0);
    }
}

static void cached_is_the_full_forward(void **state)
{
    (void)state;
    static const char *const families[] = {"llama-gqa", "phi3-longrope", "gemma2", "gemma3", "gpt2", "gpt-neox", "olmo2", "smollm3"};
    static const double weights[][2] = {{0.875, 0.125}, {1.5, -0.5}, {0.5, 0.5}, {0, 1}, {-0.4, 2.1}};
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        struct world w;
        open_world(&w, families[f], NULL);
        struct sampler *s = NULL;
        for (size_t k = 0; k < sizeof weights / sizeof *weights; k++) {
            if (f > 1 && k != f % 5) continue; // every pair of weights on two families, one on each of the others
            const struct sampler_options o = blended(&w, weights[k][0], weights[k][1]);
            check_answers(&w, &o, draw(&s, &w, &o));
        }
        sampler_free(s);
        close_world(&w);
    }
}

static void two_files(void **state)
{
    (void)state;
    struct world w;
    struct sampler *s = NULL;
    open_world(&w, "llama-gqa", "llama-gqa/ref");
    struct sampler_options o = blended(&w, 1.5, -0.5);
    check_answers(&w, &o, draw(&s, &w, &o));
    o.blend.with = (struct policy){.model = w.policy.model}; // the second voice changes its model
    w.reference = o.blend.with;
    check_answers(&w, &o, draw(&s, &w, &o));
    sampler_free(s);
    close_world(&w);
}

static void another_vocabulary_is_refused(void **state)
{
    (void)state;
    struct world w;
    struct sampler *s;
    struct answer *y;
    sail_err refusal = {0};
    const struct model_options how = {.compute = DTYPE_F32};
    open_world(&w, "llama-gqa", NULL);
    assert_ok(model_open(&w.other, repo_path("examples/demo/stories260K"), &how, err));
    w.reference.model = w.other;
    const struct sampler_options o = blended(&w, 0.5, 0.5);
    assert_ok(sampler_create(&s, w.policy.model, err));
    assert_int_equal(sampler_run(s, w.policy, w.prompt, PROMPTS, &o, &y, NULL, NULL, &refusal), SAIL_FAILED);
    assert_non_null(strstr(refusal.message, "expected one vocabulary, got 128 and 512 ids"));
    sampler_free(s);
    close_world(&w);
}

/* Weights (1, 0) and a support of everything: ids and log-probs of the plain sampler, to the bit; (0, 1): the tokens that the reference alone would draw. */
static void weights_of_one_model_are_that_model(void **state)
{
    (void)state;
    struct world w;
    struct sampler *one = NULL, *two = NULL;
    open_world(&w, "llama-gqa", NULL);
    for (int warm = 0; warm < 2; warm++) {
        struct sampler_options a = plain;
        if (warm) a.temperature = 0.7, a.top_k = 20, a.top_p = 0.9;
        struct sampler_options b = a;
        b.blend = (struct blend){.with = w.reference, .policy = 1, .reference = 0, .support = 1};
        const struct answer *x = draw(&one, &w, &a), *y = draw(&two, &w, &b);
        for (int i = 0; i < PROMPTS * 2; i++) {
            assert_int_equal(x[i].n, y[i].n);
            assert_memory_equal(x[i].ids, y[i].ids, (size_t)x[i].n * sizeof *x[i].ids);
            assert_memory_equal(x[i].token_logp, y[i].token_logp, (size_t)x[i].n * sizeof(float));
            assert_memory_equal(x[i].token_drawn, y[i].token_drawn, (size_t)x[i].n * sizeof(float));
            if (!warm) assert_memory_equal(x[i].token_logp, x[i].token_drawn, (size_t)x[i].n * sizeof(float));
            assert_true(x[i].logp == y[i].logp && x[i].drawn == y[i].drawn && (x[i].logp == x[i].drawn) == !warm);
        }
        b.blend.policy = 0;
        b.blend.reference = 1;
        y = draw(&two, &w, &b);
        struct answer *z;
        assert_ok(sampler_run(one, w.reference, w.prompt, PROMPTS, &a, &z, NULL, NULL, err));
        for (int i = 0; i < PROMPTS * 2; i++) {
            assert_memory_equal(z[i].ids, y[i].ids, (size_t)z[i].n * sizeof *z[i].ids);
            assert_memory_equal(z[i].token_drawn, y[i].token_drawn, (size_t)z[i].n * sizeof(float));
        }
    }
    sampler_free(one);
    sampler_free(two);
    close_world(&w);
}

/* How many rows are decoded at once, and which call draws a return, change nothing. */
static void slots_and_calls_change_nothing(void **state)
{
    (void)state;
    struct world w;
    struct sampler *s = NULL, *t = NULL;
    open_world(&w, "llama-gqa", NULL);
    struct sampler_options o = blended(&w, 1.5, -0.5);
    const struct answer *y = draw(&s, &w, &o);
    o.n_slot = 1;
    o.n_return = 1;
    for (int k = 0; k < 2; k++) {
        o.first_return = k;
        const struct answer *z = draw(&t, &w, &o);
        for (int i = 0; i < PROMPTS; i++) {
            assert_int_equal(z[i].k, k);
            assert_memory_equal(y[2 * i + k].ids, z[i].ids, NEW * sizeof *z[i].ids);
            for (int n = 0; n < NEW; n++) assert_near(y[2 * i + k].token_drawn[n], z[i].token_drawn[n], 1e-5, 0);
        }
    }
    sampler_free(s);
    sampler_free(t);
    close_world(&w);
}

/* Temperature, top-k and top-p are in the log-prob of what was drawn from, of one model and of two; not in the policy's own. */
static void drawn_from_is_tempered_and_cut(void **state)
{
    (void)state;
    static const struct {
        double temperature, top_p;
        int64_t top_k;
    } how[] = {{0.7, 1, 0}, {1.6, 1, 0}, {1, 1, 20}, {1, 0.8, 0}, {0.6, 0.9, 30}, {2, 1, 10}};
    struct world w;
    struct sampler *s = NULL;
    open_world(&w, "llama-gqa", NULL);
    for (size_t k = 0; k < 2 * sizeof how / sizeof *how; k++) {
        struct sampler_options o = k % 2 ? blended(&w, 0.75, 0.25) : plain;
        o.temperature = how[k / 2].temperature;
        o.top_p = how[k / 2].top_p;
        o.top_k = how[k / 2].top_k;
        const struct answer *y = draw(&s, &w, &o);
        if (!(k % 2)) o.blend = (struct blend){.policy = 1, .support = 1, .with = w.reference}; // for the definition: the policy alone
        check_answers(&w, &o, y);
    }
    struct sampler_options o = plain;
    o.greedy = true;
    const struct answer *y = draw(&s, &w, &o);
    for (int i = 0; i < PROMPTS * 2; i++) assert_true(y[i].drawn == 0 && y[i].logp < 0);
    sampler_free(s);
    close_world(&w);
}

static void support_bounds_the_tail(void **state)
{
    (void)state;
    struct world w;
    struct sampler *s = NULL;
    open_world(&w, "llama-gqa", NULL);
    for (int k = 0; k < 2; k++) {
        struct sampler_options o = blended(&w, 2.5, -1.5);
        o.blend.support = k ? 0.9 : 0.5;
        const struct answer *y = draw(&s, &w, &o);
        check_answers(&w, &o, y); // the log-prob of a token outside would be minus infinity
        for (int i = 0; i < PROMPTS * 2; i++) assert_true(isfinite(y[i].drawn));
    }
    sampler_free(s);
    close_world(&w);
}

/* Two-token answers of one prompt against the probabilities of all of them: Pearson's statistic over bins of at least 8 expected draws, its
 * 1 - 1e-6 quantile by Wilson and Hilferty; and the plain policy's probabilities are rejected by the same statistic. */
static void frequencies_are_the_probabilities(void **state)
{
    (void)state;
    enum { CALLS = 3, DRAWS = 4096 };
    struct world w;
    struct sampler *s = NULL;
    open_world(&w, "llama-gqa", NULL);
    const int V = (int)model_facts(w.policy.model)->vocab;
    struct sampler_options o = blended(&w, 1.5, -0.5);
    o.max_new_tokens = 2;
    o.n_return = DRAWS;
    o.n_slot = 64;
    static double want[VOCAB * VOCAB], alone[VOCAB * VOCAB], got[VOCAB * VOCAB];
    memset(got, 0, sizeof got);
    double first[VOCAB], first_alone[VOCAB], next[VOCAB], next_alone[VOCAB];
    int32_t ids[LONGEST + 2], n = w.prompt[0].n;
    memcpy(ids, w.prompt[0].ids, (size_t)n * sizeof *ids);
    next_blended(&w, &o.blend, ids, n, first, first_alone);
    for (int a = 0; a < V; a++) {
        ids[n] = a;
        next_blended(&w, &o.blend, ids, n + 1, next, next_alone);
        for (int b = 0; b < V; b++) {
            want[a * V + b] = exp(first[a] + next[b]);
            alone[a * V + b] = exp(first_alone[a] + next_alone[b]);
        }
    }
    for (int call = 0; call < CALLS; call++) {
        struct answer *y;
        o.step = (uint64_t)call;
        if (!s) assert_ok(sampler_create(&s, w.policy.model, err));
        assert_ok(sampler_run(s, w.policy, w.prompt, 1, &o, &y, NULL, NULL, err));
        for (int k = 0; k < DRAWS; k++) got[y[k].ids[0] * V + y[k].ids[1]]++;
    }
    for (int which = 0; which < 2; which++) {
        const double *p = which ? alone : want;
        double statistic = 0, bins = 0, rest = 0, rest_got = 0;
        for (int c = 0; c < V * V; c++) {
            const double expected = CALLS * DRAWS * p[c];
            rest += expected; // rare answers share bins
            rest_got += got[c];
            if (rest < 8) continue;
            statistic += (rest_got - rest) * (rest_got - rest) / rest;
            bins++;
            rest = rest_got = 0;
        }
        const double d = bins - 1, h = 2 / (9 * d), quantile = d * pow(1 - h + 4.7534 * sqrt(h), 3);
        assert_true(bins > 50);
        if (which ? statistic < quantile : statistic > quantile)
            fail_msg("%s: statistic %.1f, quantile %.1f of %g bins", which ? "the policy alone is not told apart" : "frequencies", statistic, quantile, bins);
    }
    sampler_free(s);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cached_is_the_full_forward),
        cmocka_unit_test(two_files),
        cmocka_unit_test(another_vocabulary_is_refused),
        cmocka_unit_test(weights_of_one_model_are_that_model),
        cmocka_unit_test(slots_and_calls_change_nothing),
        cmocka_unit_test(drawn_from_is_tempered_and_cut), cmocka_unit_test(support_bounds_the_tail),
        cmocka_unit_test(frequencies_are_the_probabilities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
