/* Blocks run again in the backward pass leave the gradients that kept activations leave, bit by bit, and need less room. */
#include "model/gradients.h"

enum { ROWS = 6, LONGEST = 20, PROMPT = 7 };

static const char *const families[] = {"llama-gqa", "qwen2-seqcls", "phi3-longrope", "gemma2", "gemma3", "gpt2", "gpt-neox", "olmo2", "smollm3", "stablelm-12b", "granite-bias", "cohere-norms"};
enum { N_FAMILY = sizeof families / sizeof *families };

struct rows {
    int32_t ids[ROWS][LONGEST], n_prompt[ROWS], n_tok[ROWS], group[ROWS];
    const int32_t *at[ROWS];
    double coef[ROWS];
    struct sequences s;
};

/* Three prompts, two answers of different lengths each. */
static void make_rows(struct rows *r, const struct model *m)
{
    const int32_t vocab = (int32_t)model_facts(m)->vocab;
    for (int i = 0; i < ROWS; i++) {
        r->at[i] = r->ids[i];
        r->group[i] = i / 2;
        r->n_prompt[i] = PROMPT - i / 2;
        r->n_tok[i] = 3 + i;
        r->coef[i] = i % 2 ? -0.4 : 0.5 + 0.1 * i;
        for (int t = 0; t < LONGEST; t++) r->ids[i][t] = (int32_t)(7 * (t < r->n_prompt[i] ? i / 2 : i) + 5 * t + 3) % vocab;
    }
    r->s = (struct sequences){.n = ROWS, .ids = r->at, .n_prompt = r->n_prompt, .n_tok = r->n_tok, .group = r->group};
}

struct trained {
    enum dtype compute;
    bool full;
    struct lora_options lora;
    double dropout;
};

/* All gradients one after the other; free() them. *room: what a pass was planned to need. */
static float *pass(const char *family, const struct trained *t, bool recompute, int64_t *n, size_t *room)
{
    char path[4200];
    struct policy p = {0};
    const struct model_options o = {.compute = t->compute, .train_full = t->full, .backward = true, .recompute = recompute, .micro_tokens = 64};
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), family);
    assert_ok(model_open(&p.model, path, &o, err));
    if (!t->full) p.adapter = moved_adapter(p.model, &t->lora);
    struct rows r;
    make_rows(&r, p.model);
    policy_zero_grad(p);
    if (p.adapter) adapter_dropout(p.adapter, t->dropout, 3, 5);
    assert_ok(model_accumulate(p, &r.s, r.coef, err));
    float *g = gradients(p, n);
    *room = model_memory(p, 0).activations;
    adapter_close(p.adapter);
    model_close(p.model);
    return g;
}

static void compare(const struct trained *t)
{
    for (int f = 0; f < N_FAMILY; f++) {
        int64_t n, again;
        size_t room, less;
        float *kept = pass(families[f], t, false, &n, &room), *made = pass(families[f], t, true, &again, &less);
        double size = 0;
        for (int64_t i = 0; i < n; i++) size += fabs((double)kept[i]);
        assert_true(size > 0 && isfinite(size));
        assert_int_equal(n, again);
        if (memcmp(kept, made, (size_t)n * sizeof *kept)) fail_msg("%s: another gradient with recompute", families[f]);
        if (less >= room) fail_msg("%s: %zu bytes with recompute, %zu without", families[f], less, room);
        free(kept);
        free(made);
    }
}

static void full(void **state)
{
    (void)state;
    compare(&(struct trained){.compute = DTYPE_F32, .full = true});
}

static void full_bf16(void **state)
{
    (void)state;
    compare(&(struct trained){.compute = DTYPE_BF16, .full = true});
}

static void lora_with_dropout(void **state)
{
    (void)state;
    compare(&(struct trained){.compute = DTYPE_F32, .lora = {.r = 3, .alpha = 6, .seed = 7}, .dropout = 0.3});
}

/* The first layer's activations are larger than the last one's. */
static void lora_in_first_layer(void **state)
{
    (void)state;
    compare(&(struct trained){.compute = DTYPE_F32, .lora = {.r = 16, .alpha = 6, .layers = "0", .seed = 7}});
}

static void dora(void **state)
{
    (void)state;
    compare(&(struct trained){.compute = DTYPE_BF16, .lora = {.r = 3, .alpha = 6, .dora = true, .seed = 7}});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full), cmocka_unit_test(full_bf16), cmocka_unit_test(lora_with_dropout), cmocka_unit_test(lora_in_first_layer), cmocka_unit_test(dora)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
