#define _GNU_SOURCE
/* sail report DIR: the page of one run; of a folder of runs, a page that compares them by their eval.json and their curves. */
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "report/run_writer.h"

enum { MAX_RUNS = 64, COLUMNS = 8 };

struct comparison {
    char *folder[MAX_RUNS], *label[MAX_RUNS];
    struct report_cell cell[MAX_RUNS][COLUMNS];
    int n;
};

static bool is_run(const char *folder)
{
    char *path = path_join(folder, "metrics.jsonl");
    const bool there = path_exists(path);
    free(path);
    return there;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int collect(struct comparison *c, const char *folder, sail_err *err)
{
    struct dirent **list;
    const int n = scandir(folder, &list, NULL, by_name);
    if (n < 0) return err_set(err, SAIL_FAILED, "%s: expected a run or a folder of runs", folder);
    for (int i = 0; i < n; i++) {
        char *path = path_join(folder, list[i]->d_name);
        if (list[i]->d_name[0] != '.' && c->n < MAX_RUNS && is_run(path)) {
            c->folder[c->n] = path;
            c->label[c->n++] = mem_strdup(list[i]->d_name);
            path = NULL;
        }
        free(path);
        free(list[i]);
    }
    free(list);
    return c->n ? SAIL_OK : err_set(err, SAIL_FAILED, "%s: no run in it (no metrics.jsonl one folder down)", folder);
}

static struct report_cell cell_of(json_t *eval, const char *key)
{
    json_t *v = json_object_get(eval, key);
    struct report_cell c = {.value = NAN, .low = NAN, .high = NAN};
    if (json_is_number(v)) c.value = json_number_value(v);
    if (json_is_object(v)) {
        json_t *mean = json_object_get(v, "mean"), *low = json_object_get(v, "low"), *high = json_object_get(v, "high");
        if (json_is_number(mean)) c.value = json_number_value(mean);
        if (json_is_number(low)) c.low = json_number_value(low);
        if (json_is_number(high)) c.high = json_number_value(high);
    }
    return c;
}

/* Last values and the best held-out reward of a run's own curve. */
static void read_curve(const char *folder, struct report_cell *labels, struct report_cell *sampled, struct report_cell *best, char best_text[64])
{
    char *path = path_join(folder, "metrics.jsonl"), *data = NULL;
    size_t len = 0;
    double top = -INFINITY, step = 0;
    *labels = *sampled = (struct report_cell){.value = 0, .low = NAN, .high = NAN};
    if (!file_read(path, (size_t)2 << 30, &data, &len, NULL))
        for (size_t at = 0; at < len;) {
            const char *end = memchr(data + at, '\n', len - at);
            const size_t n = end ? (size_t)(end - data) - at : len - at;
            json_t *row = json_loadb(data + at, n, 0, NULL), *l = json_object_get(row, "labels"), *s = json_object_get(row, "sampled_tokens"), *r = json_object_get(row, "eval_reward");
            if (json_is_number(l)) labels->value = json_number_value(l);
            if (json_is_number(s)) sampled->value = json_number_value(s);
            if (json_is_number(r) && json_number_value(r) > top) {
                top = json_number_value(r);
                step = json_number_value(json_object_get(row, "step"));
            }
            json_decref(row);
            at += n + 1;
        }
    free(data);
    free(path);
    *best = (struct report_cell){.value = NAN, .low = NAN, .high = NAN};
    if (!isfinite(top)) return;
    snprintf(best_text, 64, "%.3g at step %.0f", top, step);
    best->text = best_text;
}

static int write_comparison(struct comparison *c, const char *folder, const char *out, sail_err *err)
{
    static const char *const column[COLUMNS] = {"reward", "win rate", "KL", "length", "EOS share", "labels asked online", "tokens sampled", "best on its curve"};
    char best[MAX_RUNS][64];
    struct report_run run[MAX_RUNS];
    for (int i = 0; i < c->n; i++) {
        char *path = path_join(c->folder[i], "eval.json");
        json_t *eval = path_exists(path) ? json_load_file(path, 0, NULL) : NULL;
        static const char *const key[5] = {"reward", "win_rate", "kl", "mean_length", "eos_share"};
        for (int k = 0; k < 5; k++) c->cell[i][k] = cell_of(eval, key[k]);
        read_curve(c->folder[i], &c->cell[i][5], &c->cell[i][6], &c->cell[i][7], best[i]);
        json_decref(eval);
        free(path);
        run[i] = (struct report_run){c->folder[i], c->label[i]};
    }
    const struct report_table table = {.title = "Results", .n_column = COLUMNS, .n_row = c->n, .column = column, .row = (const char *const *)c->label, .cell = &c->cell[0][0],
                                       .note = "Means over held-out prompts with 95 % intervals over prompts (one trained policy each). The reward is the rule or model that labelled online pairs: it is "
                                               "measured on the very thing that those methods were trained on. Labels asked online come on top of the labels in the offline data."};
    return report_compare_write(out, folder, "Runs from the same start, compared.", run, c->n, &table, 1, err);
}

int job_report(const sail_config *config, sail_err *err)
{
    if (!config->action) return err_set(err, SAIL_USAGE, "`sail report` needs a run directory, or a folder of them");
    char *out = config->out ? mem_strdup(config->out) : path_join(config->action, "report.html");
    struct comparison *c;
    int rc = mem_alloc(&c, 1, sizeof *c, err);
    if (!rc && is_run(config->action) && !config->out)
        rc = report_write(config->action, err);
    else if (!rc && !(rc = collect(c, config->action, err)))
        rc = write_comparison(c, config->action, out, err);
    if (!rc) log_note("%s", out);
    for (int i = 0; c && i < c->n; i++) {
        free(c->folder[i]);
        free(c->label[i]);
    }
    free(c);
    free(out);
    return rc;
}
