/* The table of a study: means over seeds and prompts, 95 % intervals by a paired bootstrap over both, budgets as they were spent. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/rng.h"
#include "data/columns.h"
#include "data/row_reader.h"
#include "jobs/compare.h"
#include "objective/objective.h"
#include "report/run_writer.h"
#include "train/preset.h"
#include "train/sampled_eval.h"

enum { DRAWS = 1000 };
enum measure { REWARD, REWARD_GAIN, WIN_RATE, KL, MEASURES };
static const char *const measure_name[MEASURES] = {"reward", "reward_gain", "win_rate", "kl"};
enum budget { STEPS, TRAINED_TOKENS, SAMPLED_TOKENS, LABELS_ONLINE, LABELS_OFFLINE, BUDGETS };
static const char *const budget_name[BUDGETS] = {"gradient_steps", "trained_tokens", "sampled_tokens", "labels_online", "labels_offline"};

struct row {
    const char *name, *preset;
    struct report_cell measure[MEASURES];
    double length, eos_share, budget[BUDGETS]; /* means over the seeds; a run's budget */
};
struct table {
    const struct comparison *c;
    int64_t n_prompt, n_seed, n_method;
    double *value[MEASURES]; /* (n_method, n_seed, n_prompt) */
    struct row *row;
};

/* Share of answers to one prompt that beat those of the first method, ties half. */
static double win_share(const struct compare_answers *mine, const struct compare_answers *first, int64_t i)
{
    double wins = 0;
    int64_t n = 0;
    for (int64_t a = 0; a < mine->n_return; a++)
        for (int64_t b = 0; b < first->n_return; b++) {
            const double d = mine->reward[i * mine->n_return + a] - first->reward[i * first->n_return + b];
            if (isnan(d)) continue;
            wins += d > 0 ? 1 : d == 0 ? 0.5 : 0;
            n++;
        }
    return n ? wins / (double)n : NAN;
}

static void fill_values(struct table *t)
{
    for (int64_t m = 0; m < t->n_method; m++)
        for (int64_t s = 0; s < t->n_seed; s++) {
            const struct compare_answers *a = &t->c->run[m * t->n_seed + s].answers, *first = &t->c->run[s].answers;
            for (int64_t i = 0; i < t->n_prompt; i++) {
                const int64_t at = (m * t->n_seed + s) * t->n_prompt + i;
                t->value[REWARD][at] = sampled_eval_mean(a->reward + i * a->n_return, a->n_return);
                t->value[REWARD_GAIN][at] = m ? t->value[REWARD][at] - t->value[REWARD][s * t->n_prompt + i] : NAN;
                t->value[WIN_RATE][at] = m ? win_share(a, first, i) : NAN;
                t->value[KL][at] = sampled_eval_mean(a->kl + i * a->n_return, a->n_return);
            }
        }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One replicate: seeds and prompts drawn with replacement, the same ones for every method. */
static double replicate(const struct table *t, const double *value, uint64_t draw, uint64_t seed)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = 0; k < t->n_seed; k++) {
        const int64_t s = (int64_t)(rng_uniform(seed, RNG_BOOTSTRAP, draw, (uint64_t)k) * (double)t->n_seed);
        for (int64_t i = 0; i < t->n_prompt; i++) {
            const int64_t at = (int64_t)(rng_uniform(seed, RNG_BOOTSTRAP, draw, (uint64_t)(t->n_seed + i)) * (double)t->n_prompt);
            const double x = value[s * t->n_prompt + at];
            if (isnan(x)) continue;
            sum += x;
            n++;
        }
    }
    return n ? sum / (double)n : NAN;
}

static int interval(const struct table *t, const double *value, struct report_cell *out, sail_err *err)
{
    *out = (struct report_cell){.value = sampled_eval_mean(value, t->n_seed * t->n_prompt), .low = NAN, .high = NAN};
    if (isnan(out->value) || t->n_seed * t->n_prompt < 2) return SAIL_OK;
    double *draw;
    int n = 0;
    if (mem_alloc(&draw, DRAWS, sizeof *draw, err)) return SAIL_FAILED;
    for (uint64_t k = 0; k < DRAWS; k++) {
        const double x = replicate(t, value, k, (uint64_t)t->c->eval->seed);
        if (!isnan(x)) draw[n++] = x;
    }
    qsort(draw, (size_t)n, sizeof *draw, ascending);
    out->low = draw[(n - 1) * 25 / 1000];
    out->high = draw[n - 1 - (n - 1) * 25 / 1000];
    free(draw);
    return SAIL_OK;
}

