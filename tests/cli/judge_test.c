/* A language model as judge, from outside: Self-Rewarding by its name with the reference, the policy and a folder as judge, gone on with after a kill, answers without a verdict, refusals. */
#include "cli/program.h"

/* The judge's first letter is its verdict. */
static const char *align(const char *method)
{
    static char text[8192];
    snprintf(text, sizeof text, "align --model %s --prompts %s/prompts.jsonl --batch 4 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --schedule constant --lora-r 4 --judge-new-tokens 4 "
             "--dtype f32 --threads 1 --quiet --judge-rubric %s/letter.yaml --method %s", model, folder, folder, method);
    return text;
}

static void self_rewarding_runs_by_name(void **state)
{
    (void)state;
    assert_run("%s --out %s/self", align("self-rewarding"), folder);
    assert_true(16 - run_metric("self", "val/unlabelled", 4) - run_metric("self", "val/ties", 4) >= 3); // labelled ones
    assert_true(run_metric("self", "labels", 4) == 64);
    assert_run("%s --judge-model %s --out %s/folder", align("self-rewarding"), model, folder); // the reference has not moved: the base writes the same
    assert_same_file("self", "folder", "metrics.jsonl");
    assert_same_file("self", "folder", "checkpoints/step-4/params.safetensors");
    assert_run("%s --judge-model policy --lr 0.5 --out %s/policy", align("self-rewarding"), folder);
    assert_run("%s --lr 0.5 --out %s/still", align("self-rewarding"), folder);
    assert_true(run_metric("policy", "objective/scores", 1) == run_metric("still", "objective/scores", 1));
    char a[1100], b[1100];
    snprintf(a, sizeof a, "%s/policy/metrics.jsonl", folder);
    snprintf(b, sizeof b, "%s/still/metrics.jsonl", folder);
    char *one, *two;
    size_t n_one, n_two;
    assert_ok(file_read(a, 1 << 20, &one, &n_one, err));
    assert_ok(file_read(b, 1 << 20, &two, &n_two, err));
    assert_string_not_equal(one, two); // the policy has moved, and with it the judge
    free(one);
    free(two);
}

static void killed_runs_go_on_bit_for_bit(void **state)
{
    (void)state;
    static const char *const kinds[] = {"self-rewarding --ref-steps 3", "online-dpo --judge-model policy --judge-samples 2 --judge-temperature 1"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) assert_resumes(align(kinds[k]), "--threads 1");
}

/* The story model's context is shorter than the built-in rubric; and it never writes the words of another one. */
static void without_a_verdict_nothing_is_learnt(void **state)
{
    (void)state;
    static const char *const kinds[] = {"self-rewarding --judge-rubric points", "self-rewarding --judge-rubric FOLDER/score.yaml", "online-dpo --judge-model policy --judge-rubric pair"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char options[1400];
        snprintf(options, sizeof options, "%s", kinds[k]);
        char *at = strstr(options, "FOLDER");
        if (at) snprintf(at, sizeof options - (size_t)(at - options), "%s/score.yaml", folder);
        shell("rm -rf %s/mute", folder);
        assert_run("%s --max-steps 2 --out %s/mute", align(options), folder);
        assert_true(run_metric("mute", "val/unlabelled", 2) == 8 && run_metric("mute", "val/ties", 2) == 0);
        assert_true(run_metric("mute", "grad_norm", 1) == 0 && run_metric("mute", "grad_norm", 2) == 0);
    }
}

/* The judge that a method names is a default as any other. */
static void another_labeler_takes_its_place(void **state)
{
    (void)state;
    assert_run("%s --reward-rule %s --out %s/ruled", align("self-rewarding"), repo_path("examples/demo/happy.yaml"), folder);
    assert_run("%s --reward-rule %s --out %s/plain", align("dpo --mix-pr 1 --num-samples 0 --ref-samples 4 --ref-rule periodic --temperature 0.7 --top-p 0.9"), repo_path("examples/demo/happy.yaml"), folder);
    assert_same_file("ruled", "plain", "checkpoints/step-4/params.safetensors");
}

