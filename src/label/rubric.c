#include "label/rubric.h"

#include <jansson.h>
#include <math.h>
#include <oniguruma.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "label/yaml_json.h"

enum { POINTS, FIRST, SECOND, TIE, N_PATTERN };
static const char *const pattern_key[N_PATTERN] = {"points", "first", "second", "tie"};

/* A rubric as it is written: a file, or one of those below. */
struct wording {
    const char *name, *system, *prompt, *pattern[N_PATTERN];
    double low, high;
};
struct rubric {
    char *system, *prompt;
    regex_t *pattern[N_PATTERN]; /* points, or first and second (and tie) */
    double low, high;
};

#define SCORE "(?i:score):[ *_<]*([0-9]+(?:\\.[0-9]+)?)"
static const struct wording built_in[] = {
    {.name = "points", // the additive scale of arXiv 2401.10020
     .prompt = "Review the user's question and the corresponding response using the additive 5-point scoring system described below. Points are accumulated based on the satisfaction of each criterion:\n\n"
               "- Add 1 point if the response is relevant and provides some information related to the user's inquiry, even if it is incomplete or contains some irrelevant content.\n"
               "- Add another point if the response addresses a substantial portion of the user's question, but does not completely resolve the query or provide a direct answer.\n"
               "- Award a third point if the response answers the basic elements of the user's question in a useful way, regardless of whether it seems to have been written by an AI Assistant or if it has "
               "elements typically found in blogs or search results.\n"
               "- Grant a fourth point if the response is clearly written from an AI Assistant's perspective, addressing the user's question directly and comprehensively, and is well-organized and helpful, even "
               "if there is slight room for improvement in clarity, conciseness or focus.\n"
               "- Bestow a fifth point for a response that is impeccably tailored to the user's question by an AI Assistant, without extraneous information, reflecting expert knowledge, and demonstrating a "
               "high-quality, engaging, and insightful answer.\n\n"
               "User: {question}\n\n<response>{answer}</response>\n\n"
               "After examining the user's instruction and the response:\n\n- Briefly justify your total score, up to 100 words.\n- Conclude with the score using the format: \"Score: <total points>\"\n\n"
               "Remember to assess from the AI Assistant perspective, utilizing web search knowledge as necessary. To evaluate the response in alignment with this additive scoring model, we'll systematically "
               "attribute points based on the outlined criteria.",
     .pattern = {[POINTS] = SCORE},
     .low = 0,
     .high = 5},
    {.name = "aspect", // beside a role that says which
     .system = "You evaluate an answer to a question. You look at one aspect of it alone, and critically; you neither answer the question yourself nor mend the answer.",
     .prompt = "[Question]\n{question}\n\n[Answer]\n{answer}\n[End of the answer]\n\n"
               "Name the faults that the answer has in the aspect that you look at, briefly; then give points for that aspect on a line of its own, from 0 (it fails) to 5 (no fault), as in: Score: 3",
     .pattern = {[POINTS] = SCORE},
     .low = 0,
     .high = 5},
    {.name = "pair",
     .system = "You compare two answers to the same question. Judge how well each follows the question: whether it is right, helpful, relevant and clear. Neither the order of the answers nor their length may "
               "sway you.",
     .prompt = "[Question]\n{question}\n\n[Answer A]\n{answer_a}\n[End of answer A]\n\n[Answer B]\n{answer_b}\n[End of answer B]\n\n"
               "Give a short reason, then the verdict on a line of its own: [[A]] if answer A is better, [[B]] if answer B is better, [[C]] if they are equally good.",
     .pattern = {[FIRST] = "\\[\\[A\\]\\]", [SECOND] = "\\[\\[B\\]\\]", [TIE] = "\\[\\[C\\]\\]"}},
};

