/* Laws of the engine that need no oracle: the order of a batch, its division and the sharing of prompts change nothing; the gradient is the
 * derivative of what is scored, adapters and dropout included; a fresh adapter is exactly nothing; bad input is refused by name. */
#include "model/gradients.h"

#include <jansson.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/adapter.h"
#include "model/model.h"
#include "sample/sampler.h"

enum { ROWS = 12, LONGEST = 64 };

struct rows {
    int32_t ids[ROWS][LONGEST], n_prompt[ROWS], n_tok[ROWS], group[ROWS];
    const int32_t *at[ROWS];
    double coef[ROWS];
    struct sequences s;
};

static const char *golden(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), name);
    return path;
}

static int put(json_t *list, int32_t *to)
{
    for (size_t i = 0; i < json_array_size(list); i++) to[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return (int)json_array_size(list);
}

/* Six prompts, two answers each: the data of the case. */
static void read_rows(struct rows *r, const char *name)
{
    char path[4300], *data, *rest;
    size_t n;
    snprintf(path, sizeof path, "%s/data.jsonl", golden(name));
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    int k = 0;
    for (char *line = strtok_r(data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, 0, NULL);
        for (int side = 0; side < 2; side++, k++) {
            assert_true(k < ROWS);
            r->n_prompt[k] = put(json_object_get(j, "prompt_ids"), r->ids[k]);
            r->n_tok[k] = put(json_object_get(j, side ? "rejected_ids" : "chosen_ids"), r->ids[k] + r->n_prompt[k]);
            r->group[k] = k / 2;
            r->coef[k] = side ? 0.3 - 0.1 * k : 0.7 + 0.05 * k;
        }
        json_decref(j);
    }
    assert_int_equal(k, ROWS);
    free(data);
    for (int i = 0; i < ROWS; i++) r->at[i] = r->ids[i];
    r->s = (struct sequences){.n = ROWS, .ids = r->at, .n_prompt = r->n_prompt, .n_tok = r->n_tok, .group = r->group};
}

static struct policy open_model(const char *name, enum dtype compute, bool full, int64_t micro)
{
    struct policy p = {0};
    const struct model_options o = {.compute = compute, .train_full = full, .backward = true, .micro_tokens = micro};
    assert_ok(model_open(&p.model, golden(name), &o, err));
    return p;
}

static struct adapter *moved(struct model *m, bool dora) { return moved_adapter(m, &(struct lora_options){.r = 3, .alpha = 6, .dora = dora, .seed = 7}); }

static void score(struct policy p, const struct sequences *s, double *out)
{
    if (model_facts(p.model)->reward_head)
        assert_ok(model_reward(p, s, out, err));
    else
        assert_ok(model_score(p, s, out, NULL, err));
}

/* The policy's gradient of sum coef_i f_i, all parameters one after the other; free() it. */
static double *gradient(struct policy p, const struct rows *r, int64_t *n)
{
    struct param *q;
    policy_zero_grad(p);
    assert_ok(model_accumulate(p, &r->s, r->coef, err));
    const int64_t k = policy_params(p, &q);
    *n = 0;
    for (int64_t i = 0; i < k; i++) *n += q[i].n;
    double *g = calloc((size_t)*n, sizeof *g), *at = g;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < q[i].n; j++) *at++ = q[i].grad[j];
    return g;
}

static double off(const double *a, const double *b, int64_t n)
{
    double d = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(d / size);
}

static const char *const families[] = {"llama-gqa", "qwen2-seqcls", "phi3-longrope", "gemma2", "gemma3", "gpt2", "gpt-neox", "olmo2", "smollm3",
                                       "llama-dynamic", "neox-odd", "stablelm-12b", "granite-bias", "cohere-norms"};
enum { N_FAMILY = sizeof families / sizeof *families };

static void reversed(struct rows *to, const struct rows *from)
{
    *to = *from;
    for (int i = 0; i < ROWS; i++) {
        const int j = ROWS - 1 - i;
        memcpy(to->ids[i], from->ids[j], sizeof to->ids[i]);
        to->n_prompt[i] = from->n_prompt[j];
        to->n_tok[i] = from->n_tok[j];
        to->group[i] = from->group[j];
        to->coef[i] = from->coef[j];
        to->at[i] = to->ids[i];
    }
    to->s.ids = to->at;
    to->s.n_prompt = to->n_prompt;
    to->s.n_tok = to->n_tok;
    to->s.group = to->group;
}

