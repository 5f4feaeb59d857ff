/* What a run of a study spent: in all, and until its learning curve was at a reward for the first time. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/columns.h"
#include "data/row_reader.h"
#include "jobs/compare.h"
#include "objective/objective.h"
#include "train/preset.h"

static int count_rows(struct compare_rows *counted, const char *data, sail_err *err)
{
    const struct columns columns = {0};
    struct data_files files;
    struct row_reader *reader = NULL;
    json_t *row = NULL;
    if (counted->data && !strcmp(counted->data, data)) return SAIL_OK;
    int rc = data_files_find(&files, data, err);
    if (rc) return rc;
    *counted = (struct compare_rows){.data = data};
    rc = row_reader_open(&reader, &files, columns_need, &columns, err);
    while (!rc && !(rc = row_reader_next(reader, &row, err)) && row) {
        json_decref(row);
        counted->n++;
    }
    row_reader_close(reader);
    data_files_release(&files);
    return rc;
}

static double data_share(const sail_config *c) { return c->data ? fmax(0, 1 - c->mix_pp - c->mix_pr) : 0; }

/* Gradient steps that the run's step is made of. */
static double gradients(const sail_config *c)
{
    const struct preset *p = strchr(c->method, ',') ? NULL : preset_find(c->method, NULL);
    if (c->extragradient) return 2;                                                              // one more, to look ahead
    if (p && objective_find(p->objective)->needs & LEARNS_REWARD) return 2 + 1 / (double)c->reward_every; // two policies, and the reward model's
    return 1;
}

/* The counters of one line of metrics; what it does not say stays. */
static void read_counters(const json_t *line, double counter[COMPARE_BUDGETS])
{
    static const char *const key[COMPARE_BUDGETS] = {[COMPARE_STEPS] = "step", [COMPARE_TRAINED_TOKENS] = "num_tokens", [COMPARE_SAMPLED_TOKENS] = "sampled_tokens", [COMPARE_LABELS_ONLINE] = "labels"};
    for (int k = 0; k < COMPARE_BUDGETS; k++) {
        const json_t *v = key[k] ? json_object_get(line, key[k]) : NULL;
        if (json_is_number(v)) counter[k] = json_number_value(v);
    }
}

static int add_point(struct compare_spent *s, double reward, const double counter[COMPARE_BUDGETS], sail_err *err)
{
    int rc = s->n < s->capacity ? SAIL_OK : mem_grow(&s->point, s->n, &s->capacity, sizeof *s->point, err);
    if (rc) return rc;
    struct compare_point *p = &s->point[s->n++];
    p->reward = reward;
    memcpy(p->budget, counter, sizeof p->budget);
    return SAIL_OK;
}

int compare_spent_read(struct compare_spent *s, const struct compare_run *run, struct compare_rows *counted, sail_err *err)
{
    const sail_config *c = run->config;
    const double share = data_share(c), each = gradients(c);
    char *path = path_join(run->folder, "metrics.jsonl"), *data, *save = NULL;
    double rows = 0;
    size_t n;
    *s = (struct compare_spent){.n = 0};
    int rc = file_read(path, (size_t)2 << 30, &data, &n, err);
    free(path);
    if (rc) return rc;
    for (char *line = strtok_r(data, "\n", &save); line && !rc; line = strtok_r(NULL, "\n", &save)) {
        json_t *row = json_loads(line, 0, NULL), *reward = json_object_get(row, "eval_reward");
        read_counters(row, s->total);
        if (json_is_number(reward)) rc = add_point(s, json_number_value(reward), s->total, err);
        json_decref(row);
    }
    free(data);
    if (!rc && share > 1e-12) {
        rc = count_rows(counted, c->data, err);
        rows = counted->n;
    }
    for (size_t k = 0; k < s->n; k++) { // a step's share of data rows is new until all of them were met
        double *budget = s->point[k].budget;
        budget[COMPARE_LABELS_OFFLINE] = fmin(rows, share * (double)c->batch * budget[COMPARE_STEPS]);
        budget[COMPARE_STEPS] *= each;
    }
    s->total[COMPARE_LABELS_OFFLINE] = rows;
    s->total[COMPARE_STEPS] *= each;
    return rc;
}

void compare_spent_release(struct compare_spent *s) { free(s->point); }

const struct compare_point *compare_spent_until(const struct compare_spent *s, double reward)
{
    for (size_t k = 0; k < s->n; k++)
        if (s->point[k].reward >= reward) return &s->point[k];
    return NULL;
}
