#include "jobs/meetings.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "data/columns.h"
#include "data/row_reader.h"

struct answer_row {
    json_t *row; /* owner of text */
    const char *text;
    bool finished;
    struct ids ids;
};
struct answers {
    struct answer_row *row;
    size_t n, capacity;
};

static int take_ids(struct answer_row *a, const json_t *ids, const struct meeting *m, const struct text_pipeline *policy, sail_err *err)
{
    int rc = SAIL_OK;
    if (m->same_tokenizer) {
        for (size_t t = 0; !rc && t < json_array_size(ids); t++) rc = ids_push(&a->ids, (int32_t)json_integer_value(json_array_get(ids, t)), err);
        return rc;
    }
    const int32_t end = policy->options.turn_end >= 0 ? policy->options.turn_end : policy->options.eos;
    rc = tokenizer_encode(policy->tokenizer, a->text, strlen(a->text), false, &a->ids, err);
    return !rc && a->finished && end >= 0 ? ids_push(&a->ids, end, err) : rc;
}

/* Takes j. */
static int add_row(struct answers *all, json_t *j, const struct meeting *m, const struct text_pipeline *policy, sail_err *err)
{
    struct answer_row a = {.row = j};
    json_t *ids = NULL;
    json_int_t i, k;
    const char *finish;
    int rc = mem_grow(&all->row, all->n, &all->capacity, sizeof *all->row, err);
    if (!rc && (json_unpack(j, "{sI sI so ss ss}", "i", &i, "k", &k, "ids", &ids, "text", &a.text, "finish", &finish) || i != (json_int_t)all->n || k != 0))
        rc = err_set(err, SAIL_FAILED, "%s: row %zu: expected one answer of `sail generate` to each prompt, with its text", m->answers, all->n + 1);
    if (!rc) {
        a.finished = !strcmp(finish, "eos");
        rc = take_ids(&a, ids, m, policy, err);
    }
    if (rc) {
        ids_release(&a.ids);
        json_decref(j);
        return rc;
    }
    all->row[all->n++] = a;
    return SAIL_OK;
}

static int read_answers(struct answers *all, const struct meeting *m, const struct text_pipeline *policy, sail_err *err)
{
    const struct columns columns = {0};
    struct data_files files;
    struct row_reader *reader = NULL;
    json_t *row = NULL;
    int rc = data_files_find(&files, m->answers, err);
    if (rc) return rc;
    rc = row_reader_open(&reader, &files, columns_need, &columns, err);
    while (!rc && !(rc = row_reader_next(reader, &row, err)) && row) rc = add_row(all, row, m, policy, err);
    row_reader_close(reader);
    data_files_release(&files);
    return rc;
}

static int put_row(struct file_writer *w, size_t i, int64_t k, const struct answer_row *a, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "{\"i\": %zu, \"k\": %lld, \"text\": ", i, (long long)k);
    buf_json_string(&b, a->text, strlen(a->text));
    buf_puts(&b, ", \"ids\": [");
    for (size_t t = 0; t < a->ids.n; t++) buf_printf(&b, t ? ", %d" : "%d", (int)a->ids.id[t]);
    buf_printf(&b, "], \"finish\": \"%s\"}\n", a->finished ? "eos" : "length");
    int rc = b.failed ? err_memory(err, b.len) : file_writer_write(w, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

static int meet(struct file_writer *w, const struct answers *all, const struct meeting *of, int n, size_t i, struct meetings_spent *spent, sail_err *err)
{
    int64_t k = 0;
    int rc = SAIL_OK;
    for (int a = 0; a < n; a++)
        for (int b = a + 1; !rc && b < n; b++) {
            const struct answer_row *x = &all[a].row[i], *y = &all[b].row[i];
            if ((!of[a].fresh && !of[b].fresh) || (x->finished == y->finished && !strcmp(x->text, y->text))) continue;
            rc = put_row(w, i, k, x, err);
            if (!rc) rc = put_row(w, i, k + 1, y, err);
            k += 2;
            spent->pairs++;
        }
    return rc;
}

int meetings_write(const char *path, const struct meeting *of, int n, const struct text_pipeline *policy, struct meetings_spent *spent, sail_err *err)
{
    struct answers *all;
    struct file_writer w = {0};
    *spent = (struct meetings_spent){0};
    int rc = mem_alloc(&all, (size_t)n, sizeof *all, err);
    for (int a = 0; !rc && a < n; a++) {
        rc = read_answers(&all[a], &of[a], policy, err);
        if (!rc && all[a].n != all[0].n) rc = err_set(err, SAIL_FAILED, "%s: %zu answers, %s has %zu: expected one for each prompt", of[a].answers, all[a].n, of[0].answers, all[0].n);
        for (size_t i = 0; !rc && of[a].fresh && i < all[a].n; i++) spent->tokens += (int64_t)all[a].row[i].ids.n;
    }
    if (!rc) rc = file_writer_open(&w, path, err);
    if (!rc) {
        for (size_t i = 0; !rc && i < all[0].n; i++) rc = meet(&w, all, of, n, i, spent, err);
        if (!rc) rc = file_writer_commit(&w, err);
        if (rc) file_writer_abandon(&w);
    }
    for (int a = 0; all && a < n; a++) {
        for (size_t i = 0; i < all[a].n; i++) {
            json_decref(all[a].row[i].row);
            ids_release(&all[a].row[i].ids);
        }
        free(all[a].row);
    }
    free(all);
    return rc;
}
