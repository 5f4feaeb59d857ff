/* sail label: answers that `sail generate` sampled, judged two by two: preference rows as text and ids. Answers 2m and 2m + 1 of a prompt
 * make a pair; ties and missing verdicts are dropped and counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/dataset.h"
#include "data/row_reader.h"
#include "jobs/jobs.h"
#include "label/labeler.h"
#include "train/rewarder.h"

struct sampled_row {
    int64_t i, k;
    const char *text;
    int32_t *ids;
    int32_t n;
    enum finish finish;
    json_t *row;
};

struct labelling {
    const sail_config *config;
    struct text_pipeline text;
    struct dataset *prompts;
    struct rewarder *rewarder;
    struct sampled_row *row;
    size_t n, capacity;
    struct file_writer out;
    int64_t written, ties, unlabelled;
};

/* Takes j. */
static int read_row(struct labelling *l, json_t *j, const char *path, int64_t number, sail_err *err)
{
    json_t *ids = NULL;
    json_int_t i, k;
    const char *text = NULL, *finish = "length";
    if (json_unpack(j, "{sI sI so s?s s?s}", "i", &i, "k", &k, "ids", &ids, "text", &text, "finish", &finish) || !json_is_array(ids)) {
        json_decref(j);
        return err_set(err, SAIL_FAILED, "%s:%lld: expected a row of `sail generate` (\"i\", \"k\", \"ids\", \"text\", \"finish\")", path, (long long)number);
    }
    int rc = mem_grow(&l->row, l->n, &l->capacity, sizeof *l->row, err);
    struct sampled_row row = {.i = i, .k = k, .text = text, .n = (int32_t)json_array_size(ids), .finish = !strcmp(finish, "eos") ? FINISH_EOS : FINISH_LENGTH, .row = j};
    if (!rc) rc = mem_alloc(&row.ids, (size_t)row.n, sizeof *row.ids, err);
    for (int32_t t = 0; !rc && t < row.n; t++) {
        const json_t *id = json_array_get(ids, (size_t)t);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            rc = err_set(err, SAIL_FAILED, "%s:%lld: ids[%d] is not a token id", path, (long long)number, (int)t);
        row.ids[t] = (int32_t)json_integer_value(id);
    }
    if (!rc && (i < 0 || i >= l->prompts->n))
        rc = err_set(err, SAIL_FAILED, "%s:%lld: \"i\" is %lld, but %s has %lld prompts", path, (long long)number, (long long)i, l->config->prompts, (long long)l->prompts->n);
    if (rc) {
        free(row.ids);
        json_decref(j);
        return rc;
    }
    l->row[l->n++] = row;
    return SAIL_OK;
}

static int read_answers(struct labelling *l, sail_err *err)
{
    const struct columns columns = {0};
    struct data_files files;
    struct row_reader *reader = NULL;
    json_t *row = NULL;
    int rc = data_files_find(&files, l->config->data, err);
    if (rc) return rc;
    rc = row_reader_open(&reader, &files, columns_need, &columns, err);
    while (!rc && !(rc = row_reader_next(reader, &row, err)) && row) rc = read_row(l, row, files.path[row_reader_file(reader)], row_reader_line(reader), err);
    row_reader_close(reader);
    data_files_release(&files);
    return rc;
}

static void write_ids(struct buf *b, const char *key, const int32_t *ids, int32_t n)
{
    buf_printf(b, ", \"%s\": [", key);
    for (int32_t t = 0; t < n; t++) buf_printf(b, t ? ", %d" : "%d", (int)ids[t]);
    buf_putc(b, ']');
}

static int write_pair(struct labelling *l, const struct sampled_row *win, const struct sampled_row *lose, const struct pair *q, sail_err *err)
{
    const struct dataset *d = l->prompts;
    const struct example *e = &d->example[win->i];
    struct buf b;
    buf_init(&b, 0);
    buf_puts(&b, "{\"prompt\": ");
    const char *prompt = e->text >= 0 ? d->text + e->text : "";
    buf_json_string(&b, prompt, strlen(prompt));
    buf_puts(&b, ", \"chosen\": ");
    buf_json_string(&b, win->text ? win->text : "", win->text ? strlen(win->text) : 0);
    buf_puts(&b, ", \"rejected\": ");
    buf_json_string(&b, lose->text ? lose->text : "", lose->text ? strlen(lose->text) : 0);
    write_ids(&b, "prompt_ids", dataset_ids(d, e->prompt), e->prompt.n);
    write_ids(&b, "chosen_ids", win->ids, win->n);
    write_ids(&b, "rejected_ids", lose->ids, lose->n);
    buf_puts(&b, ", \"p\": ");
    buf_json_double(&b, q->p);
    buf_puts(&b, ", \"margin\": ");
    buf_json_double(&b, q->margin);
    buf_puts(&b, "}\n");
    int rc = b.failed ? err_memory(err, b.len) : file_writer_write(&l->out, b.data, b.len, err);
    buf_release(&b);
    l->written++;
    return rc;
}

