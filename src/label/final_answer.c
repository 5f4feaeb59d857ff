/* Final answers compared: 1 for a completion that ends where most of its prompt's completions do (a majority stands in for the truth: PFPO, 2411.16345), or where
 * the data row's "answer" does; 0 for the others. The final answer is what stands in the last \boxed{...}, else after the last ####, else the last number. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "label/internal.h"

struct final_answer {
    struct labeler head;
    bool gold;
    double share; /* of the completions that have to agree */
};

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* The end of the number at s: digits with commas between groups of three, and a fraction. */
static const char *number_end(const char *s)
{
    while (digit(*s) || (*s == ',' && digit(s[1]) && digit(s[2]) && digit(s[3]) && !digit(s[4]))) s++;
    if (*s == '.' && digit(s[1]))
        for (s++; digit(*s);) s++;
    return s;
}

/* The last number of the text with its sign, its length in *n (0: none). A minus between two digits is no sign. */
static const char *last_number(const char *text, size_t *n)
{
    const char *found = text;
    *n = 0;
    for (const char *s = text; *s;) {
        if (!digit(*s)) {
            s++;
            continue;
        }
        const char *end = number_end(s);
        const bool point = s > text && s[-1] == '.'; // .5
        if (point) s--;
        const bool minus = s > text && s[-1] == '-' && !(s - 1 > text && digit(s[-2]));
        found = s - minus;
        *n = (size_t)(end - found);
        s = end;
    }
    return found;
}

/* The inside of the last \boxed{...} that is closed, its length in *n (0: none). */
static const char *last_boxed(const char *text, size_t *n)
{
    static const char open[] = "\\boxed{";
    const char *found = text;
    *n = 0;
    for (const char *s = text; (s = strstr(s, open));) {
        const char *inside = s += sizeof open - 1;
        int depth = 1;
        while (*s && depth) depth += *s == '{' ? 1 : *s == '}' ? -1 : 0, s++;
        if (depth) break;
        found = inside;
        *n = (size_t)(s - 1 - inside);
    }
    return found;
}

static const char *after_hashes(const char *text, size_t *n)
{
    const char *found = NULL;
    for (const char *s = text; (s = strstr(s, "####")); s += 4) found = s + 4;
    *n = found ? strcspn(found, "\n") : 0;
    return found;
}

/* One spelling for equal answers: no blanks, no $; numbers by their value, without commas and with no point behind them. NULL: nothing left. */
static char *spelling(const char *s, size_t n)
{
    char *out = mem_printf("%.*s", (int)n, s), *to = out, *end;
    for (const char *at = out; *at; at++)
        if (!strchr(" \t\r\n$", *at)) *to++ = *at;
    if (to > out && to[-1] == '.') to--;
    *to = '\0';
    char *plain = mem_strdup(out);
    to = plain;
    for (const char *at = out; *at; at++)
        if (*at != ',') *to++ = *at;
    *to = '\0';
    const double value = strtod(plain, &end);
    const bool number = *plain && !*end && strspn(plain, "+-.0123456789") == strlen(plain);
    free(plain);
    if (!number && *out) return out;
    free(out);
    return number ? mem_printf("%.15g", value == 0 ? 0.0 : value) : NULL;
}

char *label_final_answer(const char *text)
{
    const char *(*const find[])(const char *, size_t *) = {last_boxed, after_hashes, last_number};
    char *answer = NULL;
    for (int k = 0; !answer && k < 3; k++) {
        size_t n;
        const char *s = find[k](text, &n);
        if (n) answer = spelling(s, n);
    }
    return answer;
}

/* The answer that more completions have than any other, and enough of them; NULL: no such answer. */
static const char *majority(const struct final_answer *f, char *const *answer, int n)
{
    const char *most = NULL;
    int votes = 0;
    bool tie = false;
    for (int i = 0; i < n; i++) {
        int same = 0;
        for (int j = 0; answer[i] && j < n; j++) same += answer[j] && !strcmp(answer[i], answer[j]);
        if (same > votes) most = answer[i], votes = same, tie = false;
        else if (same && same == votes) tie |= strcmp(answer[i], most) != 0;
    }
    return n < 2 || tie || votes < f->share * n ? NULL : most;
}

/* The row's answer, in the form of the completions: with #### or a box, or as it stands. */
static char *gold(json_t *row)
{
    json_t *v = json_object_get(row, "answer");
    if (json_is_number(v)) return mem_printf("%.15g", json_number_value(v));
    const char *text = json_string_value(v);
    if (!text) return NULL;
    const bool marked = strstr(text, "####") || strstr(text, "\\boxed{");
    return marked ? label_final_answer(text) : spelling(text, strlen(text));
}

static int ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    const struct final_answer *f = (const struct final_answer *)l;
    char **answer;
    if (mem_alloc(&answer, (size_t)q->n, sizeof *answer, err)) return SAIL_FAILED;
    for (int i = 0; i < q->n; i++) answer[i] = label_final_answer(q->completions[i]);
    char *truth = f->gold ? gold(q->row) : NULL;
    const char *right = f->gold ? truth : majority(f, answer, q->n_vote ? q->n_vote : q->n);
    for (int i = 0; right && i < q->n; i++) a->reward[i] = answer[i] && !strcmp(answer[i], right);
    if (!right) l->bad++;
    for (int i = 0; i < q->n; i++) free(answer[i]);
    free(answer);
    free(truth);
    return SAIL_OK;
}

static void close_final_answer(struct labeler *l) { free(l); }

int labeler_final_answer_open(struct labeler **out, bool gold_answers, double share, sail_err *err)
{
    struct final_answer *f;
    *out = NULL;
    int rc = mem_alloc(&f, 1, sizeof *f, err);
    if (rc) return rc;
    *f = (struct final_answer){.head = {.name = gold_answers ? "final answers" : "majority of final answers", .ask = ask, .close = close_final_answer}, .gold = gold_answers, .share = share};
    *out = &f->head;
    return SAIL_OK;
}
