/* Adapters that PEFT wrote (tests/golden/peft, made by tools/make_peft_golden.py) against its float64 answers: log-probs, DPO's gradient with the adapter
 * switched off as reference, merged weights; what is written comes back; what is not supported is refused by name. */
#include "test.h"

#include <jansson.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/model.h"

static char folder[64]; /* of scratch files */

static void run_sail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run_sail(const char *fmt, ...)
{
    static char output[8192], arguments[16384], command[32768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(arguments, sizeof arguments, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "%s %s 2>&1", TEST_PROGRAM, arguments);
    FILE *p = popen(command, "r");
    output[fread(output, 1, sizeof output - 1, p)] = '\0';
    if (pclose(p)) fail_msg("sail %s: %s", arguments, output);
}

static const struct {
    const char *base, *adapter;
} cases[] = {
    {"llama", "regex"}, {"llama", "layers"}, {"llama", "exclude-regex"}, {"llama", "saved"}, {"qwen2-tied", "saved-head"},
    {"llama", "dora"}, {"llama", "dora-pattern"}, {"qwen2-tied", "saved-embed"}, {"gpt2", "dora"}, {"gpt-neox", "saved"}, {"llama-seqcls", "dora"},
};
enum { N_CASE = sizeof cases / sizeof *cases };

static const char *base_of(int i)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/peft"), cases[i].base);
    return path;
}

static json_t *expected_of(int i)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s/expected.json", base_of(i), cases[i].adapter);
    json_t *j = json_load_file(path, 0, NULL);
    if (!j) fail_msg("cannot read %s", path);
    return j;
}

/* Rows that `sail score --tokens` wrote against the expected ones. */
static void compare_rows(int i, json_t *expected, const char *what)
{
    char path[100], *data, *rest;
    size_t n, k = 0;
    snprintf(path, sizeof path, "%s/s.jsonl", folder);
    assert_ok(file_read(path, 1 << 24, &data, &n, err));
    for (char *line = strtok_r(data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), k++) {
        json_t *row = json_loads(line, 0, NULL), *pair = json_array_get(json_object_get(expected, "rows"), k);
        for (size_t side = 0; side < 2; side++) {
            json_t *want = json_array_get(pair, side), *score = json_object_get(row, side ? "rejected_score" : "chosen_score");
            json_t *got = json_object_get(row, side ? "rejected_token_logps" : "chosen_token_logps");
            for (size_t t = 0; t < json_array_size(want); t++) {
                const double w = json_number_value(json_array_get(want, t)), g = json_number_value(score ? score : json_array_get(got, t));
                if (!(fabs(g - w) < 5e-5)) fail_msg("%s %s %s: row %zu, token %zu: got %.7g, PEFT %.7g", cases[i].base, cases[i].adapter, what, k, t, g, w);
            }
        }
        json_decref(row);
    }
    assert_int_equal(k, json_array_size(json_object_get(expected, "rows")));
    free(data);
}

static void log_probs(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASE; i++) {
        json_t *expected = expected_of(i);
        const char *base = base_of(i);
        run_sail("score --model %s --adapter %s/%s --data %s/data.jsonl --out %s/s.jsonl --tokens", base, base, cases[i].adapter, base, folder);
        compare_rows(i, expected, "adapted");
        json_decref(expected);
    }
}

