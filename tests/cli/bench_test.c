/* sail bench from outside: what a step takes. */
#include "cli/program.h"

#include <jansson.h>

static json_t *bench(const char *what, const char *options)
{
    assert_run("bench %s --model %s --data %s/pairs.jsonl --batch 4 --steps 4 --max-length 64 --dtype f32 --threads 1 --json %s", what, model, folder, options);
    json_error_t why;
    json_t *j = json_loads(output, 0, &why);
    if (!j) fail_msg("%s: %s", why.text, output);
    return j;
}

static double number(const json_t *j, const char *key)
{
    if (!json_is_number(json_object_get(j, key))) fail_msg("no number '%s'", key);
    return json_number_value(json_object_get(j, key));
}

/* After the steps that warm up every buffer has a home: sampled answers, their texts, labels and scores ask the system for no memory. Answers are of few tokens, so that the first step's buffers
 * hold the texts of all. */
static void a_step_allocates_nothing(void **state)
{
    (void)state;
    char rule[2200], judge[2200];
    snprintf(rule, sizeof rule, "--reward-rule %s", repo_path("examples/demo/happy.yaml"));
    snprintf(judge, sizeof judge, "--reward-model %s/judge/final", folder);
    const struct {
        const char *method, *labeler;
    } of[] = {{"dpo", ""}, {"sail-pr", rule}, {"sail-pp", rule}, {"sail-dp", rule}, {"online-dpo", rule}, {"grpo", rule}, {"xpo", rule}, {"nash-md", rule}, {"dno", rule},
              {"sail-pr --mix-pr 1", judge}, {"online-dpo", judge}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        char options[6000];
        snprintf(options, sizeof options, "--method %s %s --max-new-tokens 12 --lora-r 4", of[k].method, of[k].labeler);
        json_t *j = bench("train", options);
        if (number(j, "allocations_per_step") != 0) fail_msg("%s: %g allocations a step", options, number(j, "allocations_per_step"));
        json_decref(j);
    }
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("bench", 24)) return -1;
    return run_sail("reward --model %s --data %s/pairs.jsonl --full --max-steps 1 --batch 2 --max-length 64 --dtype f32 --out %s/judge --quiet", model, folder, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_allocates_nothing)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