static int count_rows(const char *data, double *n, sail_err *err)
{
    const struct columns columns = {0};
    struct data_files files;
    struct row_reader *reader = NULL;
    json_t *row = NULL;
    int rc = data_files_find(&files, data, err);
    if (rc) return rc;
    rc = row_reader_open(&reader, &files, columns_need, &columns, err);
    while (!rc && !(rc = row_reader_next(reader, &row, err)) && row) {
        json_decref(row);
        ++*n;
    }
    row_reader_close(reader);
    data_files_release(&files);
    return rc;
}

static bool learns_reward(const sail_config *c)
{
    const struct preset *p = strchr(c->method, ',') ? NULL : preset_find(c->method, NULL);
    return p && objective_find(p->objective)->needs & LEARNS_REWARD;
}

/* The last value of each counter on a run's curve. */
static int read_budget(const struct compare_run *run, double budget[BUDGETS], sail_err *err)
{
    static const char *const key[] = {[STEPS] = "step", [TRAINED_TOKENS] = "num_tokens", [SAMPLED_TOKENS] = "sampled_tokens", [LABELS_ONLINE] = "labels"};
    char *path = path_join(run->folder, "metrics.jsonl"), *data, *save = NULL;
    size_t n;
    int rc = file_read(path, (size_t)2 << 30, &data, &n, err);
    free(path);
    if (rc) return rc;
    for (char *line = strtok_r(data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *row = json_loads(line, 0, NULL);
        for (size_t k = 0; k < sizeof key / sizeof *key; k++) {
            json_t *v = json_object_get(row, key[k]);
            if (json_is_number(v)) budget[k] = json_number_value(v);
        }
        json_decref(row);
    }
    free(data);
    const sail_config *c = run->config;
    if (c->extragradient) budget[STEPS] *= 2; // each step takes one more, to look ahead
    if (learns_reward(c)) budget[STEPS] *= 2 + 1 / (double)c->reward_every; // two policies, and the reward model's
    if (!c->data || c->mix_pp + c->mix_pr > 1 - 1e-12) return SAIL_OK;
    return count_rows(c->data, &budget[LABELS_OFFLINE], err);
}

static int fill_row(struct table *t, int64_t m, sail_err *err)
{
    struct row *row = &t->row[m];
    int rc = SAIL_OK;
    row->name = t->c->run[m * t->n_seed].method->name;
    row->preset = t->c->run[m * t->n_seed].config->method;
    for (int k = 0; !rc && k < MEASURES; k++) rc = interval(t, t->value[k] + m * t->n_seed * t->n_prompt, &row->measure[k], err);
    for (int64_t s = 0; !rc && s < t->n_seed; s++) {
        const struct compare_run *run = &t->c->run[m * t->n_seed + s];
        double budget[BUDGETS] = {0};
        rc = read_budget(run, budget, err);
        for (int k = 0; k < BUDGETS; k++) row->budget[k] += budget[k] / (double)t->n_seed;
        row->length += run->answers.length / (double)t->n_seed;
        row->eos_share += run->answers.eos_share / (double)t->n_seed;
    }
    return rc;
}

static int make_table(struct table *t, sail_err *err)
{
    const struct comparison *c = t->c;
    t->n_method = (int64_t)c->study->n_method;
    t->n_seed = (int64_t)c->study->n_seed;
    t->n_prompt = c->run[0].answers.n_prompt;
    for (size_t i = 1; i < c->n_run; i++)
        if (c->run[i].answers.n_prompt != t->n_prompt)
            return err_set(err, SAIL_FAILED, "%s was judged on %lld prompts, %s on %lld: remove the eval.json of one of them", c->run[0].name, (long long)t->n_prompt, c->run[i].name,
                           (long long)c->run[i].answers.n_prompt);
    int rc = mem_alloc(&t->row, (size_t)t->n_method, sizeof *t->row, err);
    for (int k = 0; !rc && k < MEASURES; k++) rc = mem_alloc(&t->value[k], c->n_run * (size_t)t->n_prompt, sizeof *t->value[k], err);
    if (!rc) fill_values(t);
    for (int64_t m = 0; !rc && m < t->n_method; m++) rc = fill_row(t, m, err);
    return rc;
}

static void put_pair(struct buf *b, const char *name, double x, const char *before)
{
    buf_printf(b, "%s\"%s\": ", before, name);
    buf_json_double(b, x);
}

static void put_row(struct buf *b, const struct row *row)
{
    buf_printf(b, "{\"name\": \"%s\", \"method\": ", row->name);
    buf_json_string(b, row->preset, strlen(row->preset));
    for (int k = 0; k < MEASURES; k++) {
        buf_printf(b, ", \"%s\": ", measure_name[k]);
        put_pair(b, "mean", row->measure[k].value, "{");
        put_pair(b, "low", row->measure[k].low, ", ");
        put_pair(b, "high", row->measure[k].high, ", ");
        buf_puts(b, "}");
    }
    put_pair(b, "mean_length", row->length, ", ");
    put_pair(b, "eos_share", row->eos_share, ", ");
    buf_puts(b, ", \"budget\": {");
    for (int k = 0; k < BUDGETS; k++) put_pair(b, budget_name[k], row->budget[k], k ? ", " : "");
    buf_puts(b, "}}");
}

static int write_json(const struct table *t, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "{\"prompts\": %lld, \"answers_per_prompt\": %lld, \"first\": \"%s\", \"bootstrap_draws\": %d, \"seeds\": [", (long long)t->n_prompt,
               (long long)t->c->run[0].answers.n_return, t->row[0].name, (int)DRAWS);
    for (int64_t s = 0; s < t->n_seed; s++) buf_printf(&b, "%s%lld", s ? ", " : "", (long long)t->c->study->seed[s]);
    buf_puts(&b, "],\n \"methods\": [");
    for (int64_t m = 0; m < t->n_method; m++) {
        buf_puts(&b, m ? ",\n  " : "\n  ");
        put_row(&b, &t->row[m]);
    }
    buf_puts(&b, "\n ]}\n");
    char *path = path_join(t->c->out, "table.json");
    int rc = b.failed ? err_memory(err, b.len) : file_replace(path, b.data, b.len, err);
    free(path);
    buf_release(&b);
    return rc;
}

