/* Tensors that the weights have and the config knows nothing of: layers past its own are refused, other names warned of once, what is no weight stays silent. */
#define _GNU_SOURCE
#include "cli/program.h"

#include <jansson.h>

#include "io/safetensors.h"

/* A copy of a case in the folder's `name`, with a config of its own and tensors beside the case's. */
static void copy_case(const char *name, const char *which, const char *key, int value, const char *const *extra, int n_extra)
{
    char path[2400];
    shell("rm -rf %s/%s && cp -r %s/%s %s/%s && chmod -R u+w %s/%s", folder, name, repo_path("tests/golden/cases"), which, folder, name, folder, name);
    snprintf(path, sizeof path, "%s/%s/config.json", folder, name);
    json_t *config = json_load_file(path, 0, NULL);
    if (key) json_object_set_new(config, key, json_integer(value));
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
    if (!n_extra) return;
    struct safetensors s;
    struct tensor all[256];
    float values[4] = {0};
    snprintf(path, sizeof path, "%s/%s/model.safetensors", repo_path("tests/golden/cases"), which);
    assert_ok(safetensors_open(&s, path, err));
    assert_true(s.n + n_extra < 256);
    memcpy(all, s.tensor, (size_t)s.n * sizeof *all);
    for (int i = 0; i < n_extra; i++) all[s.n + i] = (struct tensor){.name = extra[i], .dtype = DTYPE_F32, .n_dim = 1, .dim = {4}, .data = values};
    snprintf(path, sizeof path, "%s/%s/model.safetensors", folder, name);
    assert_ok(safetensors_write(path, all, s.n + n_extra, NULL, 0, err));
    safetensors_close(&s);
}

static void assert_cut(const char *name, const char *key, int layers, const char *first)
{
    char says[200];
    snprintf(says, sizeof says, "%s is 1, but the weights have %d layers (the first tensor left over is '%s", key, layers, first);
    assert_status(run_sail("inspect %s/%s", folder, name), 1, name, says);
}

static void layers_past_the_config_are_refused(void **state)
{
    (void)state;
    copy_case("cut", "llama-gqa", "num_hidden_layers", 1, NULL, 0);
    assert_cut("cut", "num_hidden_layers", 3, "model.layers.1.");
    copy_case("cut", "gpt2", "n_layer", 1, NULL, 0);
    assert_cut("cut", "n_layer", 2, "transformer.h.1.");
}

/* A byte of the file, so far behind the first place where `what` stands. */
static void patch(const char *path, const char *what, size_t behind, char byte)
{
    char *data;
    size_t n;
    assert_ok(file_read(path, 1 << 28, &data, &n, err));
    char *at = memmem(data, n, what, strlen(what));
    assert_non_null(at);
    at[behind] = byte;
    assert_ok(file_replace(path, data, n, err));
    free(data);
}

static void layers_of_a_gguf_file_too(void **state)
{
    (void)state;
    char path[1200];
    snprintf(path, sizeof path, "%s/cut.gguf", folder);
    assert_run("convert --model %s/llama-gqa --out %s --dtype f32", repo_path("tests/golden/cases"), path);
    patch(path, "llama.block_count", strlen("llama.block_count") + 4, 1); // behind the key and its type
    assert_cut("cut.gguf", "block_count", 3, "model.layers.1.");
}

static int warnings(void)
{
    int n = 0;
    for (const char *at = output; (at = strstr(at, "sail: warning")); at++) n++;
    return n;
}

/* The command opens the model twice. */
static void unknown_names_are_warned_of_once(void **state)
{
    (void)state;
    static const char *const extra[] = {"model.layers.0.mlp.router.weight", "model.layers.0.self_attn.q_proj.bias", "adapter.weight"};
    copy_case("unknown", "llama-gqa", NULL, 0, extra, 3);
    assert_run("inspect %s/unknown", folder);
    if (warnings() != 1 || !strstr(output, ": 3 of ") || !strstr(output, "not used, '")) fail_msg("wanted one warning of 3 tensors: %s", output);
}

/* Rope factors under a name that nobody gives them. */
static void unknown_names_of_a_gguf_file_too(void **state)
{
    (void)state;
    char path[1200];
    copy_case("llama3", "llama-gqa", NULL, 0, NULL, 0);
    shell("sed -i 's/\"rope_type\": *\"default\"/\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32/' %s/llama3/config.json && "
          "grep -q llama3 %s/llama3/config.json", folder, folder);
    snprintf(path, sizeof path, "%s/llama3.gguf", folder);
    assert_run("convert --model %s/llama3 --out %s --dtype f32", folder, path);
    assert_run("inspect %s", path);
    assert_int_equal(warnings(), 0);
    patch(path, "rope_freqs.weight", 5, 'x');
    assert_run("inspect %s", path);
    if (warnings() != 1 || !strstr(output, "1 of ") || !strstr(output, "'rope_xreqs.weight' the first")) fail_msg("wanted one warning: %s", output);
}

static void what_is_no_weight_stays_silent(void **state)
{
    (void)state;
    static const char *const buffers[] = {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.7.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq", "score.weight"},
                      *const masks[] = {"transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"}, *const head[] = {"lm_head.weight"};
    const struct {
        const char *which;
        const char *const *extra;
        int n;
    } of[] = {{"llama-gqa", buffers, 4}, {"gpt2", masks, 2}, {"qwen2-seqcls", head, 1}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        copy_case("silent", of[i].which, NULL, 0, of[i].extra, of[i].n);
        assert_run("inspect %s/silent", folder);
        if (warnings()) fail_msg("%s: %s", of[i].which, output);
    }
    assert_run("convert --model %s/phi3-longrope --out %s/rope.gguf --dtype f32", repo_path("tests/golden/cases"), folder); // factors as tensors
    assert_run("inspect %s/rope.gguf", folder);
    assert_int_equal(warnings(), 0);
}

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-leftovers-%d", (int)getpid());
    return mkdir(folder, 0700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_past_the_config_are_refused), cmocka_unit_test(layers_of_a_gguf_file_too), cmocka_unit_test(unknown_names_are_warned_of_once),
                                       cmocka_unit_test(unknown_names_of_a_gguf_file_too), cmocka_unit_test(what_is_no_weight_stays_silent)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
