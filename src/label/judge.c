#include "label/judge.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "label/internal.h"
#include "label/rubric.h"

struct judge {
    struct labeler head;
    struct rubric *rubric;
    char *system; /* the rubric's, and the role behind it; NULL: none */
    struct judge_writer writer;
    int samples;
    struct buf *question; /* (n_room) */
    const char **asked;
    struct verdict_text *text; /* (n_room, samples) */
    size_t n_room;
    struct buf conversation;
};

/* What was asked: of a conversation its turns up to the answer, not the chat template's text of them. */
static const char *question_of(struct judge *j, const struct label_request *q)
{
    json_t *turns = json_object_get(q->row, "prompt"), *turn;
    if (!json_is_array(turns)) turns = json_object_get(q->row, "messages");
    size_t n = json_array_size(turns), i;
    const char *last = n ? json_string_value(json_object_get(json_array_get(turns, n - 1), "role")) : NULL;
    if (last && !strcmp(last, "assistant")) n--;
    buf_clear(&j->conversation);
    json_array_foreach(turns, i, turn)
    {
        const char *role = json_string_value(json_object_get(turn, "role")), *content = json_string_value(json_object_get(turn, "content"));
        if (i == n) break;
        if (!role || !content) return q->prompt;
        if (n == 1)
            buf_puts(&j->conversation, content);
        else
            buf_printf(&j->conversation, "%s%s: %s", i ? "\n\n" : "", role, content);
    }
    return n && !j->conversation.failed ? j->conversation.data : q->prompt;
}

static int make_room(struct judge *j, size_t n, sail_err *err)
{
    if (n <= j->n_room) return SAIL_OK;
    struct buf *question;
    int rc = mem_alloc(&question, n, sizeof *question, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) buf_init(&question[i], 0);
    for (size_t i = 0; i < j->n_room; i++) buf_release(&j->question[i]);
    free(j->question);
    free(j->asked);
    free(j->text);
    j->question = question;
    j->asked = NULL;
    j->text = NULL;
    j->n_room = n;
    rc = mem_alloc(&j->asked, n, sizeof *j->asked, err);
    return rc ? rc : mem_alloc(&j->text, n * (size_t)j->samples, sizeof *j->text, err);
}

/* The k-th question of the request. */
static int put(struct judge *j, int k, const char *prompt, const char *a, const char *b, sail_err *err)
{
    struct buf *q = &j->question[k];
    buf_clear(q);
    if (!rubric_ask(j->rubric, prompt, a, b, q)) return err_memory(err, q->len);
    j->asked[k] = q->data ? q->data : "";
    return SAIL_OK;
}

static double read(const struct judge *j, int k, int sample)
{
    const struct verdict_text *t = &j->text[k * j->samples + sample];
    return t->text ? rubric_read(j->rubric, t->text, t->finished) : NAN;
}

static int ask_points(struct judge *j, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    const char *question = question_of(j, q);
    int rc = make_room(j, (size_t)q->n, err);
    for (int i = 0; !rc && i < q->n; i++) rc = put(j, i, question, q->completions[i], NULL, err);
    if (!rc) rc = j->writer.write(j->writer.context, q->id, j->system, j->asked, q->n, j->samples, j->text, err);
    for (int i = 0; !rc && i < q->n; i++) {
        double sum = 0, n = 0;
        for (int s = 0; s < j->samples; s++) {
            const double x = read(j, i, s);
            if (isnan(x)) continue;
            sum += x;
            n++;
        }
        a->reward[i] = n > 0 ? sum / n : NAN;
        j->head.bad += n == 0;
    }
    return rc;
}

/* P(first beats second) from questions k (first shown first) and k + 1 (shown second). */
static double both_orders(const struct judge *j, int k)
{
    double sum = 0, n = 0;
    for (int s = 0; s < j->samples; s++) {
        const double there = read(j, k, s), back = read(j, k + 1, s);
        if (isnan(there) || isnan(back)) continue;
        sum += (there + 1 - back) / 2;
        n++;
    }
    return n > 0 ? sum / n : NAN;
}

static int ask_pairs(struct judge *j, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    const int n = q->n * (q->n - 1);
    const char *question = question_of(j, q);
    int rc = make_room(j, (size_t)n, err), k = 0;
    for (int x = 0; !rc && x < q->n; x++)
        for (int y = x + 1; !rc && y < q->n; y++, k += 2) {
            rc = put(j, k, question, q->completions[x], q->completions[y], err);
            if (!rc) rc = put(j, k + 1, question, q->completions[y], q->completions[x], err);
        }
    if (!rc && n) rc = j->writer.write(j->writer.context, q->id, j->system, j->asked, n, j->samples, j->text, err);
    if (rc) return rc;
    for (int x = 0; x < q->n; x++) a->reward[x] = q->n > 2 ? 0 : NAN;
    k = 0;
    for (int x = 0; x < q->n; x++)
        for (int y = x + 1; y < q->n; y++, k += 2) {
            const double p = both_orders(j, k);
            j->head.bad += isnan(p);
            if (q->n == 2) a->p = p;
            a->reward[x] += p / (q->n - 1); // a missing verdict leaves both answers without a rate
            a->reward[y] += (1 - p) / (q->n - 1);
        }
    return SAIL_OK;
}

static int ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err)
{
    struct judge *j = (struct judge *)l;
    return rubric_is_pair(j->rubric) ? ask_pairs(j, q, a, err) : ask_points(j, q, a, err);
}

static void close_judge(struct labeler *l)
{
    struct judge *j = (struct judge *)l;
    j->writer.close(j->writer.context);
    for (size_t i = 0; i < j->n_room; i++) buf_release(&j->question[i]);
    free(j->question);
    free(j->asked);
    free(j->text);
    buf_release(&j->conversation);
    free(j->system);
    rubric_close(j->rubric);
    free(j);
}

int labeler_judge_open(struct labeler **out, const char *rubric, const char *role, int samples, const struct judge_writer *w, sail_err *err)
{
    struct judge *j;
    *out = NULL;
    int rc = mem_alloc(&j, 1, sizeof *j, err);
    if (rc) {
        w->close(w->context);
        return rc;
    }
    *j = (struct judge){.head = {.name = "judge", .ask = ask, .close = close_judge}, .writer = *w, .samples = samples};
    buf_init(&j->conversation, 0);
    rc = rubric_open(&j->rubric, rubric, err);
    if (rc) {
        close_judge(&j->head);
        return rc;
    }
    const char *system = rubric_system(j->rubric);
    if (system || role) j->system = mem_printf("%s%s%s", system ? system : "", system && role ? " " : "", role ? role : "");
    j->head.compares = rubric_is_pair(j->rubric);
    *out = &j->head;
    return SAIL_OK;
}
