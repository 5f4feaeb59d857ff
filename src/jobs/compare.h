/* sail compare: methods x seeds from the same start, judged on the same prompts. compare.c plans, compare_run.c drives the
 * processes of the runs, compare_eval.c judges a final policy, compare_spent.c counts what it took, compare_table.c makes the table and the page. */
#ifndef SAIL_JOBS_COMPARE_H
#define SAIL_JOBS_COMPARE_H

#include "config/config.h"
#include "config/study.h"

/* What a run leaves for the table. */
struct compare_answers {
    int64_t n_prompt, n_return;
    double *reward, *kl; /* (n_prompt, n_return); NaN: no verdict */
    double length, eos_share;
};
struct compare_run {
    const struct study_method *method;
    size_t i_method, i_seed; /* in the study */
    int64_t seed;
    sail_config *config;    /* of `sail align`, with the preset's defaults */
    char *name, *folder;    /* "dpo-seed1", OUT/dpo-seed1 */
    struct compare_answers answers;
};
struct comparison {
    struct study *study;
    char *out;
    sail_config *eval; /* of `sail eval`: prompts, sampling and judge */
    struct compare_run *run; /* method by method, seed by seed; not every method has every seed */
    size_t n_run;
    int jobs; /* runs at a time */
    bool quiet;
};

/* A folder that is there already must hold the run that the study asks for. */
int compare_check_folder(const struct compare_run *run, sail_err *err);
/* Trains and judges what is not finished yet. */
int compare_run_all(struct comparison *c, sail_err *err);

struct compare_judge;
/* The start policy, the held-out prompts and the judge: opened together. */
int compare_judge_open(struct compare_judge **out, const struct comparison *c, sail_err *err);
void compare_judge_close(struct compare_judge *j);
/* Samples the final policy of a run; leaves answers.jsonl and then eval.json in its folder, which says that the run is finished. */
int compare_judge_run(struct compare_judge *j, const struct compare_run *run, sail_err *err);

bool compare_finished(const struct compare_run *run);
int compare_answers_read(struct compare_run *run, sail_err *err);
/* What a run spends. LABELS_OFFLINE: labelled rows of the data. */
enum { COMPARE_STEPS, COMPARE_TRAINED_TOKENS, COMPARE_SAMPLED_TOKENS, COMPARE_LABELS_ONLINE, COMPARE_LABELS_OFFLINE, COMPARE_BUDGETS };
/* An evaluation on the way: the mean reward of --eval-prompts, and what had been spent. */
struct compare_point {
    double reward, budget[COMPARE_BUDGETS];
};
struct compare_spent {
    double total[COMPARE_BUDGETS];
    struct compare_point *point; /* in the order of steps */
    size_t n, capacity;
};
/* The rows of the data that were counted last: runs of a study mostly share theirs. */
struct compare_rows {
    const char *data;
    double n;
};
int compare_spent_read(struct compare_spent *s, const struct compare_run *run, struct compare_rows *counted, sail_err *err);
void compare_spent_release(struct compare_spent *s);
/* The first evaluation with at least this reward, NULL: none. */
const struct compare_point *compare_spent_until(const struct compare_spent *s, double reward);

/* table.json and report.html in c->out. */
int compare_write(struct comparison *c, sail_err *err);

#endif