/* Order, micro-batches and shared prompts: the same log-probs and the same gradient. */
static void batches(void **state)
{
    (void)state;
    for (int f = 0; f < N_FAMILY; f++) {
        static struct rows r, back, alone;
        double whole[ROWS], turned[ROWS], one[ROWS], split[ROWS];
        int64_t n;
        read_rows(&r, families[f]);
        reversed(&back, &r);
        alone = r;
        for (int i = 0; i < ROWS; i++) alone.group[i] = i;
        alone.s.group = alone.group;
        struct policy p = open_model(families[f], DTYPE_F32, true, 4096), small = open_model(families[f], DTYPE_F32, true, 20);
        assert_int_equal(model_micro_batch(p.model, &r.s, 0), ROWS);
        assert_true(model_micro_batch(small.model, &r.s, 0) < ROWS);
        score(p, &r.s, whole);
        score(p, &back.s, turned);
        score(p, &alone.s, one);
        score(small, &r.s, split);
        double *g = gradient(p, &r, &n), *others[] = {gradient(p, &back, &n), gradient(p, &alone, &n), gradient(small, &r, &n)};
        for (int i = 0; i < ROWS; i++) {
            assert_near(turned[ROWS - 1 - i], whole[i], 1e-5, 1e-6);
            assert_near(one[i], whole[i], 1e-5, 1e-6);
            assert_near(split[i], whole[i], 1e-5, 1e-6);
        }
        for (int k = 0; k < 3; k++) {
            if (!(off(others[k], g, n) < 5e-6)) fail_msg("%s: gradient %d is off by %.3g", families[f], k, off(others[k], g, n));
            free(others[k]);
        }
        free(g);
        model_close(p.model);
        model_close(small.model);
    }
}

/* One pass with the activations kept gives the numbers of scoring first; weights per token scale token by token. */
static void fused(void **state)
{
    (void)state;
    static struct rows r;
    read_rows(&r, "llama-gqa");
    struct policy p = open_model("llama-gqa", DTYPE_F32, true, 4096);
    double first[ROWS], kept[ROWS], sum[ROWS] = {0};
    float token[ROWS * LONGEST], weight[ROWS * LONGEST];
    int64_t n, tokens = 0;
    assert_ok(model_score(p, &r.s, first, token, err));
    for (int i = 0; i < ROWS; i++)
        for (int t = 0; t < r.n_tok[i]; t++, tokens++) {
            sum[i] += token[tokens];
            weight[tokens] = 2;
        }
    double *g = gradient(p, &r, &n), *again, twice[ROWS];
    policy_zero_grad(p);
    assert_ok(model_forward(p, &r.s, kept, NULL, err));
    for (int i = 0; i < ROWS; i++) {
        assert_true(kept[i] == first[i] && sum[i] == first[i]);
        twice[i] = r.coef[i] / 2;
    }
    assert_ok(model_backward(p, twice, weight, err));
    struct param *q;
    again = calloc((size_t)n, sizeof *again);
    double *at = again;
    for (int64_t i = 0, k = policy_params(p, &q); i < k; i++)
        for (int64_t j = 0; j < q[i].n; j++) *at++ = q[i].grad[j];
    assert_true(off(again, g, n) < 1e-6);
    free(again);
    free(g);
    model_close(p.model);
}

/* DoRA's norms are constants to the gradient: differences along it hold them, too. */
static void hold_norms(struct adapter *a, const struct lora_linear *held)
{
    for (int64_t i = 0; a && a->is_dora && i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        const struct weight *w = &a->model->layer[i / LINEAR_COUNT].linear[i % LINEAR_COUNT].w;
        struct lora_linear *l = &a->linear[i];
        for (int64_t p = 0, at = 0; p < w->n_part; at += w->part[p++].n_out)
            for (int64_t o = 0; l->on[p] && o < w->part[p].n_out; o++) {
                l->gain[at + o] = l->pm[p]->value[o] * held[i].inverse_norm[at + o];
                l->extra[at + o] = l->gain[at + o] - 1;
            }
    }
}