static void gradients(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASE; i++) {
        json_t *expected = expected_of(i);
        const char *base = base_of(i), *method = strstr(cases[i].base, "seqcls") ? "reward" : "dpo";
        char path[4400];
        struct safetensors got, want;
        run_sail("grad --model %s --adapter %s/%s --data %s/data.jsonl --out %s/g.safetensors --method %s --beta %g", base, base, cases[i].adapter, base, folder, method,
                 json_number_value(json_object_get(expected, "beta")));
        snprintf(path, sizeof path, "%s/g.safetensors", folder);
        assert_ok(safetensors_open(&got, path, err));
        snprintf(path, sizeof path, "%s/%s/grad.safetensors", base, cases[i].adapter);
        assert_ok(safetensors_open(&want, path, err));
        assert_int_equal(got.n, want.n);
        double difference = 0, size = 0;
        for (int64_t k = 0; k < want.n; k++) {
            const struct tensor *w = &want.tensor[k], *g = safetensors_find(&got, w->name);
            if (!g) fail_msg("%s: no gradient of %s", path, w->name);
            assert_int_equal(tensor_count(g), tensor_count(w));
            double off = 0, own = 0;
            for (int64_t e = 0; e < tensor_count(w); e++) {
                const double a = ((const float *)g->data)[e], b = ((const float *)w->data)[e];
                off += (a - b) * (a - b);
                own += b * b;
            }
            if (!(sqrt(off) <= 1e-4 * sqrt(own))) fail_msg("%s: %s is off by %.3g of its size", path, w->name, sqrt(off / own));
            difference += off;
            size += own;
        }
        if (!(sqrt(difference / size) <= 1e-5)) fail_msg("%s: gradient off by %.3g", path, sqrt(difference / size));
        assert_near(atof(json_string_value(json_object_get(got.metadata, "loss"))), json_number_value(json_object_get(expected, "loss")), 1e-6, 1e-5);
        safetensors_close(&got);
        safetensors_close(&want);
        json_decref(expected);
    }
}

/* Merged: the same model by itself, and every weight PEFT's to the rounding of f32. */
static void merged(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASE; i++) {
        json_t *expected = expected_of(i), *want;
        const char *base = base_of(i), *name;
        char path[200];
        struct safetensors s;
        snprintf(path, sizeof path, "%s/merged", folder);
        assert_ok(dir_remove(path, err));
        run_sail("convert --model %s --merge %s/%s --out %s", base, base, cases[i].adapter, path);
        run_sail("score --model %s --data %s/data.jsonl --out %s/s.jsonl --tokens", path, base, folder);
        compare_rows(i, expected, "merged");
        if (!strstr(cases[i].base, "seqcls")) {
            run_sail("convert --model %s --merge %s/%s --out %s/merged.gguf", base, base, cases[i].adapter, folder);
            run_sail("score --model %s/merged.gguf --data %s/data.jsonl --out %s/s.jsonl --tokens", folder, base, folder);
            compare_rows(i, expected, "merged as GGUF");
            snprintf(path, sizeof path, "%s/merged.gguf", folder);
            assert_int_equal(remove(path), 0);
            snprintf(path, sizeof path, "%s/merged", folder);
        }
        strcat(path, "/model.safetensors");
        assert_ok(safetensors_open(&s, path, err));
        json_object_foreach(json_object_get(expected, "merged"), name, want)
        {
            const struct tensor *t = safetensors_find(&s, name);
            const double length = json_number_value(json_array_get(want, 1));
            double along = 0, square = 0;
            if (!t && !strcmp(cases[i].base, "gpt-neox")) t = safetensors_find(&s, "embed_out.weight"); // lm_head among transformers' modules
            if (!t && !strcmp(cases[i].base, "gpt2")) continue;                                         // the tied head
            if (!t) fail_msg("%s %s: no merged %s", cases[i].base, cases[i].adapter, name);
            for (int64_t e = 0; e < tensor_count(t); e++) {
                const double v = ((const float *)t->data)[e];
                along += v * cos(0.7 * (double)e);
                square += v * v;
            }
            assert_near(along, json_number_value(json_array_get(want, 0)), 5e-7 * length, 0);
            assert_near(sqrt(square), length, 0, 5e-7);
        }
        safetensors_close(&s);
        json_decref(expected);
    }
}

static double *scores(struct policy p, const struct sequences *s)
{
    static double out[2];
    if (model_facts(p.model)->reward_head)
        assert_ok(model_reward(p, s, out, err));
    else
        assert_ok(model_score(p, s, out, NULL, err));
    return out;
}