static int write_page(const struct table *t, sail_err *err)
{
    enum { COLUMNS = MEASURES + 2 + BUDGETS };
    static const char *const column[COLUMNS] = {"reward", "gain over the first", "win rate against the first", "KL to the start", "length", "EOS share",
                                                "gradient steps", "trained tokens", "sampled tokens", "labels asked online", "labels in the data"};
    const struct comparison *c = t->c;
    struct report_cell *cell = NULL;
    struct report_run *run = NULL;
    const char **label = NULL;
    int rc = mem_alloc(&cell, (size_t)t->n_method * COLUMNS, sizeof *cell, err);
    if (!rc) rc = mem_alloc(&run, c->n_run, sizeof *run, err);
    if (!rc) rc = mem_alloc(&label, (size_t)t->n_method, sizeof *label, err);
    for (int64_t m = 0; !rc && m < t->n_method; m++) {
        const struct row *row = &t->row[m];
        struct report_cell *at = cell + m * COLUMNS;
        label[m] = row->name;
        for (int k = 0; k < MEASURES; k++) *at++ = row->measure[k];
        *at++ = (struct report_cell){.value = row->length, .low = NAN, .high = NAN};
        *at++ = (struct report_cell){.value = row->eos_share, .low = NAN, .high = NAN};
        for (int k = 0; k < BUDGETS; k++) *at++ = (struct report_cell){.value = row->budget[k], .low = NAN, .high = NAN};
    }
    for (size_t i = 0; !rc && i < c->n_run; i++) run[i] = (struct report_run){c->run[i].folder, c->run[i].name};
    const struct report_table table = {.title = "Results", .n_column = COLUMNS, .n_row = (int)t->n_method, .column = column, .row = label, .cell = cell,
                                       .note = "Means over seeds and held-out prompts; 95 % intervals by a paired bootstrap over both (1000 draws, the same for every method). Budgets are those of one run. "
                                               "Where the judge is also what labelled online pairs, reward is measured on the very thing that those methods were trained on. Labels asked online come on top of those in the data."};
    char *path = path_join(c->out, "report.html");
    if (!rc) rc = report_compare_write(path, "sail compare", "Methods from the same start, on the same data order and budget, judged on the same prompts.", run, (int)c->n_run, &table, 1, err);
    free(path);
    free(cell);
    free(run);
    free(label);
    return rc;
}

static void print_table(const struct table *t)
{
    printf("%-20s %28s %28s %28s\n", "method", "reward", "win rate against the first", "KL to the start");
    for (int64_t m = 0; m < t->n_method; m++) {
        static const enum measure shown[] = {REWARD, WIN_RATE, KL};
        printf("%-20s", t->row[m].name);
        for (size_t k = 0; k < sizeof shown / sizeof *shown; k++) {
            const struct report_cell *x = &t->row[m].measure[shown[k]];
            char text[64] = "";
            if (!isnan(x->value)) snprintf(text, sizeof text, "%.4f [%.4f, %.4f]", x->value, x->low, x->high);
            printf(" %28s", text);
        }
        putchar('\n');
    }
}

int compare_write(struct comparison *c, sail_err *err)
{
    struct table t = {.c = c};
    int rc = make_table(&t, err);
    if (!rc) rc = write_json(&t, err);
    if (!rc) rc = write_page(&t, err);
    if (!rc) print_table(&t);
    for (int k = 0; k < MEASURES; k++) free(t.value[k]);
    free(t.row);
    return rc;
}
