/* Text judges against verdicts worked out by hand: what is read from their words and what is not, both orders of a pair, means of several verdicts, rates among many answers. */
#include "test.h"

#include "label/judge.h"
#include "label/rubric.h"

static double verdict(const char *rubric, const char *text, bool finished)
{
    struct rubric *r;
    assert_ok(rubric_open(&r, rubric, err));
    const double x = rubric_read(r, text, finished);
    rubric_close(r);
    return x;
}

static const char *rubric_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/sail-rubric-%d.yaml", (int)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void points_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double want;
    } good[] = {{"Relevant and clear.\nScore: 4", 4}, {"score: 3.5 points", 3.5}, {"Score: <4>", 4}, {"**Score: 5**", 5}, {"Score: **2**", 2}, {"Score: 0/5", 0}, {"Score: 3. As said, Score: 3", 3}};
    static const char *const none[] = {"", "I would rather not say.", "Score: high", "Score: 6", "Score: 45", "Score: -1", "Score: <total points>", "Score: 2 ... no, Score: 4", "Score 4", "Score: 3 and Score: 9",
                                       "Score: 00000000000000000000000000000000000000001"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(verdict("points", good[i].text, true) == good[i].want);
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (!isnan(verdict("points", none[i], true))) fail_msg("a verdict in '%s'", none[i]);
    assert_true(isnan(verdict("points", "Score: 1", false))); // it might have become 1.5
    assert_true(verdict("points", "Score: 1 because", false) == 1);
}