static int compile(regex_t **out, const char *pattern, const char *name, const char *key, sail_err *err)
{
    OnigErrorInfo why;
    OnigEncoding use[] = {ONIG_ENCODING_UTF8};
    onig_initialize(use, 1);
    onig_set_retry_limit_in_search(10000000);
    const OnigUChar *s = (const OnigUChar *)pattern;
    const int code = onig_new(out, s, s + strlen(pattern), ONIG_OPTION_CAPTURE_GROUP, ONIG_ENCODING_UTF8, ONIG_SYNTAX_RUBY, &why);
    if (code == ONIG_NORMAL) return SAIL_OK;
    OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN];
    onig_error_code_to_str(message, code, &why);
    return err_set(err, SAIL_USAGE, "%s: %s '%.80s': %s", name, key, pattern, (const char *)message);
}

static int take_wording(struct rubric *r, const struct wording *w, sail_err *err)
{
    const bool pair = w->pattern[FIRST] || w->pattern[SECOND];
    if (!w->prompt) return err_set(err, SAIL_USAGE, "%s: expected prompt: the judge's question, with {question} and {answer}, or {answer_a} and {answer_b}", w->name);
    if (pair ? w->pattern[POINTS] || !w->pattern[FIRST] || !w->pattern[SECOND] : !w->pattern[POINTS] || w->pattern[TIE])
        return err_set(err, SAIL_USAGE, "%s: expected either points: a pattern whose group is the number, or first and second (and tie): patterns of the verdicts", w->name);
    if (pair ? !strstr(w->prompt, "{answer_a}") || !strstr(w->prompt, "{answer_b}") : !strstr(w->prompt, "{answer}"))
        return err_set(err, SAIL_USAGE, "%s: the judge would not see the answers: prompt needs %s", w->name, pair ? "{answer_a} and {answer_b}" : "{answer}");
    if (!pair && !(w->low < w->high)) return err_set(err, SAIL_USAGE, "%s: points from min %g to max %g: expected min below max", w->name, w->low, w->high);
    if (w->system) r->system = mem_strdup(w->system);
    r->prompt = mem_strdup(w->prompt);
    r->low = w->low;
    r->high = w->high;
    for (int k = 0; k < N_PATTERN; k++) {
        int rc = w->pattern[k] ? compile(&r->pattern[k], w->pattern[k], w->name, pattern_key[k], err) : SAIL_OK;
        if (rc) return rc;
    }
    if (!pair && onig_number_of_captures(r->pattern[POINTS]) != 1) return err_set(err, SAIL_USAGE, "%s: points '%.80s': expected one group, the number", w->name, w->pattern[POINTS]);
    return SAIL_OK;
}

static int read_file(struct rubric *r, const char *path, sail_err *err)
{
    json_t *j = NULL, *v;
    const char *key;
    struct wording w = {.name = path, .low = 0, .high = 5};
    int rc = yaml_json_read(path, &j, err);
    if (!rc && !json_is_object(j)) rc = err_set(err, SAIL_USAGE, "%s: expected prompt, and points or first and second", path);
    json_object_foreach(j, key, v)
    {
        if (rc) break;
        const char *text = json_string_value(v);
        const char **slot = !strcmp(key, "system") ? &w.system : !strcmp(key, "prompt") ? &w.prompt : NULL;
        for (int k = 0; k < N_PATTERN; k++)
            if (!strcmp(key, pattern_key[k])) slot = &w.pattern[k];
        double *number = !strcmp(key, "min") ? &w.low : !strcmp(key, "max") ? &w.high : NULL;
        if (!slot && !number)
            rc = err_set(err, SAIL_USAGE, "%s: '%s' is not one of system, prompt, points, min, max, first, second, tie", path, key);
        else if (slot ? !text || !*text : !json_is_number(v))
            rc = err_set(err, SAIL_USAGE, "%s: %s: expected %s", path, key, slot ? "a text (in quotes)" : "a number");
        else if (slot)
            *slot = text;
        else
            *number = json_number_value(v);
    }
    if (!rc) rc = take_wording(r, &w, err);
    json_decref(j);
    return rc;
}