static const int32_t row_a[] = {5, 9, 17, 3, 22, 11}, row_b[] = {5, 9, 4, 30};
static const int32_t *const ids[] = {row_a, row_b};
static const int32_t n_prompt[] = {2, 2}, n_tok[] = {4, 2}, group[] = {0, 0};
static const struct sequences two = {.n = 2, .ids = ids, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};

/* Written and read again, and copied: the same bits; the config keeps every rule. */
static void written(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASE; i++) {
        struct policy p = {0};
        const struct model_options o = {.compute = DTYPE_F32, .backward = true};
        char path[4400], again[100], file[4500];
        assert_ok(model_open(&p.model, base_of(i), &o, err));
        const double plain = scores(p, &two)[0];
        snprintf(path, sizeof path, "%s/%s", base_of(i), cases[i].adapter);
        snprintf(again, sizeof again, "%s/again", folder);
        assert_ok(adapter_open(&p.adapter, p.model, path, true, err));
        const double want = scores(p, &two)[0];
        assert_true(fabs(want - plain) > 1e-3);
        assert_ok(adapter_save(p.adapter, again, err));
        struct policy q = {.model = p.model}, copy = {.model = p.model};
        assert_ok(adapter_open(&q.adapter, p.model, again, false, err));
        assert_ok(adapter_copy(&copy.adapter, p.adapter, err));
        if (scores(q, &two)[0] != want || scores(copy, &two)[0] != want) fail_msg("%s %s: %.9g, read again %.9g, copied %.9g", cases[i].base, cases[i].adapter, want, scores(q, &two)[0], scores(copy, &two)[0]);
        struct param *moved;
        for (int64_t k = 0, n = policy_params(p, &moved); k < n; k++) moved[k].value[0] += 0.125f;
        policy_params_changed(p);
        const double later = scores(p, &two)[0];
        assert_true(later != want && scores(copy, &two)[0] == want);
        adapter_blend(copy.adapter, p.adapter, 0); // the reference follows
        assert_true(scores(copy, &two)[0] == later);
        assert_true(scores((struct policy){.model = p.model}, &two)[0] == plain); // the base's own embeddings and head are as they were
        snprintf(file, sizeof file, "%s/adapter_config.json", path);
        json_t *before = json_load_file(file, 0, NULL), *after;
        snprintf(file, sizeof file, "%s/adapter_config.json", again);
        after = json_load_file(file, 0, NULL);
        json_object_del(before, "base_model_name_or_path");
        json_object_del(after, "base_model_name_or_path");
        assert_true(json_equal(before, after));
        json_decref(before);
        json_decref(after);
        adapter_close(p.adapter);
        adapter_close(q.adapter);
        adapter_close(copy.adapter);
        model_close(p.model);
    }
}

