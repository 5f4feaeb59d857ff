/* Several labelers as one, from outside: what they say together against single labelers, evaluators of every kind, AIME by its name, gone on with after a kill, refusals. */
#include "cli/program.h"

/* The text with the folder for @ and the model for ~; it lives until the next but seven. */
static const char *at(const char *fmt)
{
    static char text[8][8192];
    static int turn;
    turn = (turn + 1) % 8;
    size_t n = 0;
    for (; *fmt; fmt++) {
        const char *more = *fmt == '@' ? folder : *fmt == '~' ? model : NULL;
        const size_t k = more ? strlen(more) : 1;
        assert_true(n + k < sizeof text[0]);
        memcpy(text[turn] + n, more ? more : fmt, k);
        n += k;
    }
    text[turn][n] = '\0';
    return text[turn];
}

static void put(const char *name, const char *fmt)
{
    char path[1200];
    const char *text = at(fmt);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_replace(path, text, strlen(text), err));
}

/* Pairs of the answers in answers.jsonl by a labeler; how many lines. */
static int label(const char *out, const char *options)
{
    assert_run("label --model %s --prompts %s/prompts.jsonl --data %s/answers.jsonl --out %s/%s %s", model, folder, folder, folder, out, at(options));
    char path[1200], *data;
    size_t n;
    int lines = 0;
    snprintf(path, sizeof path, "%s/%s", folder, out);
    assert_ok(file_read(path, 1 << 20, &data, &n, err));
    for (size_t i = 0; i < n; i++) lines += data[i] == '\n';
    free(data);
    return lines;
}

static void together_they_are_the_sum_rule(void **state)
{
    (void)state;
    put("two.yaml", "evaluators:\n  - {name: long, reward_rule: @/long.yaml}\n  - {name: vowels, reward_rule: @/vowels.yaml, weight: 3}\n");
    put("sum.yaml", "rules:\n  - {kind: characters, weight: 0.25}\n  - {kind: regex, pattern: '[aeiou]', weight: 0.75}\n");
    assert_true(label("two.jsonl", "--evaluators @/two.yaml") >= 12);
    label("sum.jsonl", "--reward-rule @/sum.yaml");
    shell("cmp %s/two.jsonl %s/sum.jsonl", folder, folder);
    put("one.yaml", "evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, reward_rule: @/long.yaml}\n");
    label("least.jsonl", "--evaluators @/one.yaml --reward-combine min");
    label("long.jsonl", "--reward-rule @/long.yaml");
    shell("cmp %s/least.jsonl %s/long.jsonl", folder, folder);
}

/* Programs are evaluators too; each is told its own name with the request. One that says nothing leaves nothing labelled, or has no say. */
static void silence_is_no_verdict(void **state)
{
    (void)state;
    put("mute.yaml", "evaluators:\n  - {name: long, reward_rule: @/long.yaml}\n  - {name: mute, labeler_command: \"sed -u s/.*/nothing/\"}\n");
    assert_int_equal(label("mute.jsonl", "--evaluators @/mute.yaml"), 0);
    assert_true(label("heard.jsonl", "--evaluators @/mute.yaml --quorum 1") > 0);
    shell("cmp %s/heard.jsonl %s/long.jsonl", folder, folder);
    put("named.sh", "while read -r line; do\n case \"$line\" in\n  '{\"id\": \"'$1:*) id=${line#*: ?}; echo \"{\\\"id\\\": \\\"${id%%\\\"*}\\\", $2}\";;\n  *) echo nothing;;\n esac\ndone\n");
    put("named.yaml", "evaluators:\n"
                      "  - {name: a, labeler_command: 'sh @/named.sh a ''\"rewards\": [1, 0]'''}\n"
                      "  - {name: b, labeler_command: 'sh @/named.sh b ''\"p\": 0.25'''}\n");
    const int n = label("named.jsonl", "--evaluators @/named.yaml --reward-combine vote --pr-label soft");
    assert_true(n >= 12);
    shell("test $(grep -c '\"p\": 0.625, ' %s/named.jsonl) = %d", folder, n);
    assert_int_equal(label("half.jsonl", "--evaluators @/named.yaml --reward-combine mean"), 0); // b gives no rewards
    assert_non_null(strstr(output, "evaluator b says which of two answers wins and gives no rewards"));
}