static int label_two(struct labelling *l, const struct sampled_row *a, sail_err *err)
{
    const struct example *e = &l->prompts->example[a[0].i];
    const int32_t *ids[2] = {a[0].ids, a[1].ids}, n_tok[2] = {a[0].n, a[1].n};
    const enum finish finish[2] = {a[0].finish, a[1].finish};
    const struct reward_request q = {.key = a[0].i, .prompt_text = e->text >= 0 ? l->prompts->text + e->text : NULL, .row = l->prompts->row ? l->prompts->row[a[0].i] : NULL,
                                     .prompt = dataset_ids(l->prompts, e->prompt), .n_prompt = e->prompt.n, .n = 2, .ids = ids, .n_tok = n_tok, .finish = finish};
    double reward[2], p;
    int rc = rewarder_ask(l->rewarder, &q, reward, &p, err);
    if (rc) return rc;
    const char *name = l->config->pr_label;
    const enum pair_label rule = !strcmp(name, "soft") ? PAIR_LABEL_SOFT : !strcmp(name, "sampled") ? PAIR_LABEL_SAMPLED : PAIR_LABEL_HARD;
    const double u = rng_uniform((uint64_t)l->config->seed, RNG_LABEL, (uint64_t)a[0].i, (uint64_t)a[0].k);
    struct pair pair = isnan(p) ? label_pair(0, 1, reward[0], reward[1], rule, l->config->label_temperature, u) : label_judged(0, 1, p, rule, u);
    if (pair.unlabelled) {
        bool tie = !isnan(p) || (!isnan(reward[0]) && !isnan(reward[1]));
        *(tie ? &l->ties : &l->unlabelled) += 1;
        return SAIL_OK;
    }
    return write_pair(l, &a[pair.win], &a[pair.lose], &pair, err);
}

static int by_prompt(const void *x, const void *y)
{
    const struct sampled_row *a = x, *b = y;
    if (a->i != b->i) return a->i < b->i ? -1 : 1;
    return a->k < b->k ? -1 : a->k > b->k;
}

static int label_all(struct labelling *l, sail_err *err)
{
    qsort(l->row, l->n, sizeof *l->row, by_prompt);
    int rc = file_writer_open(&l->out, l->config->out, err);
    if (rc) return rc;
    for (size_t a = 0; !rc && a + 1 < l->n;) {
        if (l->row[a].i != l->row[a + 1].i || l->row[a].ids == l->row[a + 1].ids) {
            a++;
            continue;
        }
        rc = label_two(l, &l->row[a], err);
        a += 2;
    }
    if (!rc) rc = file_writer_commit(&l->out, err);
    if (rc) file_writer_abandon(&l->out);
    if (!rc) log_note("%lld pairs, %lld ties and %lld unlabelled dropped", (long long)l->written, (long long)l->ties, (long long)l->unlabelled);
    return rc;
}

static int open_all(struct labelling *l, sail_err *err)
{
    const enum option_id needed[] = {OPTION_model, OPTION_prompts, OPTION_data, OPTION_out};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        int rc = config_require(l->config, needed[i], err);
        if (rc) return rc;
    }
    int rc = text_pipeline_open(&l->text, l->config->model, NULL, 0, l->config, err);
    struct dataset_options o = l->text.options;
    o.want_prompts_only = true;
    if (!rc) rc = dataset_open(&l->prompts, l->config->prompts, &o, err);
    if (!rc) rc = rewarder_open(&l->rewarder, l->config, &l->text, (struct run_policies){0}, err);
    if (!rc && !l->rewarder) rc = err_set(err, SAIL_USAGE, "`sail label` needs a labeler: " REWARDERS);
    return rc ? rc : read_answers(l, err);
}

int job_label(const sail_config *config, sail_err *err)
{
    struct labelling l = {.config = config};
    int rc = open_all(&l, err);
    if (!rc) rc = label_all(&l, err);
    for (size_t i = 0; i < l.n; i++) {
        free(l.row[i].ids);
        json_decref(l.row[i].row);
    }
    free(l.row);
    rewarder_close(l.rewarder);
    dataset_free(l.prompts);
    text_pipeline_close(&l.text);
    return rc;
}