/* What options choose: the parameters that are there, and their shapes; a fresh adapter is exactly nothing, also with copies of embeddings and head. */
static void chosen(void **state)
{
    (void)state;
    static const struct {
        struct lora_options o;
        const char *there[4], *absent[3];
        int64_t n, rank; /* of the first that is there */
    } choices[] = {
        {{.targets = "q_proj,mlp.up_proj"}, {"layers.0.self_attn.q_proj.lora_A", "layers.2.mlp.up_proj.lora_B"}, {"k_proj", "gate_proj"}, 12, 4},
        {{.targets = ".*\\.[02]\\.self_attn\\.(?:q|k)_proj", .rank_pattern = "{\"2.self_attn.q_proj\": 3, \"q_proj\": 7}"}, {"layers.2.self_attn.q_proj.lora_A", "layers.0.self_attn.k_proj"}, {"layers.1", "v_proj"}, 8, 3},
        {{.layers = "1", .exclude = "k_proj,1.mlp.up_proj"}, {"layers.1.self_attn.q_proj.lora_A"}, {"k_proj", "up_proj", "layers.0"}, 10, 4},
        {{.exclude = ".*mlp.*", .alpha_pattern = "{\"q_proj\": 1.5}", .rslora = true}, {"layers.1.self_attn.q_proj.lora_A"}, {"mlp"}, 24, 4},
        {{.targets = "v_proj", .modules_to_save = "embed_tokens,lm_head"}, {"layers.1.self_attn.v_proj.lora_A", "base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"}, {"q_proj"}, 8, 4},
    };
    struct policy p = {0};
    const struct model_options o = {.compute = DTYPE_F32, .backward = true};
    assert_ok(model_open(&p.model, base_of(0), &o, err));
    const double plain = scores(p, &two)[1];
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        struct lora_options lora = choices[i].o;
        struct param *q;
        lora.r = 4;
        lora.alpha = 8;
        assert_ok(adapter_create(&p.adapter, p.model, &lora, err));
        assert_int_equal(policy_params(p, &q), choices[i].n);
        for (int64_t k = 0; k < choices[i].n; k++)
            for (int j = 0; j < 3; j++) assert_true(!choices[i].absent[j] || !strstr(q[k].name, choices[i].absent[j]));
        for (int j = 0; j < 4 && choices[i].there[j]; j++) {
            int64_t k = 0;
            while (k < choices[i].n && !strstr(q[k].name, choices[i].there[j])) k++;
            if (k == choices[i].n) fail_msg("choice %zu: no parameter %s", i, choices[i].there[j]);
            if (!j) assert_int_equal(q[k].dim[0], choices[i].rank);
        }
        assert_true(scores(p, &two)[1] == plain);
        adapter_close(p.adapter);
    }
    static const struct {
        struct lora_options o;
        const char *says;
    } bad[] = {
        {{.targets = "c_attn"}, "gate_proj"},       {{.targets = "q_proj", .exclude = "q_proj"}, "exclusions"}, {{.layers = "7"}, "no module"},      {{.layers = "1;2"}, "--lora-layers"},
        {{.targets = ".*q_proj", .layers = "1"}, "layers_to_transform"}, {{.targets = "(q_proj"}, "(q_proj"},   {{.rank_pattern = "q_proj=2"}, "--lora-rank-pattern"},
        {{.rank_pattern = "{\"q_proj\": 0}"}, "rank_pattern"},           {{.alpha_pattern = "3"}, "--lora-alpha-pattern"}, {{.modules_to_save = "lm_haed"}, "lm_haed"}, {{.targets = "lm_head"}, "lm_head"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct lora_options lora = bad[i].o;
        sail_err why = {0};
        lora.r = 4;
        lora.alpha = 8;
        assert_int_not_equal(adapter_create(&p.adapter, p.model, &lora, &why), SAIL_OK);
        if (!strstr(why.message, bad[i].says)) fail_msg("\"%s\" does not name %s", why.message, bad[i].says);
    }
    model_close(p.model);
}

static const char *golden(const char *name)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/%s", repo_path("tests/golden/cases"), name);
    return path;
}

static struct policy open_case(const char *name)
{
    struct policy p = {0};
    const struct model_options o = {.compute = DTYPE_F32, .backward = true};
    assert_ok(model_open(&p.model, golden(name), &o, err));
    return p;
}

