/* sail convert between folders: shards and their index, files copied unchanged, reward models under the names of their classes. */
#include "cli/program.h"

#include <jansson.h>

#include "io/safetensors.h"

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-convert-%d", (int)getpid());
    snprintf(model, sizeof model, "%s", repo_path("tests/golden/cases/llama-gqa"));
    shell("rm -rf %s && mkdir -p %s", folder, folder);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    shell("rm -rf %s", folder);
    return 0;
}

static json_t *json_of(const char *name)
{
    char path[3600];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    json_error_t why;
    json_t *j = json_load_file(path, 0, &why);
    if (!j) fail_msg("%s: %s", path, why.text);
    return j;
}

static void shards_are_the_model_in_pieces(void **state)
{
    (void)state;
    const double limit = 20e3;
    assert_run("convert --model %s --out %s/one", model, folder);
    assert_run("convert --model %s --out %s/many --max-shard-gb %g", model, folder, limit / 1e9);
    assert_run("convert --model %s/many --out %s/again", folder, folder);
    assert_same_file("one", "again", "model.safetensors");
    shell("test ! -e %s/many/model.safetensors && test ! -e %s/one/model.safetensors.index.json", folder, folder);
    // The index: every tensor once, in the file that has it, and the sum of their sizes.
    json_t *index = json_of("many/model.safetensors.index.json"), *value;
    json_t *map = json_object_get(index, "weight_map");
    const char *name;
    json_int_t bytes = 0;
    size_t n = 0;
    char path[2400];
    json_object_foreach(map, name, value)
    {
        struct safetensors s;
        snprintf(path, sizeof path, "%s/many/%s", folder, json_string_value(value));
        assert_ok(safetensors_open(&s, path, err));
        const struct tensor *t = safetensors_find(&s, name);
        assert_non_null(t);
        bytes += (json_int_t)((size_t)tensor_count(t) * dtype_size(t->dtype));
        int64_t sum = 0;
        for (int64_t i = 0; i < s.n; i++) sum += tensor_count(&s.tensor[i]) * (int64_t)dtype_size(s.tensor[i].dtype);
        assert_true(sum <= limit || s.n == 1);
        safetensors_close(&s);
        n++;
    }
    assert_true(n > 10);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")), bytes);
    json_decref(index);
}

static void other_files_are_copied_unchanged(void **state)
{
    (void)state;
    shell("cp -r %s %s/source && printf '{ \"eos_token_id\" :[2,3],\\n\"temperature\":0.6 }' > %s/source/generation_config.json", model, folder, folder);
    assert_run("convert --model %s/source --out %s/copy --dtype bf16", folder, folder);
    assert_same_file("source", "copy", "generation_config.json");
}

/* A reward model again under another class: the tensor's name and the config change, the scores do not. */
static void rename_class(const char *to, const char *class, const char *head, const char *key, json_t *value)
{
    char path[2400];
    shell("mkdir -p %s/%s && cp %s/config.json %s/data.jsonl %s/%s", folder, to, repo_path("tests/golden/cases/qwen2-seqcls"), repo_path("tests/golden/cases/qwen2-seqcls"), folder, to);
    struct safetensors s;
    assert_ok(safetensors_open(&s, repo_path("tests/golden/cases/qwen2-seqcls/model.safetensors"), err));
    for (int64_t i = 0; i < s.n; i++)
        if (!strcmp(s.tensor[i].name, "score.weight")) s.tensor[i].name = (char *)(uintptr_t)head;
    snprintf(path, sizeof path, "%s/%s/model.safetensors", folder, to);
    assert_ok(safetensors_write(path, s.tensor, s.n, NULL, 0, err));
    safetensors_close(&s);
    snprintf(path, sizeof path, "%s/config.json", to);
    json_t *config = json_of(path);
    json_object_set_new(config, "architectures", json_pack("[s]", class));
    json_object_del(config, "id2label");
    if (key) json_object_set_new(config, key, value);
    snprintf(path, sizeof path, "%s/%s/config.json", folder, to);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

static void reward_models_of_every_class_score_alike(void **state)
{
    (void)state;
    const char *plain = repo_path("tests/golden/cases/qwen2-seqcls");
    assert_run("score --model %s --data %s/data.jsonl --out %s/a", plain, plain, folder);
    rename_class("beaver", "LlamaModelForScore", "score_head.weight", "score_dim", json_integer(1));
    rename_class("eurus", "EurusRewardModel", "regression_head.weight", NULL, NULL);
    assert_run("score --model %s/beaver --data %s/beaver/data.jsonl --out %s/b", folder, folder, folder);
    assert_run("score --model %s/eurus --data %s/eurus/data.jsonl --out %s/c", folder, folder, folder);
    shell("test -s %s/a && cmp %s/a %s/b && cmp %s/a %s/c", folder, folder, folder, folder, folder);
    // What such a class can be told to do and is not done here.
    rename_class("normalised", "LlamaModelForScore", "score_head.weight", "do_normalize", json_true());
    assert_int_equal(run_sail("score --model %s/normalised --data %s/beaver/data.jsonl --out %s/no", folder, folder, folder), 1);
    assert_non_null(strstr(output, "do_normalize"));
    rename_class("wide", "LlamaModelForScore", "score_head.weight", "score_dim", json_integer(3));
    assert_int_equal(run_sail("score --model %s/wide --data %s/beaver/data.jsonl --out %s/no", folder, folder, folder), 1);
    assert_non_null(strstr(output, "one score, this one has 3"));
}

static void eight_bits_are_for_gguf(void **state)
{
    (void)state;
    assert_int_equal(run_sail("convert --model %s --out %s/no --dtype q8_0", model, folder), 2);
    assert_non_null(strstr(output, "give --out FILE.gguf"));
    assert_run("convert --model %s --out %s/q8.gguf --dtype q8_0", model, folder);
    assert_run("score --model %s/q8.gguf --data %s/data.jsonl --out %s/d", folder, model, folder);
    assert_run("score --model %s --data %s/data.jsonl --out %s/e", model, model, folder);
    shell("! cmp -s %s/d %s/e", folder, folder);
    assert_int_equal(run_sail("score --model %s --data %s/data.jsonl --dtype q8_0", model, model), 2);
}

static void inspect_tells_what_a_model_is(void **state)
{
    (void)state;
    assert_run("inspect %s --json > %s/inspect.json", model, folder);
    json_t *j = json_of("inspect.json");
    assert_string_equal(json_string_value(json_object_get(j, "family")), "llama");
    const json_int_t n = json_integer_value(json_object_get(j, "parameters"));
    assert_true(n > 10000);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "types"), "F32")), n);
    assert_true(json_is_null(json_object_get(j, "tokenizer")));
    json_decref(j);
    assert_run("convert --model %s --out %s/inspect.gguf --dtype q8_0", model, folder);
    assert_run("inspect %s/inspect.gguf", folder);
    assert_non_null(strstr(output, "GGUF file"));
    assert_non_null(strstr(output, "\"Q8_0\":"));
    assert_int_equal(run_sail("inspect"), 2);
    assert_int_equal(run_sail("inspect %s/nothing", folder), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shards_are_the_model_in_pieces), cmocka_unit_test(other_files_are_copied_unchanged),
        cmocka_unit_test(reward_models_of_every_class_score_alike), cmocka_unit_test(eight_bits_are_for_gguf),
        cmocka_unit_test(inspect_tells_what_a_model_is),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
