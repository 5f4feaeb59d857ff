/* What a run leaves behind while it goes: metrics.jsonl (deterministic values only), timing.jsonl (clock, tokens/s, memory), samples.jsonl,
 * TensorBoard events, and the progress line of the terminal. */
#ifndef SAIL_REPORT_RUN_WRITER_H
#define SAIL_REPORT_RUN_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "sail.h"

/* Metric names are TRL's where one exists ("rewards/margins"). */
struct metric {
    const char *name;
    double value;
};

struct run_writer;
/* resume_step >= 0, the step of the checkpoint that a run goes on from: lines of later steps in metrics.jsonl, timing.jsonl and samples.jsonl are cut off first
 * (durably), and a new event file starts with a SessionLog START at the step after it. */
enum { RUN_IS_NEW = -2, RUN_STARTS_OVER = -1 /* it left no checkpoint: all lines go */ };
int run_writer_open(struct run_writer **out, const char *folder, int64_t resume_step, bool progress, int64_t total_steps, sail_err *err);
int run_writer_close(struct run_writer *w, sail_err *err);
/* One line {"step":N, name: value, ...} in the given order, 17 digits, NaN as null; the same scalars go to TensorBoard under prefix. */
int run_writer_metrics(struct run_writer *w, int64_t step, const struct metric *m, int n, sail_err *err);
int run_writer_timing(struct run_writer *w, int64_t step, const struct metric *m, int n, sail_err *err);
struct sample_row {
    int64_t step, prompt_id, k;
    const char *prompt, *completion, *source; /* "policy", "dataset" */
    double reward, logp;                      /* NaN: absent */
};
int run_writer_sample(struct run_writer *w, const struct sample_row *row, sail_err *err);
int run_writer_sync(struct run_writer *w, sail_err *err); /* flush and fsync: at checkpoints */
/* The terminal's line: "step 12/200 [=>   ] 6% | loss 0.69 | margin 0.1 | reward 1.2 | 1.2k tok/s | ETA 3m10s". On a terminal it is
 * rewritten in place at most ten times a second; else one line every 30 s and at the end. */
void run_writer_progress(struct run_writer *w, int64_t step, const struct metric *m, int n, double tokens_per_s, const char *phase);

/* Reads the run directory (and nothing else) and writes report.html: self-contained, inline SVG. */
int report_write(const char *folder, sail_err *err);
/* Several runs in one page: table with 95 % intervals, curves over each other, reward against KL, samples side by side. */
struct report_run {
    const char *folder, *label;
};
struct report_cell {
    double value, low, high; /* low, high NaN: no interval */
    const char *text;        /* shown instead of the value */
};
struct report_table {
    const char *title, *note;
    int n_column, n_row;
    const char *const *column;
    const char *const *row;
    const struct report_cell *cell; /* row-major */
    int chart_x, chart_y; /* columns that are drawn against each other, a point a row; the same column: none */
};
int report_compare_write(const char *path, const char *title, const char *introduction, const struct report_run *run, int n_run,
                         const struct report_table *table, int n_table, sail_err *err);

#endif