int rubric_open(struct rubric **out, const char *name_or_path, sail_err *err)
{
    struct rubric *r;
    const struct wording *w = NULL;
    *out = NULL;
    int rc = mem_alloc(&r, 1, sizeof *r, err);
    if (rc) return rc;
    for (size_t i = 0; i < sizeof built_in / sizeof *built_in; i++)
        if (!strcmp(name_or_path, built_in[i].name)) w = &built_in[i];
    rc = w ? take_wording(r, w, err) : read_file(r, name_or_path, err);
    if (rc) {
        rubric_close(r);
        return w ? rc : err_context(err, "--judge-rubric (points, aspect, pair or a file)");
    }
    *out = r;
    return SAIL_OK;
}

void rubric_close(struct rubric *r)
{
    if (!r) return;
    for (int k = 0; k < N_PATTERN; k++)
        if (r->pattern[k]) onig_free(r->pattern[k]);
    free(r->system);
    free(r->prompt);
    free(r);
}

bool rubric_is_pair(const struct rubric *r) { return r->pattern[FIRST] != NULL; }
const char *rubric_system(const struct rubric *r) { return r->system; }

/* In one pass: what an answer says in braces stays what it says. */
bool rubric_ask(const struct rubric *r, const char *question, const char *a, const char *b, struct buf *out)
{
    const struct slot {
        const char *name, *text;
    } slot[] = {{"{question}", question}, {b ? "{answer_a}" : "{answer}", a}, {b ? "{answer_b}" : "{answer}", b ? b : a}};
    for (const char *at = r->prompt; *at;) {
        const struct slot *found = NULL;
        for (int k = 0; k < 3 && *at == '{' && !found; k++)
            if (!strncmp(at, slot[k].name, strlen(slot[k].name))) found = &slot[k];
        if (found)
            buf_puts(out, found->text);
        else
            buf_putc(out, *at);
        at += found ? strlen(found->name) : 1;
    }
    return !out->failed;
}

/* The number in [at, end), NaN: none in range. */
static double number_of(const struct rubric *r, const char *at, const char *end)
{
    char copy[32], *stop;
    if (at >= end || (size_t)(end - at) >= sizeof copy) return NAN;
    memcpy(copy, at, (size_t)(end - at));
    copy[end - at] = '\0';
    const double x = strtod(copy, &stop);
    return *stop || !(x >= r->low && x <= r->high) ? NAN : x;
}

/* Every match of the pattern against what was found before; false: contradiction, or no verdict where there should be one. */
static bool agree(const struct rubric *r, int k, const char *text, bool finished, double *verdict)
{
    static const double worth[N_PATTERN] = {[FIRST] = 1, [SECOND] = 0, [TIE] = 0.5};
    OnigRegion *region = onig_region_new();
    const OnigUChar *s = (const OnigUChar *)text, *end = s + strlen(text);
    bool good = true;
    for (const OnigUChar *at = s; good && at < end;) {
        const int found = onig_search(r->pattern[k], s, end, at, end, region, ONIG_OPTION_NONE);
        if (found == ONIG_MISMATCH) break;
        good = found >= 0 && region->end[0] > region->beg[0] && (finished || s + region->end[0] < end);
        if (!good) break;
        const double x = k != POINTS ? worth[k] : region->beg[1] < 0 ? NAN : number_of(r, text + region->beg[1], text + region->end[1]);
        good = !isnan(x) && (isnan(*verdict) || *verdict == x);
        *verdict = x;
        at = s + region->end[0];
    }
    onig_region_free(region, 1);
    return good;
}

double rubric_read(const struct rubric *r, const char *text, bool finished)
{
    double verdict = NAN;
    for (int k = 0; k < N_PATTERN; k++)
        if (r->pattern[k] && !agree(r, k, text, finished, &verdict)) return NAN;
    return verdict;
}
