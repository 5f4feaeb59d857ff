/* Data as users bring it, through the program: a folder of Parquet shards under its own names gives what plain JSON lines give. */
#include "cli/program.h"

static void write_text(const char *name, const char *content)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_replace(path, content, strlen(content), err));
}

static void a_split_of_parquet_shards_scores_as_json_lines(void **state)
{
    (void)state;
    const char *data = repo_path("tests/golden/parquet/folder");
    write_text("pairs.jsonl", "{\"prompt\": \"Once there was a cat.\", \"chosen\": \" The cat was happy.\", \"rejected\": \" The end.\"}\n"
                              "{\"prompt\": \"Once there was a dog.\", \"chosen\": \" The dog was happy.\", \"rejected\": \" The end.\"}\n"
                              "{\"prompt\": \"Once there was a tree.\", \"chosen\": \" The tree was happy.\", \"rejected\": \" The end.\"}\n"
                              "{\"prompt\": \"Once there was a boat.\", \"chosen\": \" The boat was happy.\", \"rejected\": \" The end.\"}\n");
    write_text("run.yaml", "prompt_field: ask.question\nchosen_field: better\nrejected_field: worse\n");
    assert_run("score --model %s --data %s/pairs.jsonl --out %s/a.jsonl", model, folder, folder);
    assert_run("score --model %s --config %s/run.yaml --data %s:train --out %s/b.jsonl", model, folder, data, folder);
    assert_run("score --model %s --data %s/data:train --prompt-field ask.question --chosen-field better --rejected-field worse --out %s/c.jsonl", model, data, folder);
    shell("cmp %s/a.jsonl %s/b.jsonl && cmp %s/a.jsonl %s/c.jsonl", folder, folder, folder, folder);
}

/* Prompts need no other column; a run keeps the names. */
static void a_run_reads_its_files_by_their_names(void **state)
{
    (void)state;
    const char *data = repo_path("tests/golden/parquet/folder");
    write_text("questions.json", "[{\"ask\": {\"question\": \"Once there was a cat.\"}}]");
    assert_run("align --model %s --data %s:train --eval-data %s:test --prompts %s/questions.json --prompt-field ask.question --chosen-field better --rejected-field worse --method dpo "
               "--max-steps 2 --batch 2 --lora-r 2 --out %s/run --quiet",
               model, data, data, folder, folder);
    shell("grep -q 'prompt_field: \"ask.question\"' %s/run/config.yaml", folder);
    assert_run("generate --model %s --prompts %s/questions.json --prompt-field ask.question --max-new-tokens 3 --out %s/answers.jsonl", model, folder, folder);
}

static void mistakes(void **state)
{
    (void)state;
    const char *data = repo_path("tests/golden/parquet/folder");
    assert_int_equal(run_sail("score --model %s --data %s --out %s/x.jsonl", model, data, folder), 2);
    assert_non_null(strstr(output, "holds more than one split (test, train)"));
    assert_int_equal(run_sail("score --model %s --data %s:train --prompt-field question --out %s/x.jsonl", model, data, folder), 1);
    assert_non_null(strstr(output, "data/train-00000-of-00002.parquet:1: --prompt-field question: the row has no such column; it has: ask, better, worse"));
    assert_int_equal(run_sail("score --model %s --data %s --out %s/x.jsonl", model, repo_path("tests/golden/parquet/refused-delta.parquet"), folder), 1);
    assert_non_null(strstr(output, "column 'prompt' cannot be read: 'prompt' has the encoding DELTA_BYTE_ARRAY"));
}

static int set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sail-data-%ld", (long)getpid());
    snprintf(model, sizeof model, "%s", repo_path("examples/demo/stories260K"));
    return dir_create(folder, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    return dir_remove(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_split_of_parquet_shards_scores_as_json_lines), cmocka_unit_test(a_run_reads_its_files_by_their_names), cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
