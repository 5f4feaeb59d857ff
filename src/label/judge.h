/* A language model as labeler: it writes a verdict on answers, and the verdict is read from its text (rubric.h). */
#ifndef SAIL_LABEL_JUDGE_H
#define SAIL_LABEL_JUDGE_H

#include "label/labeler.h"

struct verdict_text {
    const char *text; /* NULL: the judge could not be asked */
    bool finished;    /* it ended by itself */
};
/* Who writes the verdicts. */
struct judge_writer {
    void *context;
    /* n questions, each answered `samples` times: out[i * samples + s], texts that live until the next call. id: of the request; the same id, questions and judge give the same texts. */
    int (*write)(void *context, const char *id, const char *system, const char *const *question, int n, int samples, struct verdict_text *out, sail_err *err);
    void (*close)(void *context);
};
/* Points: reward = the mean over the texts that have a verdict. Pairs: each two answers are judged in both orders, p = the mean over the samples that have both; with more than two answers reward = the mean
 * of p against every other one. role: goes behind the rubric's system text; NULL: none. Takes the writer over, also when it fails. */
int labeler_judge_open(struct labeler **out, const char *rubric, const char *role, int samples, const struct judge_writer *w, sail_err *err);

#endif