static void pairs_are_read(void **state)
{
    (void)state;
    assert_true(verdict("pair", "A is right. [[A]]", true) == 1);
    assert_true(verdict("pair", "[[B]]", true) == 0);
    assert_true(verdict("pair", "Both fine: [[C]]", true) == 0.5);
    static const char *const none[] = {"", "A", "[A]", "[[D]]", "[[A]] or [[B]]", "[[C]], leaning to [[A]]", "[[a]]"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        if (!isnan(verdict("pair", none[i], true))) fail_msg("a verdict in '%s'", none[i]);
}

static void questions(void **state)
{
    (void)state;
    struct rubric *r;
    struct buf b;
    buf_init(&b, 0);
    assert_ok(rubric_open(&r, rubric_file("prompt: 'Q {question} A {answer} {other} {'\npoints: '=(\\d)'\nmin: 1\nmax: 3\nsystem: judge\n"), err));
    assert_false(rubric_is_pair(r));
    assert_string_equal(rubric_system(r), "judge");
    assert_true(rubric_ask(r, "why {answer}?", "{question}", NULL, &b));
    assert_string_equal(b.data, "Q why {answer}? A {question} {other} {");
    assert_true(rubric_read(r, "=3", true) == 3 && isnan(rubric_read(r, "=0", true)));
    rubric_close(r);
    buf_clear(&b);
    assert_ok(rubric_open(&r, rubric_file("{\"prompt\": \"{answer_b}|{answer_a}\", \"first\": \"one\", \"second\": \"two\"}"), err));
    assert_true(rubric_is_pair(r) && rubric_ask(r, "q", "x", "y", &b));
    assert_string_equal(b.data, "y|x");
    rubric_close(r);
    buf_release(&b);
}

static void bad_rubrics_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {{"points: '(\\d)'\n", "expected prompt"},
               {"prompt: 'x'\npoints: '(\\d)'\n", "would not see the answers: prompt needs {answer}"},
               {"prompt: '{answer_a}'\nfirst: a\nsecond: b\n", "{answer_a} and {answer_b}"},
               {"prompt: '{answer}'\n", "either points"},
               {"prompt: '{answer_a} {answer_b}'\nfirst: a\n", "either points"},
               {"prompt: '{answer}'\npoints: '\\d'\n", "one group"},
               {"prompt: '{answer}'\npoints: '(\\d'\n", "points '"},
               {"prompt: '{answer}'\npoints: '(\\d)'\nmin: 5\nmax: 5\n", "min below max"},
               {"prompt: '{answer}'\npoints: '(\\d)'\nmin: low\n", "a number"},
               {"prompt: 3\npoints: '(\\d)'\n", "a text"},
               {"prompt: '{answer}'\npoint: '(\\d)'\n", "'point' is not one of"},
               {"[]", "expected prompt"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct rubric *r = NULL;
        sail_err why = {0};
        assert_int_equal(rubric_open(&r, rubric_file(bad[i].text), &why), SAIL_USAGE);
        if (!strstr(why.message, bad[i].says)) fail_msg("'%s' does not say '%s'", why.message, bad[i].says);
    }
    sail_err why = {0};
    struct rubric *r;
    assert_int_equal(rubric_open(&r, "/no/such/rubric", &why), SAIL_USAGE);
    assert_non_null(strstr(why.message, "points, aspect, pair or a file"));
}

/* A writer with its lines written down: question i, sample s says line[i * samples + s]; "-" is a question that could not be asked. */
struct script {
    const char *const *line;
    int want_n;
    char first[256]; /* the first question */
    char system[512];
};

static int say(void *context, const char *id, const char *system, const char *const *question, int n, int samples, struct verdict_text *out, sail_err *why)
{
    struct script *s = context;
    (void)id;
    snprintf(s->system, sizeof s->system, "%.511s", system ? system : "none");
    (void)why;
    assert_int_equal(n, s->want_n);
    snprintf(s->first, sizeof s->first, "%.255s", question[0]);
    for (int i = 0; i < n * samples; i++) out[i] = (struct verdict_text){strcmp(s->line[i], "-") ? s->line[i] : NULL, true};
    return SAIL_OK;
}

static void leave(void *context) { (void)context; }

static struct label_answer asked_as(const char *rubric, const char *role, int samples, int n, struct script *s, json_t *row, double *reward, int64_t bad)
{
    static const char *const text[] = {"alpha", "beta", "gamma", "delta"};
    static const bool finished[4] = {true, true, true, true};
    struct labeler *l;
    struct label_answer a = {.reward = reward};
    const struct judge_writer w = {.context = s, .write = say, .close = leave};
    const struct label_request q = {.id = "1", .prompt = "p", .row = row, .completions = text, .finished = finished, .n = n};
    assert_ok(labeler_judge_open(&l, rubric, role, samples, &w, err));
    assert_ok(labeler_ask(l, &q, &a, err));
    assert_int_equal(labeler_bad_answers(l), bad);
    labeler_close(l);
    return a;
}

static struct label_answer asked(const char *rubric, int samples, int n, struct script *s, json_t *row, double *reward, int64_t bad) { return asked_as(rubric, NULL, samples, n, s, row, reward, bad); }

static void points_are_averaged(void **state)
{
    (void)state;
    double r[4];
    static const char *const line[] = {"Score: 4", "Score: 5", "Score: 3", "Score: 1", "no idea", "Score: 2", "-", "Score: 7", "what?"};
    struct script s = {line, 3, "", ""};
    const struct label_answer a = asked("points", 3, 3, &s, NULL, r, 1);
    assert_true(r[0] == 4 && r[1] == 1.5 && isnan(r[2]) && isnan(a.p));
    assert_non_null(strstr(s.first, "Review the user's question"));
}

static void pairs_are_judged_in_both_orders(void **state)
{
    (void)state;
    static const struct {
        const char *line[4]; /* as they are: two samples; then the other way round */
        double p;
        int64_t bad;
    } c[] = {
        {{"[[A]]", "[[A]]", "[[B]]", "[[B]]"}, 1, 0},
        {{"[[B]]", "[[B]]", "[[A]]", "[[A]]"}, 0, 0},
        {{"[[A]]", "[[A]]", "[[A]]", "[[A]]"}, 0.5, 0},   // whoever comes first: a tie
        {{"[[A]]", "[[C]]", "[[C]]", "[[C]]"}, 0.625, 0}, // (1 + 1/2) / 2 and 1/2
        {{"[[A]]", "[[B]]", "hm", "[[A]]"}, 0, 0},        // the first sample has one order only and does not count
        {{"[[A]]", "hm", "hm", "[[B]]"}, NAN, 1},
        {{"-", "-", "-", "-"}, NAN, 1},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        double r[2];
        struct script s = {c[i].line, 2, "", ""};
        const struct label_answer a = asked("pair", 2, 2, &s, NULL, r, c[i].bad);
        assert_true(isnan(c[i].p) ? isnan(a.p) : a.p == c[i].p);
        assert_true(isnan(r[0]) && isnan(r[1]));
        for (enum pair_label rule = PAIR_LABEL_HARD; rule <= PAIR_LABEL_SAMPLED; rule++)
            assert_true(label_judged(0, 1, a.p, rule, 0.9).unlabelled == (isnan(c[i].p) || (rule != PAIR_LABEL_SOFT && c[i].p == 0.5)));
    }
}

/* alpha beats beta and gamma, beta and gamma are even; then one of alpha's pairs has no verdict. */
static void among_three_each_has_its_rate(void **state)
{
    (void)state;
    double r[4];
    static const char *const line[] = {"[[A]]", "[[B]]", "[[A]]", "[[B]]", "[[C]]", "[[C]]"};
    static const char *const torn[] = {"[[A]]", "[[B]]", "[[A]]", "", "[[A]]", "[[B]]"};
    struct script s = {line, 6, "", ""};
    assert_true(isnan(asked("pair", 1, 3, &s, NULL, r, 0).p));
    assert_true(r[0] == 1 && r[1] == 0.25 && r[2] == 0.25);
    s.line = torn;
    asked("pair", 1, 3, &s, NULL, r, 1);
    assert_true(isnan(r[0]) && r[1] == 0.5 && isnan(r[2])); // beta lost to alpha and beat gamma
}

static void a_role_follows_the_system_text(void **state)
{
    (void)state;
    double r;
    static const char *const line[] = {"Fine.\nScore: 3.5"};
    struct script s = {line, 1, "", ""};
    asked_as("aspect", "Look at the spelling.", 1, 1, &s, NULL, &r, 0);
    assert_true(r == 3.5 && strstr(s.first, "[Question]\np\n\n[Answer]\nalpha\n"));
    const size_t n = strlen(s.system), k = strlen(" Look at the spelling.");
    assert_true(n > k && !strcmp(s.system + n - k, " Look at the spelling."));
    asked_as("points", "Look at the spelling.", 1, 1, &s, NULL, &r, 0); // it has no system text
    assert_string_equal(s.system, "Look at the spelling.");
    asked("points", 1, 1, &s, NULL, &r, 0);
    assert_string_equal(s.system, "none");
}

static void conversations_are_shown_as_their_turns(void **state)
{
    (void)state;
    double r;
    static const char *const line[] = {"=1"};
    struct script s = {line, 1, "", ""};
    char *path = strdup(rubric_file("prompt: '<{question}> {answer}'\npoints: '=(\\d)'\n"));
    json_t *one = json_pack("{s[{ssss}]}", "prompt", "role", "user", "content", "hello?");
    json_t *many = json_pack("{s[{ssss}{ssss}{ssss}]}", "messages", "role", "system", "content", "Be brief.", "role", "user", "content", "hello?", "role", "assistant", "content", "hi");
    asked(path, 1, 1, &s, NULL, &r, 0);
    assert_string_equal(s.first, "<p> alpha");
    asked(path, 1, 1, &s, one, &r, 0);
    assert_string_equal(s.first, "<hello?> alpha");
    asked(path, 1, 1, &s, many, &r, 0);
    assert_string_equal(s.first, "<system: Be brief.\n\nuser: hello?> alpha");
    json_decref(one);
    json_decref(many);
    remove(path);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_are_read),
        cmocka_unit_test(pairs_are_read),
        cmocka_unit_test(questions),
        cmocka_unit_test(bad_rubrics_are_refused),
        cmocka_unit_test(points_are_averaged),
        cmocka_unit_test(pairs_are_judged_in_both_orders),
        cmocka_unit_test(among_three_each_has_its_rate),
        cmocka_unit_test(a_role_follows_the_system_text),
        cmocka_unit_test(conversations_are_shown_as_their_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