/* The adapter's norms as they are; free() with free_norms. */
static struct lora_linear *copy_norms(const struct adapter *a)
{
    if (!a || !a->is_dora) return NULL;
    const int64_t n = a->model->config.n_layer * LINEAR_COUNT;
    struct lora_linear *held = calloc((size_t)n, sizeof *held);
    for (int64_t i = 0; i < n; i++) {
        const size_t size = (size_t)a->model->layer[i / LINEAR_COUNT].linear[i % LINEAR_COUNT].w.n_out * sizeof(float);
        held[i].inverse_norm = malloc(size);
        memcpy(held[i].inverse_norm, a->linear[i].inverse_norm, size);
    }
    return held;
}

static void free_norms(const struct adapter *a, struct lora_linear *held)
{
    for (int64_t i = 0; held && i < a->model->config.n_layer * LINEAR_COUNT; i++) free(held[i].inverse_norm);
    free(held);
}

/* sum coef_i f_i at the parameters start + step * direction. */
static double rise_at(struct policy p, const struct rows *r, const struct lora_linear *held, const float *start, const double *direction, double step)
{
    struct param *q;
    double f[ROWS], sum = 0;
    for (int64_t i = 0, n = policy_params(p, &q); i < n; i++)
        for (int64_t j = 0; j < q[i].n; j++) q[i].value[j] = (float)(*start++ + step * *direction++);
    policy_params_changed(p);
    if (held) hold_norms(p.adapter, held);
    assert_ok(model_forward(p, &r->s, f, NULL, err)); // the training forward: with the mask, where there is dropout
    for (int i = 0; i < ROWS; i++) sum += r->coef[i] * f[i];
    return sum;
}

/* The slope along the gradient, by central differences of two steps (error of fourth order), is the gradient's length. */
static void check_slope(struct policy p, const struct rows *r, const char *what)
{
    struct param *q;
    int64_t n;
    double *g = gradient(p, r, &n), length = 0, slope[2];
    float *start = calloc((size_t)n, sizeof *start), *at = start;
    for (int64_t i = 0, k = policy_params(p, &q); i < k; i++)
        for (int64_t j = 0; j < q[i].n; j++) *at++ = q[i].value[j];
    for (int64_t i = 0; i < n; i++) length += g[i] * g[i];
    length = sqrt(length);
    struct lora_linear *held = copy_norms(p.adapter);
    for (int64_t i = 0; i < n; i++) g[i] /= length;
    for (int k = 0; k < 2; k++) {
        const double step = k ? 1e-3 : 2e-3;
        slope[k] = (rise_at(p, r, held, start, g, step) - rise_at(p, r, held, start, g, -step)) / (2 * step);
    }
    rise_at(p, r, held, start, g, 0); // puts the parameters back
    free_norms(p.adapter, held);
    const double best = (4 * slope[1] - slope[0]) / 3;
    if (!(fabs(best / length - 1) < 5e-4)) fail_msg("%s: slope %.6g, gradient %.6g", what, best, length);
    free(start);
    free(g);
}

static void slopes(const char *backend)
{
    assert_ok(backend_select(backend, err));
    for (int f = 0; f < N_FAMILY; f++) {
        static struct rows r;
        read_rows(&r, families[f]);
        struct policy p = open_model(families[f], DTYPE_F32, true, 4096);
        check_slope(p, &r, families[f]);
        model_close(p.model);
        p = open_model(families[f], DTYPE_F32, false, 4096);
        for (int k = 0; k < (strcmp(backend, "ref") ? 4 : 2); k++) { // LoRA and (once: its own part is the same in both) DoRA, without dropout and with
            p.adapter = moved(p.model, k / 2);
            adapter_dropout(p.adapter, k % 2 ? 0.25 : 0, 3, 5);
            check_slope(p, &r, families[f]);
            adapter_close(p.adapter);
        }
        model_close(p.model);
    }
    assert_ok(backend_select("cpu", err));
}

static void slopes_ref(void **state)
{
    (void)state;
    slopes("ref");
}

static void slopes_cpu(void **state)
{
    (void)state;
    slopes("cpu");
}

