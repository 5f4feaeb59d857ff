/* sail convert to GGUF: the file is the same model with the same tokenizer, and the folder made from it again. What llama.cpp thinks of such a file is
 * in docs/formats.md. */
#include "cli/program.h"

#include "io/gguf.h"
#include "io/safetensors.h"

static int prepare(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-gguf-%d", (int)getpid());
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    shell("rm -rf %s && mkdir -p %s", folder, folder);
    char path[1100];
    snprintf(path, sizeof path, "%s/texts", folder);
    FILE *f = fopen(path, "w");
    fputs("Once upon a time, there was a little girl.\n  two blanks, caf\xC3\xA9 \xE6\xBC\xA2\xF0\x9F\x98\x80\n\t<s> 12,345 words\n\nend", f);
    fclose(f);
    snprintf(path, sizeof path, "%s/rows", folder);
    f = fopen(path, "w");
    fputs("{\"prompt\": \"Once upon a time\", \"completion\": \", there was a dog.\"}\n{\"prompt\": \"One day, Lily\", \"completion\": \" saw a big cat! She said \\\"hi\\\".\"}\n", f);
    fclose(f);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    shell("rm -rf %s", folder);
    return 0;
}

static void layouts_of_every_family_come_back(void **state)
{
    (void)state;
    static const char *const cases[] = {"llama-gqa", "gpt2", "gpt-neox", "phi3-longrope", "gemma-old-gelu", "olmo2", "smollm3-four", "stablelm-bias", "stablelm-12b", "granite-bias", "cohere"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char golden[1200];
        snprintf(golden, sizeof golden, "%s/%s", repo_path("tests/golden/cases"), cases[i]);
        assert_run("convert --model %s --out %s/%s.gguf --dtype f32", golden, folder, cases[i]);
        assert_run("convert --model %s/%s.gguf --out %s/%s", folder, cases[i], folder, cases[i]);
        assert_run("score --tokens --model %s --data %s/data.jsonl --out %s/a", golden, golden, folder);
        assert_run("score --tokens --model %s/%s.gguf --data %s/data.jsonl --out %s/b", folder, cases[i], golden, folder);
        assert_run("score --tokens --model %s/%s --data %s/data.jsonl --out %s/c", folder, cases[i], golden, folder);
        shell("test -s %s/a && cmp %s/a %s/b && cmp %s/a %s/c", folder, folder, folder, folder, folder);
    }
}

static void text_goes_through_the_file_as_through_the_folder(void **state)
{
    (void)state;
    assert_run("convert --model %s --out %s/stories.gguf", model, folder);
    assert_run("convert --model %s/stories.gguf --out %s/again.gguf", folder, folder);
    assert_run("convert --model %s/stories.gguf --out %s/half.gguf --dtype f16", folder, folder);
    shell("cmp %s/stories.gguf %s/again.gguf", folder, folder);
    const char *const names[] = {"stories.gguf", "half.gguf"};
    for (int special = 0; special < 2; special++)
        for (int i = 0; i < 2; i++) {
            assert_run("tokenize --model %s --text-file %s/texts %s > %s/t0", model, folder, special ? "--special" : "", folder);
            assert_run("tokenize --model %s/%s --text-file %s/texts %s > %s/t1", folder, names[i], folder, special ? "--special" : "", folder);
            shell("test -s %s/t0 && cmp %s/t0 %s/t1", folder, folder, folder);
        }
    assert_run("score --tokens --model %s --data %s/rows --out %s/a", model, folder, folder);
    assert_run("score --tokens --model %s/stories.gguf --data %s/rows --out %s/b", folder, folder, folder);
    shell("cmp %s/a %s/b", folder, folder);
}

static void an_adapter_is_merged_into_the_file(void **state)
{
    (void)state;
    char golden[1200];
    snprintf(golden, sizeof golden, "%s", repo_path("tests/golden/cases/lora-llama"));
    assert_run("convert --model %s --merge %s/adapter --out %s/merged.gguf", golden, golden, folder);
    assert_run("convert --model %s --merge %s/adapter --out %s/merged", golden, golden, folder);
    assert_run("score --model %s/merged.gguf --data %s/data.jsonl --out %s/a", folder, golden, folder);
    assert_run("score --model %s/merged --data %s/data.jsonl --out %s/b", folder, golden, folder);
    shell("test -s %s/a && cmp %s/a %s/b", folder, folder, folder);
}

enum head { NO_HEAD, OTHER_HEAD, SAME_HEAD }; /* none; one that differs from the embeddings; the embeddings once more */

