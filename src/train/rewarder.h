/* Rewards of completions, from rules, a table, a program, final answers, a reward model, a judge or several of them: one face for the step. */
#ifndef SAIL_TRAIN_REWARDER_H
#define SAIL_TRAIN_REWARDER_H

#include "batch/batch.h"
#include "config/config.h"
#include "data/text_pipeline.h"
#include "train/author.h"

struct rewarder;

/* From --reward-rule, --reward-table, --labeler-command, --reward-model, --judge-model, --evaluators or --final-answer; *out stays NULL when none is given. run: what a judge of the run itself writes with, {0}: nothing is trained. */
int rewarder_open(struct rewarder **out, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err);
#define REWARDER_OPTIONS(X) X(reward_rule) X(reward_table) X(labeler_command) X(reward_model) X(judge_model) X(evaluators) X(final_answer)
/* How many of those options are given; beside --evaluators a judge is theirs. */
int rewarder_given(const sail_config *config);
#define REWARDERS "--reward-rule, --reward-table, --labeler-command, --reward-model, --judge-model, --evaluators or --final-answer"
void rewarder_close(struct rewarder *r);
/* Bytes of its models, all of them together: weights and layouts, and the activations of the largest. */
size_t rewarder_memory(const struct rewarder *r);
const char *rewarder_name(const struct rewarder *r);
bool rewarder_compares(const struct rewarder *r); /* no reward for a single answer: pairs only */

/* Answers of one prompt, 64 at most. */
struct reward_request {
    int64_t key;             /* stable number of the request */
    const char *prompt_text; /* may be NULL: ids only */
    json_t *row;             /* the data row, may be NULL */
    const int32_t *prompt;
    int64_t n_prompt;
    int n;                          /* completions */
    int n_vote;                     /* the first so many may vote for a majority; 0: all */
    const int32_t *const *ids;      /* (n) completion ids */
    const int32_t *n_tok;           /* (n) */
    const enum finish *finish;      /* (n) */
};
/* reward[i]: NaN where there is no verdict. p: P(first beats second) when the labeler judges pairs, else NaN. */
int rewarder_ask(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err);

#endif
