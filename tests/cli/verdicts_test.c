/* Every online method under labelers that say nothing, the same of all, nothing about one answer, or always the same order: pairs and answers without a verdict leave and are counted, ties as each label rule has
 * them, nothing is learnt where nothing was said. The labeler is this program. */
#include "cli/program.h"

#include <jansson.h>

enum kind { SILENT, EQUAL, FIRST_SILENT, FIRST_BEST, KINDS };
static const char *const kind_name[KINDS] = {"silent", "equal", "first-silent", "first-best"};

/* "labeler KIND": a reward for each completion, by its place alone. */
static int labeler(const char *kind)
{
    char line[65536];
    while (fgets(line, sizeof line, stdin)) {
        json_t *q = json_loads(line, 0, NULL);
        char *id = json_dumps(json_object_get(q, "id"), JSON_ENCODE_ANY);
        printf("{\"id\": %s, \"rewards\": [", id);
        for (size_t i = 0, n = json_array_size(json_object_get(q, "completions")); i < n; i++) {
            const bool silent = !strcmp(kind, kind_name[SILENT]) || (!strcmp(kind, kind_name[FIRST_SILENT]) && i == 0);
            printf(silent ? "%snull" : "%s%g", i ? ", " : "", !strcmp(kind, kind_name[EQUAL]) ? 5.5 : 6 - 3.0 * (double)i);
        }
        printf("]}\n");
        fflush(stdout);
        free(id);
        json_decref(q);
    }
    return 0;
}

/* In a step of 2 prompts: what a prompt gives (pairs, or answers of a group) where all is judged, and how many of them have no verdict when the first of every question has none. */
static const struct {
    const char *method;
    int gives, without_first;
    bool soft;  /* a tie is p = 1/2, and stays */
    bool pulls; /* a term that needs no verdict */
    bool data;  /* answers of the data among them */
} methods[] = {
    {"online-dpo", 1, 1, .soft = false},
    {"online-dpo --pr-label soft --chi2-nu 0.1", 1, 1, .soft = true},
    {"online-dpo --pr-label soft --kl-nu 0.1", 1, 1, .soft = true},
    {"online-dpo --pr-label sampled", 1, 1, .soft = false},
    {"online-dpo --num-samples 4 --pairing all", 6, 3, .soft = false},
    {"online-dpo --num-samples 4 --pairing duels", 6, 6, .soft = false},
    {"online-dpo --num-samples 4 --pairing tournament", 1, 1, .soft = false},
    {"iterative-dpo", 1, 0, .soft = false},
    {"online-ipo", 1, 1, .soft = true},
    {"online-slic", 1, 1, .soft = false},
    {"sail-pr --mix-pr 1 --baseline loo", 1, 1, .soft = false},
    {"sail-revkl --mix-pr 1", 1, 1, .pulls = true},
    {"sail-listwise", 4, 1, .pulls = true}, // equals are ranked as they were drawn
    {"xpo", 1, 1, .pulls = true},
    {"selm", 1, 0, .pulls = true, .data = true},
    {"ipo-md", 1, 1, .soft = true},
    {"nash-md", 1, 1, .soft = true},
    {"nash-md-togo", 1, 1, .soft = true},
    {"egpo", 1, 1, .soft = true},
    {"egpo-mean", 1, 1, .soft = true},
    {"dpo-mix-r --sampler-share 1", 1, 0, .soft = true},
    {"dpo-mix-p", 1, 1, .soft = true},
    {"sppo", 1, 0, .soft = false},
    {"inpo", 1, 0, .soft = false},
    {"dno --replay-iterates 0 --max-repetition 1 --pair-floor 1", 15, 5, .data = true},
    {"self-rewarding", 1, 0, .soft = false},
    {"aime", 1, 1, .soft = false},
    {"pfpo --final-answer none --num-samples 4", 6, 3, .soft = false},
    {"reinforce", 4, 1, .soft = true},
    {"rloo", 4, 1, .soft = true},
    {"grpo", 8, 1, .soft = true},
    {"grpo-kl", 8, 1, .soft = true},
};
enum { METHODS = sizeof methods / sizeof *methods };

