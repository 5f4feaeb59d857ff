/* sail bench from outside: what a step takes, and that it says all of it. */
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

/* Each mode says what was asked of it, as text and for programs: rates, phases, useful work and its share of the peak, memory, allocations, the machine. */
static void every_mode_says_all(void **state)
{
    (void)state;
    static const struct {
        const char *what, *options, *phases[9];
        bool pairs;
    } of[] = {
        {"train", "--lora-r 4", {"data", "sample", "label", "score", "forward", "backward", "optimizer", "io", NULL}, true},
        {"score", "", {"data", "score", NULL}, true},
        {"generate", "--prompt-length 9 --max-new-tokens 12", {"prefill", "decode", NULL}, false},
    };
    static const char *const above_zero[] = {"tokens_per_s", "s_per_step", "useful_gflops", "peak_gflops", "share_of_peak", "gflop_per_step", "peak_rss_mib"},
                      *const said[] = {"tokens/s", "GFLOP/s", "% of", "peak memory MiB", "allocations a", " cores, ", " MiB, "};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        json_t *j = bench(of[k].what, of[k].options), *ms = json_object_get(j, "ms_per_step"), *machine = json_object_get(j, "machine");
        double phases = 0;
        for (size_t i = 0; i < sizeof above_zero / sizeof *above_zero; i++)
            if (!(number(j, above_zero[i]) > 0)) fail_msg("%s: %s is %g", of[k].what, above_zero[i], number(j, above_zero[i]));
        assert_true(number(j, "pairs_per_s") > 0 || !of[k].pairs);
        assert_near(number(j, "allocations_per_step"), 0, 0, 0);
        for (const char *const *phase = of[k].phases; *phase; phase++) phases += number(ms, *phase);
        assert_int_equal(json_object_size(ms), k == 0 ? 8 : 2);
        assert_true(phases > 0);
        if (!of[k].pairs) assert_near(phases, 1e3 * number(j, "s_per_step"), 0, 1e-4); // of the same run; in other modes some of a step is of no phase
        assert_true(number(machine, "cores") > 0 && number(machine, "memory_mib") > 0 && json_is_string(json_object_get(machine, "processor")) && json_is_string(json_object_get(machine, "instructions")));
        json_decref(j);
        assert_run("bench %s --model %s --data %s/pairs.jsonl --batch 4 --steps 2 --max-length 64 --dtype f32 --threads 1 %s", of[k].what, model, folder, of[k].options);
        for (size_t i = 0; i < sizeof said / sizeof *said; i++)
            if (!strstr(output, said[i])) fail_msg("%s: no '%s' in %s", of[k].what, said[i], output);
        if (of[k].pairs) assert_non_null(strstr(output, "pairs/s"));
    }
    assert_run("bench tokenize --model %s --text-file %s/prompts.jsonl --steps 2 --json", model, folder);
    json_t *j = json_loads(output, 0, NULL);
    assert_true(number(j, "tokens_per_s") > 0 && number(j, "peak_rss_mib") > 0 && json_is_object(json_object_get(j, "machine")));
    json_decref(j);
}

/* A timed step is one of a run's first epoch; where the reference knows the rows, as in the second, one pass of three is neither made nor counted. */
static void a_known_reference_saves_its_pass(void **state)
{
    (void)state;
    double gflop[2];
    for (int known = 0; known < 2; known++) { // the two steps to warm up meet all rows
        assert_run("bench train --model %s --data %s/pairs.jsonl --batch 30 --lora-r 4 --steps 2 --max-length 64 --dtype f32 --threads 1 --json --quiet %s", model, folder, known ? "--reference-known" : "");
        json_t *j = json_loads(output, 0, NULL);
        gflop[known] = number(j, "gflop_per_step");
        json_decref(j);
    }
    assert_near(gflop[1] / gflop[0], 2.0 / 3, 0, 1e-5); // printed to so many digits
}

static void help_says_what_is_printed(void **state)
{
    (void)state;
    static const char *const said[] = {"pairs_per_s", "tokens_per_s", "s_per_step", "ms_per_step", "useful_gflops", "peak_gflops", "share_of_peak", "gflop_per_step", "peak_rss_mib", "allocations_per_step", "machine",
                                       "data, sample, label, score, forward", "prefill and decode", "data and score", "tokenize"};
    assert_run("bench --help");
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (!strstr(output, said[i])) fail_msg("--help: no '%s'", said[i]);
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("bench", 24)) return -1;
    return run_sail("reward --model %s --data %s/pairs.jsonl --full --max-steps 1 --batch 2 --max-length 64 --dtype f32 --out %s/judge --quiet", model, folder, folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_allocates_nothing), cmocka_unit_test(every_mode_says_all), cmocka_unit_test(a_known_reference_saves_its_pass), cmocka_unit_test(help_says_what_is_printed)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