static void refused_adapters(void **state)
{
    (void)state;
    static const struct {
        const char *key, *json, *says;
    } bad[] = {
        {"use_dora", "true", "lora_magnitude_vector' is missing"}, {"use_dora", "1", "use_dora"}, {"lora_bias", "true", "lora_bias"}, {"bias", "\"all\"", "bias"}, {"peft_type", "\"IA3\"", "IA3"}, {"r", "0", "r 0"}, {"r", "\"4\"", "r \"4\""},
        {"lora_dropout", "1.5", "lora_dropout 1.5"}, {"some_new_option", "3", "some_new_option"}, {"trainable_token_indices", "[1]", "trainable_token_indices"},
        {"ensure_weight_tying", "true", "ensure_weight_tying"}, {"init_lora_weights", "\"pissa\"", "pissa"},
        {"modules_to_save", "[\"norm\"]", "modules_to_save"}, {"modules_to_save", "[\"lm_head\"]", "model.lm_head.weight' is missing"},
        {"rank_pattern", "{\"q_proj\": 2}", "q_proj.lora_A.weight': expected floats of shape [2, 32], got F32 [4, 32]"}, {"rank_pattern", "{\"q_proj\": 2.5}", "rank_pattern"},
        {"rank_pattern", "{\"(q_proj\": 2}", "rank_pattern: pattern '(q_proj'"}, {"alpha_pattern", "[1]", "alpha_pattern"}, {"alpha_pattern", "{\"q_proj\": \"x\"}", "alpha_pattern"},
        {"target_modules", "[\"q_proj\"]", "belongs to no module"}, {"target_modules", "[\"q_proj\", 3]", "target_modules"}, {"target_modules", "\"[\"", "target_modules: pattern '['"},
        {"target_modules", "\"(?:[a-z_.0-9]|[a-z_.])*!\"", "retry-limit"}, {"target_modules", "[\"q_proj\", \"lm_head\"]", "'lm_head'"}, {"target_modules", "[\"embed_tokens\"]", "'model.embed_tokens'"},
        {"target_modules", "[\"c_attn\"]", "belongs to no module"}, {"exclude_modules", "[\"q_proj\"]", "belongs to no module"}, {"exclude_modules", "4", "exclude_modules"},
        {"layers_to_transform", "[1]", "layers.0"}, {"layers_to_transform", "\"1\"", "layers_to_transform"}, {"layers_pattern", "\"layers\"", "layers_pattern"},
        {"r", "5", "lora_A"},
    };
    struct policy p = open_case("lora-llama");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char path[100], command[16000], file[200];
        snprintf(path, sizeof path, "%s/a", folder);
        snprintf(command, sizeof command, "rm -rf %s; cp -r %s/adapter %s", path, golden("lora-llama"), path);
        assert_int_equal(system(command), 0);
        snprintf(file, sizeof file, "%s/adapter_config.json", path);
        json_t *config = json_load_file(file, 0, NULL);
        json_object_set_new(config, bad[i].key, json_loads(bad[i].json, JSON_DECODE_ANY, NULL));
        assert_int_equal(json_dump_file(config, file, 0), 0);
        json_decref(config);
        struct adapter *a;
        sail_err err = {0};
        assert_int_equal(adapter_open(&a, p.model, path, false, &err), SAIL_FAILED);
        assert_null(a);
        if (!strstr(err.message, bad[i].says)) fail_msg("%s: \"%s\" does not name %s", bad[i].key, err.message, bad[i].says);
    }
    struct adapter *a;
    sail_err err = {0};
    const struct lora_options o = {.r = 2, .alpha = 2, .targets = "query_key_value"};
    assert_int_equal(adapter_create(&a, p.model, &o, &err), SAIL_USAGE);
    assert_non_null(strstr(err.message, "q_proj"));
    model_close(p.model);
    // An adapter of another model: its layers are not there.
    p = open_case("gpt2");
    char path[4300];
    snprintf(path, sizeof path, "%s/adapter", golden("lora-llama"));
    assert_int_equal(adapter_open(&a, p.model, path, false, &err), SAIL_FAILED);
    model_close(p.model);
}

static void write_text(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
}

static void same_file(const char *a, const char *b)
{
    char command[400];
    snprintf(command, sizeof command, "cmp %s/%s %s/%s", folder, a, folder, b);
    assert_int_equal(system(command), 0);
}

