/* The worked example of docs/extending.md: an objective that the registry does not have, with its row and its test. The page shows the part between the two lines
 * of dashes, and the last test here compares them. */
#include "test.h"

#include "base/file.h"
#include "objective/pair.h"
#include "train/preset.h"

/* ---------------------------------------------------------------- example */
/* Cal-DPO (2412.14516): L = -log s(h) + (d(win) - 1/(2 beta))^2 + (d(lose) + 1/(2 beta))^2: DPO's order of the answers, and log-ratios that are rewards in
 * size too */
static struct pair_loss cal_dpo(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(x->dw - x->dl, 1);
    const double goal = 1 / (2 * p->beta), u = x->dw - goal, v = x->dl + goal;
    return (struct pair_loss){l.loss + u * u + v * v, l.slope + 2 * u, -l.slope + 2 * v};
}

PAIR_OBJECTIVE(cal_dpo, labels)

static const struct objective row = {
    .name = "cal-dpo",
    .coupling = COUPLE_PAIR,
    .needs = COL_PAIRS | COL_LOGP_REF,
    .eval = cal_dpo_eval,
    .at_reference = cal_dpo_at_reference,
    .equation = "-log s(h) + (d_w - 1/(2 beta))^2 + (d_l + 1/(2 beta))^2",
    .paper = "arXiv 2412.14516",
};

static double run(double lw, double ll, double p, double *coef)
{
    const struct objective_params params = {.beta = 0.1};
    double logp[2] = {lw, ll}, logp_ref[2] = {-42, -50};
    int32_t n_tok[2] = {30, 45};
    struct pair pair = {.win = 0, .lose = 1, .p = p, .weight = 1};
    struct batch b = {.written = COL_ROWS | COL_LOGP | COL_LOGP_REF | COL_PAIRS, .n = 2, .n_tok = n_tok, .logp = logp, .logp_ref = logp_ref, .n_pair = 1, .pair = &pair, .coef = coef};
    struct objective_stats s = {0};
    objective_eval(&row, &params, &b, 1, &s);
    return s.loss;
}

/* By hand: d(win) = 2, d(lose) = -5, h = 7, 1/(2 beta) = 5. */
static void the_loss_is_the_papers(void **state)
{
    (void)state;
    double coef[2];
    assert_near(run(-40, -55, 1, coef), log1p(exp(-7)) + 9, 1e-14, 0);
    assert_near(coef[0], -1 / (1 + exp(7)) - 6, 1e-14, 0);
    assert_near(coef[1], 1 / (1 + exp(7)), 1e-14, 0);
    assert_near(run(-42, -50, 1, coef), cal_dpo_at_reference(&(struct objective_params){.beta = 0.1}, &(struct pair){.p = 1}), 1e-14, 0);
}

/* Fourth-order differences, for certain and uncertain labels. */
static void coefficients_are_its_slopes(void **state)
{
    (void)state;
    for (double p = 0; p <= 1; p += 0.25)
        for (int side = 0; side < 2; side++) {
            double coef[2], moved[2], f[4];
            run(-40, -48, p, coef);
            for (int k = 0; k < 4; k++) {
                const double h = 1e-2 * (k < 2 ? k - 2 : k - 1);
                f[k] = run(side ? -40 : -40 + h, side ? -48 + h : -48, p, moved);
            }
            assert_near(coef[side], (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 12e-2, 1e-8, 1e-9);
        }
}
/* ---------------------------------------------------------------- end of the example */

/* Text between the lines that start and end it, NULL if they are not there; free() it. */
static char *part(const char *path, const char *from, const char *to)
{
    char *data;
    size_t n;
    assert_ok(file_read(repo_path(path), 1 << 20, &data, &n, err));
    char *start = strstr(data, from), *end = start ? strstr(start + strlen(from), to) : NULL, *out = NULL;
    if (end) out = strndup(start + strlen(from), (size_t)(end - start) - strlen(from));
    free(data);
    return out;
}

static void the_page_shows_this_code(void **state)
{
    (void)state;
    static const char dashes[] = "/* ----------------------------------------------------------------";
    char from[128], to[128];
    snprintf(from, sizeof from, "%s example */\n", dashes);
    snprintf(to, sizeof to, "%s end of the example */\n", dashes);
    char *here = part("tests/objective/extending_test.c", from, to), *there = part("docs/extending.md", "```c\n", "```\n");
    assert_non_null(here);
    if (!there) fail_msg("docs/extending.md has no block of C");
    for (char *a = here, *b = there, *line = here; *a || *b; a++, b++) {
        if (*a != *b) fail_msg("docs/extending.md differs from the example at: %.*s", (int)strcspn(line, "\n"), line);
        if (*a == '\n') line = a + 1;
    }
    free(here);
    free(there);
}

/* `sail methods` and docs/methods.md speak of the same: every name stands there as a word of its own. */
static void every_method_has_its_place_on_the_page(void **state)
{
    (void)state;
    char *page;
    size_t n;
    static const char inside[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ok(file_read(repo_path("docs/methods.md"), 1 << 20, &page, &n, err));
    for (int i = 0; preset_at(i); i++) {
        const char *name = preset_at(i)->name, *at = page;
        const size_t length = strlen(name);
        bool found = false;
        while (!found && (at = strstr(at, name))) {
            found = at > page && !strchr(inside, at[-1]) && !strchr(inside, at[length]);
            at += length;
        }
        if (!found) fail_msg("docs/methods.md says nothing of %s", name);
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_loss_is_the_papers), cmocka_unit_test(coefficients_are_its_slopes), cmocka_unit_test(the_page_shows_this_code),
                                       cmocka_unit_test(every_method_has_its_place_on_the_page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