static char self[4096];

static void run(int m, enum kind kind)
{
    shell("rm -rf %s/said", folder);
    assert_run("align --model %s %s %s/%s.jsonl --method %s --labeler-command '%s labeler %s' --batch 2 --max-steps 1 --max-new-tokens 6 --max-length 64 --dtype f32 --threads 1 --lora-r 2 --sample-steps 5 --quiet --out %s/said",
               model, methods[m].data ? "--data" : "--prompts", folder, methods[m].data ? "pairs" : "prompts", methods[m].method, self, kind_name[kind], folder);
    assert_true(isfinite(run_metric("said", "loss", 1)) && run_metric("said", "labels", 1) > 0);
}

static void expect(int m, enum kind kind, const char *key, double want)
{
    const double got = run_metric("said", key, 1);
    if (got != want) fail_msg("%s, labeler %s: %s is %g, wanted %g", methods[m].method, kind_name[kind], key, got, want);
}

static void expect_gradient(int m, enum kind kind, bool any)
{
    const double got = run_metric("said", "grad_norm", 1);
    if ((got > 0) != any || !isfinite(got)) fail_msg("%s, labeler %s: the gradient is %g", methods[m].method, kind_name[kind], got);
}

/* Extragradient counts both halves of its step. */
static int prompts_of(int m) { return strncmp(methods[m].method, "egpo", 4) ? 2 : 4; }

static void silence_teaches_nothing(void **state)
{
    (void)state;
    for (int m = 0; m < METHODS; m++) {
        run(m, SILENT);
        expect(m, SILENT, "val/unlabelled", prompts_of(m) * methods[m].gives);
        expect(m, SILENT, "val/ties", 0);
        expect_gradient(m, SILENT, methods[m].pulls && strncmp(methods[m].method, "sail-listwise", 13));
    }
}

/* At the start, where the policy is the reference, an even label has no slope either. */
static void ties_teach_nothing(void **state)
{
    (void)state;
    for (int m = 0; m < METHODS; m++) {
        const bool asks_two = strstr(methods[m].method, "duels") || strstr(methods[m].method, "tournament"), group = !methods[m].soft && !strncmp(methods[m].method, "sail-listwise", 13);
        run(m, EQUAL);
        expect(m, EQUAL, "val/ties", methods[m].soft || asks_two || group ? 0 : 2 * methods[m].gives);
        expect(m, EQUAL, "val/unlabelled", asks_two ? 2 * methods[m].gives : 0);
        expect_gradient(m, EQUAL, methods[m].pulls);
    }
}

static void what_has_no_verdict_leaves_alone(void **state)
{
    (void)state;
    for (int m = 0; m < METHODS; m++) {
        run(m, FIRST_SILENT);
        expect(m, FIRST_SILENT, "val/unlabelled", prompts_of(m) * methods[m].without_first);
        expect_gradient(m, FIRST_SILENT, methods[m].pulls || methods[m].without_first < methods[m].gives);
    }
}

/* Labels of one side only are labels like others. */
static void one_sided_labels_are_learnt(void **state)
{
    (void)state;
    for (int m = 0; m < METHODS; m++) {
        run(m, FIRST_BEST);
        expect(m, FIRST_BEST, "val/unlabelled", 0);
        // Both meetings of EGPO's opponent go to who stands first: neither answer leads. DNO wants its winners to have a point at least, which two of six do.
        const bool level = !strncmp(methods[m].method, "egpo", 4), floor = !strncmp(methods[m].method, "dno", 3);
        expect(m, FIRST_BEST, "val/ties", floor ? 2 * 6 : 0);
        expect_gradient(m, FIRST_BEST, !level);
    }
}

static int prepare(void **state)
{
    (void)state;
    return make_pairs("verdicts", 6);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "labeler")) return labeler(argv[2]);
    if (!realpath(argv[0], self)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(silence_teaches_nothing), cmocka_unit_test(ties_teach_nothing), cmocka_unit_test(what_has_no_verdict_leaves_alone), cmocka_unit_test(one_sided_labels_are_learnt)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