/* A run with every rule at once, from YAML, on a tied model: stopped and resumed it ends in the same bytes; its adapter goes on in another run. */
static void trained(void **state)
{
    (void)state;
    char base[4200];
    snprintf(base, sizeof base, "%s", repo_path("tests/golden/peft/qwen2-tied"));
    write_text("run.yaml", "method: dpo\nbatch: 2\nlr: 0.01\nschedule: constant\nmax_length: 32\ndtype: f32\nref_rule: ema\nref_decay: 0.5\nsave_steps: 2\n"
                           "lora_r: 3\nlora_dora: true\nlora_targets: [q_proj, v_proj, up_proj]\nlora_layers: [1]\nlora_exclude: v_proj\nlora_rank_pattern: {q_proj: 2}\n"
                           "lora_alpha_pattern:\n  1.mlp.up_proj: 2.5\nlora_modules_to_save: [embed_tokens, lm_head]\n");
    run_sail("align --config %s/run.yaml --model %s --data %s/data.jsonl --max-steps 4 --epochs 2 --out %s/whole --quiet", folder, base, base, folder);
    run_sail("align --config %s/run.yaml --model %s --data %s/data.jsonl --max-steps 2 --epochs 2 --out %s/parts --quiet", folder, base, base, folder);
    run_sail("align --config %s/run.yaml --model %s --data %s/data.jsonl --max-steps 4 --epochs 2 --out %s/parts --quiet --resume", folder, base, base, folder);
    same_file("whole/final/adapter_model.safetensors", "parts/final/adapter_model.safetensors");
    char path[200];
    struct safetensors s;
    snprintf(path, sizeof path, "%s/whole/final/adapter_model.safetensors", folder);
    assert_ok(safetensors_open(&s, path, err));
    assert_int_equal(s.n, 8);
    assert_int_equal(safetensors_find(&s, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight")->dim[0], 2);
    assert_int_equal(safetensors_find(&s, "base_model.model.model.layers.1.mlp.up_proj.lora_magnitude_vector")->dim[0], 24);
    assert_non_null(safetensors_find(&s, "base_model.model.lm_head.weight"));
    safetensors_close(&s);
    // The reference of a continued adapter is that adapter, so that the loss starts at log 2, whatever its file says of dropout; or the base with its own head, which is elsewhere.
    char command[400];
    snprintf(command, sizeof command, "sed -i 's/\"lora_dropout\": 0.0/\"lora_dropout\": 0.5/' %s/whole/final/adapter_config.json && grep -q 0.5 %s/whole/final/adapter_config.json", folder, folder);
    assert_int_equal(system(command), 0);
    for (int k = 0; k < 2; k++) {
        char *data, name[200];
        size_t n;
        run_sail("align --model %s --adapter %s/whole/final --data %s/data.jsonl --method dpo --max-steps 1 --batch 4 --max-length 32 --dtype f32 --out %s/on-%d --ref %s --quiet", base, folder, base,
                 folder, k, k ? "base" : "init");
        snprintf(name, sizeof name, "%s/on-%d/metrics.jsonl", folder, k);
        assert_ok(file_read(name, 1 << 20, &data, &n, err));
        json_t *first = json_loads(data, JSON_DISABLE_EOF_CHECK, NULL);
        const double loss = json_number_value(json_object_get(first, "loss"));
        assert_true(k ? fabs(loss - log(2)) > 1e-3 : fabs(loss - log(2)) < 1e-6);
        json_decref(first);
        free(data);
    }
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/sail-peft-%d", (int)getpid());
    mkdir(folder, 0700);
    const struct CMUnitTest tests[] = {cmocka_unit_test(log_probs), cmocka_unit_test(gradients), cmocka_unit_test(merged), cmocka_unit_test(written), cmocka_unit_test(chosen), cmocka_unit_test(refused_adapters), cmocka_unit_test(trained)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dir_remove(folder, NULL);
    return failed;
}
