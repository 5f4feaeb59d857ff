/* Reward models as labelers: with a tokenizer of their own they read what the policy's says, the end of an answer among it; what cannot be read is refused. */
#include "cli/program.h"

#include <jansson.h>

static void label(const char *answers, const char *judge, const char *out)
{
    assert_run("label --model %s --prompts %s/prompts.jsonl --data %s/%s --reward-model %s/%s --out %s/%s --quiet", model, folder, folder, answers, folder, judge, folder, out);
}

/* The same tokenizer in other bytes goes the long way, over texts. Most answers come back as the ids that they were. */
static void texts_end_where_answers_do(void **state)
{
    (void)state;
    assert_run("reward --model %s --data %s/pairs.jsonl --out %s/judge --full --dtype f32 --lr 1e-3 --batch 4 --max-steps 3 --threads 1 --quiet", model, folder, folder);
    shell("cp -r %s/judge/final %s/other && echo >> %s/other/tokenizer.json && cp -r %s/judge/final %s/same", folder, folder, folder, folder, folder);
    shell("sed 's/\\], \"logp\"/, 2], \"logp\"/; s/\"finish\": \"length\"/\"finish\": \"eos\"/' %s/answers.jsonl > %s/ended.jsonl", folder, folder);
    static const char *const answers[] = {"answers.jsonl", "ended.jsonl"};
    for (int k = 0; k < 2; k++) {
        char path[2][1100], *data[2], *rest[2];
        size_t n;
        label(answers[k], "same", "by-ids.jsonl");
        label(answers[k], "other", "by-texts.jsonl");
        int same = 0, lines = 0;
        for (int f = 0; f < 2; f++) {
            snprintf(path[f], sizeof path[f], "%s/by-%s.jsonl", folder, f ? "texts" : "ids");
            assert_ok(file_read(path[f], 1 << 20, &data[f], &n, err));
        }
        char *a = strtok_r(data[0], "\n", &rest[0]), *b = strtok_r(data[1], "\n", &rest[1]);
        for (; a && b; a = strtok_r(NULL, "\n", &rest[0]), b = strtok_r(NULL, "\n", &rest[1]), lines++) same += !strcmp(a, b);
        if (same <= lines / 2 || !lines) fail_msg("%s: %d of %d pairs are judged alike", answers[k], same, lines);
        free(data[0]);
        free(data[1]);
    }
    // `sail score` says the same of the rows.
    char path[1100], *data, *rest;
    size_t n;
    assert_run("score --model %s/same --data %s/by-ids.jsonl --out %s/scores.jsonl --threads 1", folder, folder, folder);
    snprintf(path, sizeof path, "%s/scores.jsonl", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    FILE *rows = NULL;
    snprintf(path, sizeof path, "%s/by-ids.jsonl", folder);
    rows = fopen(path, "r");
    assert_non_null(rows);
    for (char *line = strtok_r(data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *score = json_loads(line, 0, NULL), *row = json_loadf(rows, JSON_DISABLE_EOF_CHECK, NULL);
        assert_near(json_number_value(json_object_get(score, "chosen_score")) - json_number_value(json_object_get(score, "rejected_score")), json_number_value(json_object_get(row, "margin")), 1e-7, 1e-5);
        json_decref(score);
        json_decref(row);
    }
    fclose(rows);
    free(data);
}

static void unreadable_ids_are_refused(void **state)
{
    (void)state;
    const char *ids = repo_path("tests/golden/cases/llama-gqa");
    assert_refused(run_sail("align --method online-dpo --model %s --prompts %s/data.jsonl --reward-model %s/same --max-steps 1 --max-new-tokens 4 --out %s/never", ids, ids, folder, folder), "a policy without a tokenizer", "has none to make texts of its ids");
    assert_refused(run_sail("align --method online-dpo --model %s --prompts %s/prompts.jsonl --reward-model %s --max-steps 1 --out %s/never", model, folder, repo_path("tests/golden/cases/qwen2-seqcls"), folder),
                   "a reward model without a tokenizer", "knows 128 ids where that has 512");
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("reward-model", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts_end_where_answers_do), cmocka_unit_test(unreadable_ids_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