/* With B = 0 the policy is the reference, bit for bit: h is exactly 0 at the start. */
static void fresh_adapter(void **state)
{
    (void)state;
    for (int f = 0; f < N_FAMILY; f++)
        for (int k = 0; k < 2; k++) {
            static struct rows r;
            double base[ROWS], with[ROWS];
            read_rows(&r, families[f]);
            struct policy p = open_model(families[f], k ? DTYPE_BF16 : DTYPE_F32, false, 64);
            score(p, &r.s, base);
            for (int dora = 0; dora < 2; dora++) {
                const struct lora_options o = {.r = 4, .alpha = 8, .targets = "all-linear", .dora = dora, .seed = 1};
                assert_ok(adapter_create(&p.adapter, p.model, &o, err));
                score(p, &r.s, with);
                for (int i = 0; i < ROWS; i++)
                    if (with[i] != base[i]) fail_msg("%s, %s, %s: %.9g with a fresh adapter, %.9g without", families[f], k ? "bf16" : "f32", dora ? "DoRA" : "LoRA", with[i], base[i]);
                adapter_close(p.adapter);
            }
            model_close(p.model);
        }
}

/* Dropout acts in training forwards only; its mask hangs on seed and step, not on order or division of the batch. */
static void dropout(void **state)
{
    (void)state;
    static struct rows r, back;
    double off_[ROWS], on[ROWS], again[ROWS], later[ROWS], turned[ROWS];
    int64_t n;
    read_rows(&r, "llama-gqa");
    reversed(&back, &r);
    struct policy p = open_model("llama-gqa", DTYPE_F32, false, 4096), small = open_model("llama-gqa", DTYPE_F32, false, 20);
    p.adapter = moved(p.model, false);
    small.adapter = moved(small.model, false);
    score(p, &r.s, off_);
    adapter_dropout(p.adapter, 0.5, 3, 1);
    adapter_dropout(small.adapter, 0.5, 3, 1);
    score(p, &r.s, on);
    score(p, &r.s, again);
    score(p, &back.s, turned);
    double *g = gradient(p, &r, &n), *split = gradient(small, &r, &n);
    adapter_dropout(p.adapter, 0.5, 3, 2);
    score(p, &r.s, later);
    for (int i = 0; i < ROWS; i++) {
        assert_true(again[i] == on[i] && on[i] != off_[i] && later[i] != on[i]);
        assert_near(turned[ROWS - 1 - i], on[i], 1e-5, 1e-6);
    }
    assert_true(off(split, g, n) < 5e-6);
    free(g);
    free(split);
    adapter_close(p.adapter);
    adapter_close(small.adapter);
    model_close(p.model);
    model_close(small.model);
}

/* What the sampler says of its tokens is what scoring says; except where all positions of an answer turn otherwise once it has grown:
 * over LongRoPE's switch, and past the length where dynamic rotary embeddings begin. */
static void sampled(void **state)
{
    (void)state;
    for (int f = 0; f < N_FAMILY; f++) {
        static struct rows r;
        read_rows(&r, families[f]);
        struct policy p = open_model(families[f], DTYPE_F32, false, 4096);
        const struct model_facts *facts = model_facts(p.model);
        if (facts->reward_head) {
            model_close(p.model);
            continue;
        }
        p.adapter = moved(p.model, f % 2); // LoRA and DoRA in turn
        struct sampler *s;
        struct prompt prompt[ROWS / 2];
        for (int i = 0; i < ROWS / 2; i++) prompt[i] = (struct prompt){.ids = r.ids[2 * i], .n = r.n_prompt[2 * i], .key = (uint64_t)i};
        const struct sampler_options o = {.max_new_tokens = 14, .temperature = 1, .top_p = 1, .n_return = 3, .n_slot = 4, .seed = 11, .ignore_eos = true};
        struct answer *y;
        assert_ok(sampler_create(&s, p.model, err));
        assert_ok(sampler_run(s, p, prompt, ROWS / 2, &o, &y, NULL, NULL, err));
        for (int i = 0; i < ROWS / 2 * 3; i++) {
            int32_t ids[2 * LONGEST];
            const int32_t *at = ids, n_prompt = prompt[y[i].i].n, group = 0;
            const bool past = facts->rope_switch && n_prompt + y[i].n > facts->rope_switch, crosses = past && n_prompt <= facts->rope_switch;
            const int64_t from = facts->rope_dynamic && past ? y[i].n : crosses ? facts->rope_switch - n_prompt + 1 : 0;
            memcpy(ids, prompt[y[i].i].ids, (size_t)n_prompt * sizeof *ids);
            memcpy(ids + n_prompt, y[i].ids, (size_t)y[i].n * sizeof *ids);
            const struct sequences one = {.n = 1, .ids = &at, .n_prompt = &n_prompt, .n_tok = &y[i].n, .group = &group};
            double total;
            float token[14];
            assert_int_equal(y[i].n, 14);
            assert_ok(model_score(p, &one, &total, token, err));
            for (int64_t t = from; t < y[i].n; t++) // a token was drawn when the sequence was as long as its place says
                assert_near(y[i].token_logp[t], token[t], 5e-5, 0);
        }
        sampler_free(s);
        adapter_close(p.adapter);
        model_close(p.model);
    }
}

