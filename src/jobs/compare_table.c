/* The table of a study: means over seeds and prompts, 95 % intervals by a paired bootstrap over both, budgets as they were spent. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/rng.h"
#include "jobs/compare.h"
#include "report/run_writer.h"
#include "train/sampled_eval.h"

enum { DRAWS = 1000 };
enum measure { REWARD, KL, REWARD_GAIN, WIN_RATE, MEASURES = REWARD_GAIN + 2 * STUDY_AGAINST }; /* gain and win rate against each opponent, in turn */
static const char *const budget_name[COMPARE_BUDGETS] = {"gradient_steps", "trained_tokens", "sampled_tokens", "labels_online", "labels_offline"};

struct row {
    const char *name, *preset;
    struct report_cell measure[MEASURES];
    double length, eos_share, budget[COMPARE_BUDGETS]; /* means over the seeds; a run's budget */
    double until[COMPARE_BUDGETS]; /* spent until the learning curve was at the goal: means over the seeds that got there */
    int n_run, n_there;
    char said[128]; /* the labels of it, in words */
    bool on_front; /* no other row has at least its reward at less KL */
};
struct table {
    const struct comparison *c;
    int64_t n_prompt, n_seed, n_method;
    int n_measure; /* of MEASURES */
    double *value[MEASURES]; /* (n_method, n_seed, n_prompt); NaN: no such run, or no verdict */
    int64_t *seed_at, *prompt_at; /* (DRAWS, n_seed), (DRAWS, n_prompt): the bootstrap's, the same ones for every method */
    struct compare_spent *spent; /* of each run */
    double goal;                 /* a reward of the learning curves; NaN: there are none */
    struct row *row;
};

/* Share of answers to one prompt that beat the other's, ties half. */
static double win_share(const struct compare_answers *mine, const struct compare_answers *other, int64_t i)
{
    double wins = 0;
    int64_t n = 0;
    for (int64_t a = 0; a < mine->n_return; a++)
        for (int64_t b = 0; b < other->n_return; b++) {
            const double d = mine->reward[i * mine->n_return + a] - other->reward[i * other->n_return + b];
            if (isnan(d)) continue;
            wins += d > 0 ? 1 : d == 0 ? 0.5 : 0;
            n++;
        }
    return n ? wins / (double)n : NAN;
}

static const struct compare_run *opponent(const struct comparison *c, size_t k, const struct compare_run *run)
{
    for (size_t i = 0; i < c->n_run; i++)
        if (c->run[i].seed == run->seed && !strcmp(c->run[i].method->name, c->study->against[k])) return &c->run[i];
    return NULL;
}