static const char *align(const char *method)
{
    static char text[8192];
    snprintf(text, sizeof text, "%s --method %s", at("align --model ~ --prompts @/prompts.jsonl --batch 4 --max-steps 4 --save-steps 2 --max-length 64 --max-new-tokens 12 --lr 1e-2 --schedule constant --lora-r 4 "
             "--dtype f32 --threads 1 --quiet"), at(method));
    return text;
}

/* Rules, a reward model, a judge of pairs in two roles and the policy, each with a say; the judge's models are the same one. */
static void every_kind_has_a_say(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) assert_run("reward --model %s --data %s/pairs.jsonl --full --max-steps 2 --batch 4 --lr 1e-3 --seed %d --dtype f32 --quiet --threads 1 --out %s/scores%d", model, folder, k, folder, k);
    put("kinds.yaml", "evaluators:\n"
                      "  - {name: rule, reward_rule: @/vowels.yaml, weight: 0.5}\n"
                      "  - {name: scores, reward_model: @/scores0/final}\n"
                      "  - {name: cost, reward_model: \"@/scores0/final,@/scores1/final\", reward_sign: -1, reward_combine: min, weight: 0.25}\n"
                      "  - {name: plot, judge_role: Look at the plot., judge_temperature: 1}\n"
                      "  - {name: style, judge_role: Look at the style., judge_temperature: 1}\n"
                      "  - {name: self, judge_model: policy}\n");
    assert_resumes(align("online-dpo --evaluators @/kinds.yaml --judge-model ~ --judge-rubric @/letter.yaml --judge-new-tokens 4 --reward-combine vote --pr-label soft --quorum 3"), "--threads 1");
    assert_true(16 - run_metric("straight", "val/unlabelled", 4) >= 12);
}

static void aime_runs_by_name(void **state)
{
    (void)state;
    static const char aime[] = "aime --judge-rubric @/letter.yaml --judge-new-tokens 4 --reward-combine vote --quorum 1 --judge-temperature 1";
    assert_resumes(align(aime), "--threads 1");
    assert_true(16 - run_metric("straight", "val/unlabelled", 4) - run_metric("straight", "val/ties", 4) >= 3);
    assert_run("%s --judge-model %s --out %s/folder", align(aime), model, folder); // the reference has not moved: the base writes the same
    assert_same_file("straight", "folder", "checkpoints/step-4/params.safetensors");
    assert_run("%s --max-steps 1 --judge-new-tokens 4 --out %s/mute", align("aime"), folder); // the story model writes no points
    assert_true(run_metric("mute", "val/unlabelled", 1) == 4 && run_metric("mute", "grad_norm", 1) == 0);
    // Another labeler takes the evaluators' place, other evaluators their place.
    put("twice.yaml", "evaluators:\n  - {name: a, reward_rule: @/vowels.yaml}\n  - {name: b, reward_rule: @/vowels.yaml}\n");
    assert_run("%s --out %s/plain", align("dpo --mix-pr 1 --reward-rule @/vowels.yaml"), folder);
    assert_run("%s --out %s/ruled", align("aime --reward-rule @/vowels.yaml"), folder);
    assert_run("%s --out %s/twice", align("aime --evaluators @/twice.yaml"), folder);
    assert_same_file("ruled", "plain", "checkpoints/step-4/params.safetensors");
    assert_same_file("twice", "plain", "checkpoints/step-4/params.safetensors");
}

