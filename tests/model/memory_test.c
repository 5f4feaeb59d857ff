/* What the plan says that a pass takes is what its arena holds at most, family by family, with adapters and without. */
#include "model/gradients.h"

#include "model/session.h"

static const char *const families[] = {"llama-gqa", "qwen2-seqcls", "phi3-longrope", "gemma2", "gemma3", "gpt2", "gpt-neox", "olmo2", "smollm3", "stablelm-12b", "granite-bias", "cohere-norms"};

struct trained {
    const char *name;
    bool full, recompute, score;
    struct lora_options lora;
    double dropout;
};

enum { ROWS = 8, TOKENS = 20 };

/* Rows of one prompt token each: all tokens are packed, nearly all predict one. */
static void run_pass(struct policy p, const struct trained *t)
{
    static int32_t ids[ROWS][TOKENS], n_prompt[ROWS], n_tok[ROWS], group[ROWS];
    const int32_t *at[ROWS];
    double coef[ROWS], logp[ROWS];
    for (int i = 0; i < ROWS; i++) {
        at[i] = ids[i];
        group[i] = i;
        n_prompt[i] = 1;
        n_tok[i] = TOKENS - 1;
        coef[i] = 0.1;
        for (int k = 0; k < TOKENS; k++) ids[i][k] = (7 * i + 5 * k + 3) % (int32_t)model_facts(p.model)->vocab;
    }
    const struct sequences s = {.n = ROWS, .ids = at, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};
    if (!t->score)
        assert_ok(model_accumulate(p, &s, coef, err));
    else if (model_facts(p.model)->reward_head)
        assert_ok(model_reward(p, &s, logp, err));
    else
        assert_ok(model_score(p, &s, logp, NULL, err));
}

/* At most a tenth is said too much, and nothing too little. A reward head has one row for a sequence where others have one for a token. */
static void the_plan_holds(void **state)
{
    (void)state;
    static const struct trained of[] = {
        {.name = "scoring", .score = true},
        {.name = "full", .full = true},
        {.name = "full, recompute", .full = true, .recompute = true},
        {.name = "LoRA", .lora = {.r = 16, .alpha = 16, .seed = 7}},
        {.name = "LoRA, dropout", .lora = {.r = 16, .alpha = 16, .seed = 7}, .dropout = 0.3},
        {.name = "LoRA, recompute", .recompute = true, .lora = {.r = 16, .alpha = 16, .seed = 7}},
        {.name = "DoRA", .lora = {.r = 16, .alpha = 16, .dora = true, .seed = 7}},
    };
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
            const struct trained *t = &of[k];
            char path[4200];
            struct policy p = {0};
            const struct model_options o = {.compute = k % 2 ? DTYPE_BF16 : DTYPE_F32, .train_full = t->full, .backward = !t->score, .recompute = t->recompute, .micro_tokens = ROWS * TOKENS};
            snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), families[f]);
            assert_ok(model_open(&p.model, path, &o, err));
            if (!t->full && !t->score) p.adapter = moved_adapter(p.model, &t->lora);
            if (p.adapter) adapter_dropout(p.adapter, t->dropout, 3, 5);
            const double said = (double)model_memory(p, ROWS * TOKENS).activations, bare = (double)model_memory((struct policy){.model = p.model}, ROWS * TOKENS).activations;
            run_pass(p, t);
            const double held = (double)p.model->session->arena.peak, most = model_facts(p.model)->reward_head ? 1.3 : 1.1;
            if (!(held <= said && said <= most * held)) fail_msg("%s, %s: %.0f bytes planned, %.0f held", families[f], t->name, said, held);
            if (p.adapter) assert_true(bare < said); // an adapter has activations of its own
            adapter_close(p.adapter);
            model_close(p.model);
        }
}

/* An adapter's layouts are counted beside the model's, and one more adapter with its parameters. */
static void adapters_are_counted(void **state)
{
    (void)state;
    struct policy p = {0};
    const struct model_options o = {.compute = DTYPE_BF16, .backward = true};
    assert_ok(model_open(&p.model, repo_path("tests/golden/cases/llama-gqa"), &o, err));
    const struct model_memory bare = model_memory(p, 0);
    p.adapter = moved_adapter(p.model, &(struct lora_options){.r = 8, .alpha = 8, .seed = 7});
    const struct model_memory with = model_memory(p, 0);
    struct param *param;
    size_t values = 0;
    const int64_t n = policy_params(p, &param);
    for (int64_t i = 0; i < n; i++) values += (size_t)param[i].n;
    assert_true(values > 0);
    assert_int_equal(with.weights, bare.weights);
    assert_true(with.layouts - bare.layouts >= values * dtype_size(DTYPE_BF16));
    assert_int_equal(adapter_memory(p.adapter), with.layouts - bare.layouts + 2 * values * sizeof(float)); // a value and a gradient each
    adapter_close(p.adapter);
    model_close(p.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_plan_holds), cmocka_unit_test(adapters_are_counted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