static char folder[64];

/* A copy of a golden model whose config.json has one value replaced; returns its path. */
static const char *altered(const char *name, const char *key, const char *json)
{
    static char path[200];
    char command[16000];
    snprintf(path, sizeof path, "%s/m", folder);
    snprintf(command, sizeof command, "rm -rf %s; mkdir -p %s; cp %s/*.json %s/model.safetensors %s/", path, path, golden(name), golden(name), path);
    assert_int_equal(system(command), 0);
    char file[300];
    snprintf(file, sizeof file, "%s/config.json", path);
    json_t *config = json_load_file(file, 0, NULL), *value = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(config);
    assert_non_null(value);
    json_object_set_new(config, key, value);
    assert_int_equal(json_dump_file(config, file, 0), 0);
    json_decref(config);
    return path;
}

static void refused_configs(void **state)
{
    (void)state;
    static const struct {
        const char *model, *key, *json, *says;
    } bad[] = {
        {"llama-gqa", "model_type", "\"mamba\"", "mamba"},
        {"llama-gqa", "architectures", "[\"LlamaForTokenClassification\"]", "LlamaForTokenClassification"},
        {"llama-gqa", "quantization_config", "{\"bits\": 4}", "quantization_config"},
        {"llama-gqa", "num_local_experts", "8", "num_local_experts"},
        {"llama-gqa", "model_type", "\"mixtral\"", "'mixtral': mixture-of-experts"},
        {"llama-gqa", "model_type", "\"qwen2_moe\"", "'qwen2_moe': mixture-of-experts"},
        {"llama-gqa", "model_type", "\"olmoe\"", "'olmoe': mixture-of-experts"},
        {"llama-gqa", "model_type", "\"granitemoe\"", "'granitemoe': mixture-of-experts"},
        {"llama-gqa", "hidden_act", "\"quick_gelu\"", "quick_gelu"},
        {"llama-gqa", "per_layer_config", "{\"0\": {\"num_key_value_heads\": 1}}", "per_layer_config"},
        {"llama-gqa", "tie_word_embeddings", "1", "tie_word_embeddings"},
        {"qwen2-seqcls", "eos_token_id", "[2, 3, 4, 5, 6, 7, 8, 9, 10]", "eos_token_id"},
        {"llama-gqa", "num_hidden_layers", "4", "model.layers.3.input_layernorm.weight"},
        {"llama-gqa", "num_hidden_layers", "-1", "num_hidden_layers"},
        {"llama-gqa", "num_hidden_layers", "2.5", "num_hidden_layers"},
        {"llama-gqa", "vocab_size", "129", "model.embed_tokens.weight"},
        {"llama-gqa", "intermediate_size", "57", "gate_proj"},
        {"llama-gqa", "num_key_value_heads", "3", "heads"},
        {"llama-gqa", "rope_parameters", "{\"rope_type\": \"spiral\", \"rope_theta\": 10000}", "spiral"},
        {"llama-gqa", "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": 0}", "factor"},
        {"llama-gqa", "rope_parameters", "{\"rope_type\": \"llama3\"}", "factor"},
        {"llama-gqa", "rope_parameters", "{\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}", "partial_rotary_factor"},
        {"llama-gqa", "rope_parameters", "{\"full_attention\": {\"rope_type\": \"default\"}}", "kind of layer"},
        {"llama-gqa", "attention_bias", "true", "q_proj.bias"},
        {"smollm3", "no_rope_layers", "[1, 0]", "no_rope_layers[2]"},
        {"granite-bias", "residual_multiplier", "0", "residual_multiplier"},
        {"phi3-longrope", "rope_parameters", "{\"rope_type\": \"longrope\", \"short_factor\": [1], \"long_factor\": [1]}", "short_factor"},
        {"gemma3", "layer_types", "[\"sliding_attention\", \"banded\", \"full_attention\", \"full_attention\"]", "layer_types[1]"},
        {"gemma3", "use_bidirectional_attention", "true", "use_bidirectional_attention"},
        {"gpt2", "n_head", "5", "32"},
        {"qwen2-seqcls", "id2label", "{\"0\": \"a\", \"1\": \"b\"}", "one label"},
        {"qwen2-seqcls", "id2label", "null", "2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct model *m;
        sail_err err = {0};
        const struct model_options o = {0};
        assert_int_equal(model_open(&m, altered(bad[i].model, bad[i].key, bad[i].json), &o, &err), SAIL_FAILED);
        assert_null(m);
        if (!strstr(err.message, bad[i].says)) fail_msg("%s %s: \"%s\" does not name %s", bad[i].key, bad[i].json, err.message, bad[i].says);
    }
}

static void refused_rows(void **state)
{
    (void)state;
    struct policy p = open_model("llama-gqa", DTYPE_F32, false, 0);
    int32_t ids[65] = {0};
    sail_err err = {0};
    assert_int_equal(model_check(p.model, ids, 60, 4, "row", &err), SAIL_OK);
    assert_int_equal(model_check(p.model, ids, 60, 5, "row 7", &err), SAIL_FAILED);
    assert_non_null(strstr(err.message, "row 7: 65 tokens"));
    assert_int_equal(model_check(p.model, ids, 4, 0, "row", &err), SAIL_FAILED);
    assert_int_equal(model_check(p.model, ids, 0, 4, "row", &err), SAIL_FAILED);
    ids[3] = 128;
    assert_int_equal(model_check(p.model, ids, 2, 2, "row", &err), SAIL_FAILED);
    assert_non_null(strstr(err.message, "128"));
    ids[3] = -1;
    assert_int_equal(model_check(p.model, ids, 2, 2, "row", &err), SAIL_FAILED);
    model_close(p.model);
}

/* Adapters and models come back as they were written, and a merged model is the adapted one. */
static void saved(void **state)
{
    (void)state;
    for (int f = 0; f < N_FAMILY; f++) {
        static struct rows r;
        double with[ROWS], back[ROWS], merged[ROWS];
        char path[100];
        read_rows(&r, families[f]);
        struct policy p = open_model(families[f], DTYPE_F32, false, 64);
        p.adapter = moved(p.model, f % 2 == 0);
        score(p, &r.s, with);
        snprintf(path, sizeof path, "%s/adapter", folder);
        assert_ok(adapter_save(p.adapter, path, err));
        struct policy q = {.model = p.model};
        assert_ok(adapter_open(&q.adapter, p.model, path, true, err));
        score(q, &r.s, back);
        snprintf(path, sizeof path, "%s/merged", folder);
        assert_ok(model_save(p, path, &(struct save_options){.dtype = SAVE_AS_IS}, err));
        struct policy whole = {0};
        const struct model_options o = {.compute = DTYPE_F32};
        assert_ok(model_open(&whole.model, path, &o, err));
        score(whole, &r.s, merged);
        for (int i = 0; i < ROWS; i++) {
            assert_true(back[i] == with[i]);
            assert_near(merged[i], with[i], 2e-5, 2e-6);
        }
        model_close(whole.model);
        adapter_close(q.adapter);
        adapter_close(p.adapter);
        model_close(p.model);
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sail-law-%d", (int)getpid());
    mkdir(folder, 0700);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches),         cmocka_unit_test(fused),        cmocka_unit_test(slopes_ref),       cmocka_unit_test(slopes_cpu),
        cmocka_unit_test(fresh_adapter),   cmocka_unit_test(dropout),      cmocka_unit_test(sampled),          cmocka_unit_test(saved),
        cmocka_unit_test(refused_configs), cmocka_unit_test(refused_rows),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove(folder, NULL);
    return failed;
}