/* A golden case whose config.json ties the head or does not, with such a head in its file. */
static void make_head(const char *name, bool tied, enum head head)
{
    char path[1400];
    struct safetensors s;
    struct tensor tensor[64];
    int64_t n = 0;
    const struct tensor *embed = NULL;
    snprintf(path, sizeof path, "%s/%s/model.safetensors", repo_path("tests/golden/cases"), name);
    assert_ok(safetensors_open(&s, path, err));
    assert_true(s.n < 64);
    for (int64_t i = 0; i < s.n; i++)
        if (strstr(s.tensor[i].name, "embed_")) embed = strstr(s.tensor[i].name, "embed_out") ? embed : &s.tensor[i];
    assert_true(embed && embed->dtype == DTYPE_F32);
    for (int64_t i = 0; i < s.n; i++)
        if (!strstr(s.tensor[i].name, "lm_head") && !strstr(s.tensor[i].name, "embed_out")) tensor[n++] = s.tensor[i];
    const int64_t count = tensor_count(embed);
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    memcpy(values, embed->data, (size_t)count * sizeof *values);
    if (head == OTHER_HEAD) values[count / 2] += 1;
    if (head != NO_HEAD) {
        tensor[n] = *embed;
        tensor[n].name = strcmp(name, "gpt-neox") ? "lm_head.weight" : "embed_out.weight";
        tensor[n++].data = values;
    }
    shell("rm -rf %s/tie %s/tie.gguf && mkdir %s/tie", folder, folder, folder);
    snprintf(path, sizeof path, "%s/tie/model.safetensors", folder);
    assert_ok(safetensors_write(path, tensor, n, NULL, 0, err));
    shell("sed 's/\"tie_word_embeddings\": [a-z]*/\"tie_word_embeddings\": %s/' %s/%s/config.json > %s/tie/config.json", tied ? "true" : "false", repo_path("tests/golden/cases"), name, folder);
    free(values);
    safetensors_close(&s);
}

static bool has_output(void)
{
    char path[1400];
    struct gguf *g;
    snprintf(path, sizeof path, "%s/tie.gguf", folder);
    assert_ok(gguf_open(&g, path, err));
    const bool found = gguf_tensor_find(g, "output.weight");
    gguf_close(g);
    return found;
}

/* llama.cpp loads no file of some families without a head, of others none with one. */
static void heads_are_where_llama_cpp_wants_them(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum head head;
        bool in_file;
    } tied[] = {{"olmo2", NO_HEAD, true}, {"olmo2", SAME_HEAD, true}, {"olmo2", OTHER_HEAD, true}, {"stablelm-bias", NO_HEAD, true}, {"gpt-neox", NO_HEAD, true},
                {"gpt-neox", SAME_HEAD, true}, {"llama-gqa", NO_HEAD, false}, {"llama-gqa", SAME_HEAD, false}, {"llama-gqa", OTHER_HEAD, true}, {"cohere", SAME_HEAD, false}};
    for (size_t i = 0; i < sizeof tied / sizeof *tied; i++) {
        char data[1400];
        snprintf(data, sizeof data, "%s/%s/data.jsonl", repo_path("tests/golden/cases"), tied[i].name);
        make_head(tied[i].name, true, tied[i].head);
        assert_run("convert --model %s/tie --out %s/tie.gguf", folder, folder);
        assert_run("score --tokens --model %s/tie --data %s --out %s/a", folder, data, folder);
        assert_run("score --tokens --model %s/tie.gguf --data %s --out %s/b", folder, data, folder);
        shell("test -s %s/a && cmp %s/a %s/b", folder, folder, folder);
        assert_int_equal(has_output(), tied[i].in_file);
    }
    make_head("cohere", false, SAME_HEAD);
    assert_int_equal(run_sail("convert --model %s/tie --out %s/tie.gguf", folder, folder), 1);
    assert_non_null(strstr(output, "\"tie_word_embeddings\" false has no GGUF form for cohere"));
    make_head("cohere", true, OTHER_HEAD);
    assert_int_equal(run_sail("convert --model %s/tie --out %s/tie.gguf", folder, folder), 1);
    assert_non_null(strstr(output, "\"tie_word_embeddings\" false has no GGUF form for cohere"));
    shell("test ! -e %s/tie.gguf", folder);
}

static void what_gguf_cannot_say_is_refused(void **state)
{
    (void)state;
    const char *const cases = repo_path("tests/golden/cases");
    char all[1200];
    snprintf(all, sizeof all, "%s", cases);
    static const char *const bad[][2] = {{"smollm3", "no_rope_layers[1]: expected 1"}, {"cohere-norms", "\"attention_bias\" true has no GGUF form"}, {"llama-dynamic", "'dynamic' has no GGUF form"},
                                         {"llama-relu", "'relu': expected silu"}, {"neox-odd", "'gelu_new': expected gelu"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(run_sail("convert --model %s/%s --out %s/no.gguf", all, bad[i][0], folder), 1);
        if (!strstr(output, bad[i][1])) fail_msg("%s: \"%s\" does not say %s", bad[i][0], output, bad[i][1]);
    }
    assert_int_equal(run_sail("convert --model %s/qwen2-seqcls --out %s/no.gguf", all, folder), 2);
    assert_non_null(strstr(output, "reward models have no GGUF form"));
    assert_int_equal(run_sail("convert --model %s --out %s/missing/no.gguf", model, folder), 1);
    shell("test ! -e %s/no.gguf && ! ls %s | grep -q tmp", folder, folder);
    shell("touch %s/there.gguf", folder);
    assert_int_equal(run_sail("convert --model %s --out %s/there.gguf", model, folder), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_of_every_family_come_back),
        cmocka_unit_test(text_goes_through_the_file_as_through_the_folder),
        cmocka_unit_test(an_adapter_is_merged_into_the_file),
        cmocka_unit_test(heads_are_where_llama_cpp_wants_them),
        cmocka_unit_test(what_gguf_cannot_say_is_refused),
    };
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