static void bad_configurations_are_refused(void **state)
{
    (void)state;
    put("rules.yaml", "evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, reward_rule: @/vowels.yaml, weight: 2}\n");
    static const struct {
        const char *file, *options, *says;
    } refused[] = {
        {NULL, "--evaluators /no/such/file", "/no/such/file"},
        {"evaluators: 3", "", "expected evaluators: a list of two or more"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n", "", "expected evaluators: a list of two or more"},
        {"roles: 3\nevaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, reward_rule: @/long.yaml}\n", "", "'roles': expected evaluators: and nothing beside it"},
        {"evaluators:\n  - {reward_rule: @/long.yaml}\n  - 3\n", "", "evaluator 1: expected a name"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: a, reward_rule: @/long.yaml}\n", "", "evaluator 2 (a): 'a' stands there twice"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, role: x}\n", "", "evaluator 2 (b): 'role' is not one of name, weight, or a labeler's options"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml, weight: 0}\n  - {name: b}\n", "", "evaluator 1 (a): weight: expected a number above 0"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, judge_role: Look.}\n", "", "evaluator 2 (b): expected a labeler, or --judge-model for those that name none"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, reward_rule: @/long.yaml, judge_model: x}\n", "", "evaluator 2 (b): one labeler for each evaluator, got 2"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, final_answer: none}\n", "", "evaluator 2 (b): expected a labeler"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, final_answer: majority}\n", "", "b: --final-answer majority"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, judge_samples: 0, judge_model: x}\n", "", "evaluator 2 (b): --judge-samples"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, reward_rule: /no/such/rule}\n", "", "b: /no/such/rule"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, evaluators: aime}\n", "", "'evaluators' is not one of"},
        {"evaluators:\n  - {name: a, reward_rule: @/long.yaml}\n  - {name: b, judge_rubric: @/letter.yaml}\n", "--judge-model ~", "b: it compares two answers, and --reward-combine mean is about rewards"},
        {NULL, "--evaluators @/rules.yaml --reward-combine min", "evaluator b has weight 2, which the least of all has no place for"},
        {NULL, "--evaluators @/rules.yaml --quorum 3", "--quorum 3: there are 2 evaluators"},
        {NULL, "--evaluators @/rules.yaml --reward-rule @/long.yaml", "one labeler at a time"},
        {NULL, "--reward-rule @/long.yaml --quorum 1", "there is one labeler"},
        {NULL, "--evaluators aime", "give --judge-model"},
        {NULL, "--evaluators aime --judge-model ~ --judge-role x", "has roles of its own"},
        {NULL, "--reward-model x,x", "'x' stands there twice"},
        {NULL, "--reward-model x,,y", "a name between the commas is empty"},
    };
    for (size_t k = 0; k < sizeof refused / sizeof *refused; k++) {
        if (refused[k].file) put("bad.yaml", refused[k].file);
        const int status = run_sail("label --model %s --prompts %s/prompts.jsonl --data %s/answers.jsonl --out %s/never %s %s", model, folder, folder, folder, at(refused[k].options),
                                     refused[k].file ? at("--evaluators @/bad.yaml") : "");
        assert_refused(status, refused[k].file ? refused[k].file : refused[k].options, refused[k].says);
    }
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("ensemble", 12)) return -1;
    put("long.yaml", "rules:\n  - {kind: characters}\n");
    put("vowels.yaml", "rules:\n  - {kind: regex, pattern: '[aeiou]'}\n");
    put("letter.yaml", "prompt: \"{question} {answer_a} {answer_b}\"\nfirst: \"\\\\A *[A-Ma-m]\"\nsecond: \"\\\\A *[N-Zn-z]\"\n"); // the judge's first letter is its verdict
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(together_they_are_the_sum_rule), cmocka_unit_test(silence_is_no_verdict), cmocka_unit_test(every_kind_has_a_say),
                                       cmocka_unit_test(aime_runs_by_name),              cmocka_unit_test(bad_configurations_are_refused)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