static void fill_values(struct table *t)
{
    for (int k = 0; k < t->n_measure; k++)
        for (int64_t i = 0; i < t->n_method * t->n_seed * t->n_prompt; i++) t->value[k][i] = NAN;
    for (size_t r = 0; r < t->c->n_run; r++) {
        const struct compare_run *run = &t->c->run[r];
        const struct compare_answers *a = &run->answers;
        const int64_t at = ((int64_t)run->i_method * t->n_seed + (int64_t)run->i_seed) * t->n_prompt;
        for (int64_t i = 0; i < t->n_prompt; i++) {
            t->value[REWARD][at + i] = sampled_eval_mean(a->reward + i * a->n_return, a->n_return);
            t->value[KL][at + i] = sampled_eval_mean(a->kl + i * a->n_return, a->n_return);
        }
        for (size_t k = 0; k < t->c->study->n_against; k++) {
            const struct compare_run *other = opponent(t->c, k, run);
            if (!other || other == run) continue;
            for (int64_t i = 0; i < t->n_prompt; i++) {
                t->value[REWARD_GAIN + 2 * k][at + i] = t->value[REWARD][at + i] - sampled_eval_mean(other->answers.reward + i * other->answers.n_return, other->answers.n_return);
                t->value[WIN_RATE + 2 * k][at + i] = win_share(a, &other->answers, i);
            }
        }
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seeds and prompts drawn with replacement. */
static int draw_bootstrap(struct table *t, sail_err *err)
{
    const uint64_t seed = (uint64_t)t->c->eval->seed;
    int rc = mem_alloc(&t->seed_at, (size_t)(DRAWS * t->n_seed), sizeof *t->seed_at, err);
    if (!rc) rc = mem_alloc(&t->prompt_at, (size_t)(DRAWS * t->n_prompt), sizeof *t->prompt_at, err);
    for (int64_t draw = 0; !rc && draw < DRAWS; draw++) {
        for (int64_t k = 0; k < t->n_seed; k++) t->seed_at[draw * t->n_seed + k] = (int64_t)(rng_uniform(seed, RNG_BOOTSTRAP, (uint64_t)draw, (uint64_t)k) * (double)t->n_seed);
        for (int64_t i = 0; i < t->n_prompt; i++)
            t->prompt_at[draw * t->n_prompt + i] = (int64_t)(rng_uniform(seed, RNG_BOOTSTRAP, (uint64_t)draw, (uint64_t)(t->n_seed + i)) * (double)t->n_prompt);
    }
    return rc;
}

static double replicate(const struct table *t, const double *value, int64_t draw)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t k = 0; k < t->n_seed; k++)
        for (int64_t i = 0; i < t->n_prompt; i++) {
            const double x = value[t->seed_at[draw * t->n_seed + k] * t->n_prompt + t->prompt_at[draw * t->n_prompt + i]];
            if (isnan(x)) continue;
            sum += x;
            n++;
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
    for (int64_t k = 0; k < DRAWS; k++) {
        const double x = replicate(t, value, k);
        if (!isnan(x)) draw[n++] = x;
    }
    qsort(draw, (size_t)n, sizeof *draw, ascending);
    out->low = draw[(n - 1) * 25 / 1000];
    out->high = draw[n - 1 - (n - 1) * 25 / 1000];
    free(draw);
    return SAIL_OK;
}

static void say_until(struct row *row)
{
    char runs[48] = "";
    if (row->n_there < row->n_run) snprintf(runs, sizeof runs, ", %d of %d runs", row->n_there, row->n_run);
    if (row->n_there)
        snprintf(row->said, sizeof row->said, "%.0f asked + %.0f rows%s", row->until[COMPARE_LABELS_ONLINE], row->until[COMPARE_LABELS_OFFLINE], runs);
    else
        snprintf(row->said, sizeof row->said, "not reached");
}

static int fill_row(struct table *t, int64_t m, sail_err *err)
{
    struct row *row = &t->row[m];
    int rc = SAIL_OK, n = 0;
    for (int k = 0; !rc && k < t->n_measure; k++) rc = interval(t, t->value[k] + m * t->n_seed * t->n_prompt, &row->measure[k], err);
    for (size_t r = 0; !rc && r < t->c->n_run; r++) {
        const struct compare_run *run = &t->c->run[r];
        if (run->i_method != (size_t)m) continue;
        const struct compare_point *there = compare_spent_until(&t->spent[r], t->goal);
        for (int k = 0; k < COMPARE_BUDGETS; k++) {
            row->budget[k] += t->spent[r].total[k];
            if (there) row->until[k] += there->budget[k];
        }
        row->n_there += there != NULL;
        row->length += run->answers.length;
        row->eos_share += run->answers.eos_share;
        row->name = run->method->name;
        row->preset = run->config->method;
        n++;
    }
    row->n_run = n;
    for (int k = 0; k < COMPARE_BUDGETS; k++) {
        row->budget[k] /= n;
        if (row->n_there) row->until[k] /= row->n_there;
    }
    say_until(row);
    row->length /= n;
    row->eos_share /= n;
    return rc;
}

/* The study's goal, or where the learning curves of the first method of `against` end: their mean. */
static int read_spent(struct table *t, sail_err *err)
{
    const struct study *study = t->c->study;
    struct compare_rows counted = {0};
    double sum = 0, n = 0;
    int rc = mem_alloc(&t->spent, t->c->n_run, sizeof *t->spent, err);
    for (size_t r = 0; !rc && r < t->c->n_run; r++) {
        const struct compare_spent *s = &t->spent[r];
        rc = compare_spent_read(&t->spent[r], &t->c->run[r], &counted, err);
        if (rc || !s->n || strcmp(t->c->run[r].method->name, study->against[0])) continue;
        sum += s->point[s->n - 1].reward;
        n++;
    }
    t->goal = !isnan(study->reach) ? study->reach : n > 0 ? sum / n : NAN;
    return rc;
}

static void find_front(struct table *t)
{
    for (int64_t m = 0; m < t->n_method; m++) {
        const double reward = t->row[m].measure[REWARD].value, kl = t->row[m].measure[KL].value;
        t->row[m].on_front = true;
        for (int64_t k = 0; k < t->n_method; k++) {
            const double other = t->row[k].measure[REWARD].value, its_kl = t->row[k].measure[KL].value;
            if (other >= reward && its_kl <= kl && (other > reward || its_kl < kl)) t->row[m].on_front = false;
        }
    }
}

static int make_table(struct table *t, sail_err *err)
{
    const struct comparison *c = t->c;
    t->n_method = (int64_t)c->study->n_method;
    t->n_seed = (int64_t)c->study->seeds.n;
    t->n_measure = REWARD_GAIN + 2 * (int)c->study->n_against;
    t->n_prompt = c->run[0].answers.n_prompt;
    for (size_t i = 1; i < c->n_run; i++)
        if (c->run[i].answers.n_prompt != t->n_prompt)
            return err_set(err, SAIL_FAILED, "%s was judged on %lld prompts, %s on %lld: remove the eval.json of one of them", c->run[0].name, (long long)t->n_prompt, c->run[i].name,
                           (long long)c->run[i].answers.n_prompt);
    int rc = mem_alloc(&t->row, (size_t)t->n_method, sizeof *t->row, err);
    for (int k = 0; !rc && k < t->n_measure; k++) rc = mem_alloc(&t->value[k], (size_t)(t->n_method * t->n_seed * t->n_prompt), sizeof *t->value[k], err);
    if (!rc) fill_values(t);
    if (!rc) rc = draw_bootstrap(t, err);
    if (!rc) rc = read_spent(t, err);
    for (int64_t m = 0; !rc && m < t->n_method; m++) rc = fill_row(t, m, err);
    if (!rc) find_front(t);
    return rc;
}

static void put_pair(struct buf *b, const char *name, double x, const char *before)
{
    buf_printf(b, "%s\"%s\": ", before, name);
    buf_json_double(b, x);
}

static void put_measure(struct buf *b, const char *name, const struct report_cell *x, const char *before)
{
    buf_printf(b, "%s\"%s\": ", before, name);
    put_pair(b, "mean", x->value, "{");
    put_pair(b, "low", x->low, ", ");
    put_pair(b, "high", x->high, ", ");
    buf_puts(b, "}");
}

static void put_row(struct buf *b, const struct table *t, const struct row *row)
{
    buf_printf(b, "{\"name\": \"%s\", \"method\": ", row->name);
    buf_json_string(b, row->preset, strlen(row->preset));
    put_measure(b, "reward", &row->measure[REWARD], ", ");
    put_measure(b, "kl", &row->measure[KL], ", ");
    buf_printf(b, ", \"on_front\": %s, \"against\": {", row->on_front ? "true" : "false");
    for (size_t k = 0; k < t->c->study->n_against; k++) {
        buf_printf(b, "%s\"%s\": ", k ? ", " : "", t->c->study->against[k]);
        put_measure(b, "reward_gain", &row->measure[REWARD_GAIN + 2 * k], "{");
        put_measure(b, "win_rate", &row->measure[WIN_RATE + 2 * k], ", ");
        buf_puts(b, "}");
    }
    put_pair(b, "mean_length", row->length, "}, ");
    put_pair(b, "eos_share", row->eos_share, ", ");
    buf_puts(b, ", \"budget\": {");
    for (int k = 0; k < COMPARE_BUDGETS; k++) put_pair(b, budget_name[k], row->budget[k], k ? ", " : "");
    buf_printf(b, "}, \"to_reach\": {\"runs\": %d, \"of\": %d", row->n_there, row->n_run);
    for (int k = 0; row->n_there && k < COMPARE_BUDGETS; k++) put_pair(b, budget_name[k], row->until[k], ", ");
    buf_puts(b, "}}");
}

static int write_json(const struct table *t, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "{\"prompts\": %lld, \"answers_per_prompt\": %lld, \"bootstrap_draws\": %d, \"seeds\": [", (long long)t->n_prompt,
               (long long)t->c->run[0].answers.n_return, (int)DRAWS);
    for (int64_t s = 0; s < t->n_seed; s++) buf_printf(&b, "%s%lld", s ? ", " : "", (long long)t->c->study->seeds.item[s]);
    put_pair(&b, "reach", t->goal, "], ");
    buf_puts(&b, ",\n \"methods\": [");
    for (int64_t m = 0; m < t->n_method; m++) {
        buf_puts(&b, m ? ",\n  " : "\n  ");
        put_row(&b, t, &t->row[m]);
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
    enum { COLUMNS = MEASURES + 4 + COMPARE_BUDGETS };
    static const char *const fixed[] = {"length", "EOS share", "gradient steps", "trained tokens", "sampled tokens", "labels asked online", "labels in the data"};
    const struct comparison *c = t->c;
    const bool reaches = !isnan(t->goal);
    const int n_column = t->n_measure + 3 + reaches + COMPARE_BUDGETS;
    char *column[COLUMNS] = {mem_strdup("reward"), mem_strdup("KL to the start")};
    struct report_cell *cell = NULL;
    struct report_run *run = NULL;
    const char **label = NULL;
    int rc = mem_alloc(&cell, (size_t)t->n_method * (size_t)n_column, sizeof *cell, err);
    if (!rc) rc = mem_alloc(&run, c->n_run, sizeof *run, err);
    if (!rc) rc = mem_alloc(&label, (size_t)t->n_method, sizeof *label, err);
    for (size_t k = 0; k < c->study->n_against; k++) {
        column[REWARD_GAIN + 2 * k] = mem_printf("gain over %s", c->study->against[k]);
        column[WIN_RATE + 2 * k] = mem_printf("win rate against %s", c->study->against[k]);
    }
    column[t->n_measure] = mem_strdup("on the front");
    for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++) column[t->n_measure + 1 + (int)k] = mem_strdup(fixed[k]);
    if (reaches) column[n_column - 1] = mem_printf("labels to reach %.4g", t->goal);
    for (int64_t m = 0; !rc && m < t->n_method; m++) {
        const struct row *row = &t->row[m];
        struct report_cell *at = cell + m * n_column;
        label[m] = row->name;
        for (int k = 0; k < t->n_measure; k++) *at++ = row->measure[k];
        *at++ = (struct report_cell){.value = NAN, .low = NAN, .high = NAN, .text = row->on_front ? "yes" : ""};
        *at++ = (struct report_cell){.value = row->length, .low = NAN, .high = NAN};
        *at++ = (struct report_cell){.value = row->eos_share, .low = NAN, .high = NAN};
        for (int k = 0; k < COMPARE_BUDGETS; k++) *at++ = (struct report_cell){.value = row->budget[k], .low = NAN, .high = NAN};
        if (reaches) *at++ = (struct report_cell){.value = NAN, .low = NAN, .high = NAN, .text = row->said};
    }
    for (size_t i = 0; !rc && i < c->n_run; i++) run[i] = (struct report_run){c->run[i].folder, c->run[i].name};
    const struct report_table table = {.title = "Results", .n_column = n_column, .n_row = (int)t->n_method, .column = (const char *const *)column, .row = label, .cell = cell, .chart_x = KL, .chart_y = REWARD,
                                       .note = "Means over seeds and held-out prompts; 95 % intervals by a paired bootstrap over both (1000 draws, the same for every method). On the front: no other method has "
                                               "at least that reward at less KL. Budgets are those of one run. "
                                               "Where the judge is also what labelled online pairs, reward is measured on the very thing that those methods were trained on. Labels asked online come on top of those in the data. "
                                               "Labels to reach a reward: until a run's learning curve (the reward on its held-out prompts) was there first; means over the runs that got there."};
    char *path = path_join(c->out, "report.html");
    if (!rc) rc = report_compare_write(path, "sail compare", "Methods from the same start, on the same data order and budget, judged on the same prompts.", run, (int)c->n_run, &table, 1, err);
    free(path);
    for (int k = 0; k < n_column; k++) free(column[k]);
    free(cell);
    free(run);
    free(label);
    return rc;
}

static void print_cell(const struct report_cell *x)
{
    char text[64] = "";
    if (!isnan(x->value)) snprintf(text, sizeof text, "%.4f [%.4f, %.4f]", x->value, x->low, x->high);
    printf(" %28s", text);
}

static void print_table(const struct table *t)
{
    printf("%-20s %28s %28s", "method", "reward", "KL to the start");
    for (size_t k = 0; k < t->c->study->n_against; k++) {
        char head[100];
        snprintf(head, sizeof head, "wins against %s", t->c->study->against[k]);
        printf(" %28s", head);
    }
    putchar('\n');
    for (int64_t m = 0; m < t->n_method; m++) {
        printf("%-20s", t->row[m].name);
        print_cell(&t->row[m].measure[REWARD]);
        print_cell(&t->row[m].measure[KL]);
        for (size_t k = 0; k < t->c->study->n_against; k++) print_cell(&t->row[m].measure[WIN_RATE + 2 * k]);
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
    for (int k = 0; k < t.n_measure; k++) free(t.value[k]);
    free(t.seed_at);
    free(t.prompt_at);
    free(t.row);
    for (size_t i = 0; t.spent && i < c->n_run; i++) compare_spent_release(&t.spent[i]);
    free(t.spent);
    return rc;
}