static void answers_in_files_are_judged(void **state)
{
    (void)state;
    assert_run("generate --model %s --prompts %s/prompts.jsonl --num-return 2 --max-new-tokens 12 --dtype f32 --seed 1 --out %s/answers.jsonl --quiet", model, folder, folder);
    for (int k = 1; k <= 2; k++)
        assert_run("label --model %s --prompts %s/prompts.jsonl --data %s/answers.jsonl --judge-model %s --judge-rubric %s/letter.yaml --judge-new-tokens 4 --pr-label soft --out %s/judged-%d.jsonl", model, folder,
                   folder, model, folder, folder, k);
    char path[1100], *data;
    size_t n;
    snprintf(path, sizeof path, "%s/judged-1.jsonl", folder);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    assert_true(n > 0 && (strstr(data, "\"p\": 0.5") || strstr(data, "\"p\": 1") || strstr(data, "\"p\": 0")));
    free(data);
    shell("cmp %s/judged-1.jsonl %s/judged-2.jsonl", folder, folder);
}

/* The memory plan holds every model that a run opens, and none twice. */
static void the_plan_counts_its_judges(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        bool judges, reference;
    } of[] = {{"online-dpo --judge-model MODEL", true, false}, {"online-dpo --judge-model policy", false, false}, {"online-dpo --lora-r 0 --full --judge-model policy", false, true}};
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        char options[2400];
        snprintf(options, sizeof options, "%s", of[k].options);
        char *at = strstr(options, "MODEL");
        if (at) snprintf(at, sizeof options - (size_t)(at - options), "%s", model);
        assert_run("%s --dry-run", align(options));
        char *plan = strstr(output, "\nmemory "), *end = plan ? strchr(plan + 1, '\n') : NULL;
        assert_non_null(end);
        *end = '\0';
        assert_int_equal(strstr(plan, ", judges ") != NULL, of[k].judges);
        assert_int_equal(strstr(plan, ", reference ") != NULL, of[k].reference);
        double parts = 0, together = 0;
        int n = 0;
        for (const char *part = plan; (part = strstr(part, " MiB")); part += 4, n++) {
            const char *number = part;
            while (number[-1] != ' ') number--;
            parts += together;
            together = atof(number);
        }
        assert_true(n > 5 && strstr(plan, ", sampling ") && strstr(plan, ", together "));
        assert_near(parts, together, 0.05 * n, 0); // each is rounded to a tenth
    }
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *options, *says;
    } refused[] = {
        {"self-rewarding --judge-model policy --reward-rule x.yaml", "one labeler at a time"},
        {"self-rewarding --judge-rubric /no/such/file", "points, aspect, pair or a file"},
        {"simpo --mix-pr 1 --judge-model reference", "there is no reference here: name the judge's folder, or take policy"},
        {"self-rewarding --judge-samples 0", "judge-samples"},
        {"self-rewarding --judge-temperature -1", "judge-temperature"},
    };
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        assert_refused(run_sail("%s --out %s/never", align(refused[k].options), folder), refused[k].options, refused[k].says);
    }
    assert_status(run_sail("%s --out %s/never", align("self-rewarding --judge-model /no/such/model"), folder), 1, "a judge's folder", "/no/such/model: expected a model folder or a .gguf file, got nothing there");
    assert_int_equal(run_sail("label --model %s --prompts %s/prompts.jsonl --data %s/prompts.jsonl --judge-model policy --out %s/never", model, folder, folder, folder), 2);
    assert_non_null(strstr(output, "nothing is trained here: name the judge's folder"));
    assert_run("reward --model %s --data %s/pairs.jsonl --full --max-steps 1 --batch 2 --quiet --out %s/scores", model, folder, folder);
    assert_int_equal(run_sail("%s --judge-model %s/scores/final --out %s/never", align("self-rewarding"), folder, folder), 2);
    assert_non_null(strstr(output, "give it as --reward-model"));
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("judge", 12)) return -1;
    shell("printf 'prompt: \"{question} {answer_a} {answer_b}\"\\nfirst: \"\\\\\\\\A *[A-Ma-m]\"\\nsecond: \"\\\\\\\\A *[N-Zn-z]\"\\n' > %s/letter.yaml", folder);
    shell("printf 'prompt: \"{question} {answer}\"\\npoints: \"Score: ([0-9]+)\"\\n' > %s/score.yaml", folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(self_rewarding_runs_by_name),     cmocka_unit_test(killed_runs_go_on_bit_for_bit), cmocka_unit_test(without_a_verdict_nothing_is_learnt),
                                       cmocka_unit_test(another_labeler_takes_its_place), cmocka_unit_test(answers_in_files_are_judged),   cmocka_unit_test(the_plan_counts_its_judges),    cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
