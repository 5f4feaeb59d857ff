/* The verdicts of several evaluators on the same answers as one verdict. */
#ifndef SAIL_LABEL_ENSEMBLE_H
#define SAIL_LABEL_ENSEMBLE_H

#include "label/labeler.h"

enum { MAX_EVALUATORS = 16 };
enum ensemble_rule {
    ENSEMBLE_MEAN,        /* sum w r / sum w */
    ENSEMBLE_MIN,         /* the least reward; weights have no place in it */
    ENSEMBLE_MEAN_SPREAD, /* mean - spread_coef * standard deviation over the evaluators */
    ENSEMBLE_VOTE,        /* P(i beats j) = sum w v / sum w, v an evaluator's own verdict: 1, 1/2, 0 by its rewards, or its P */
};
struct ensemble {
    enum ensemble_rule rule;
    double spread_coef;
    int n, quorum; /* evaluators; of them at least so many must have judged what gets a verdict, 0: all */
    double weight[MAX_EVALUATORS];
};
enum ensemble_rule ensemble_rule_find(const char *name); /* mean, min, mean-spread, vote */

/* Of n answers: reward (evaluators, n), NaN: no verdict; p (evaluators): P(first of two beats the second), NaN: none, read by the vote alone. Answers that fewer than the quorum judged get no verdict; of
 * the others only the evaluators count that judged every one of them, so that no answer gains by who was silent about it; are they fewer than the quorum, nothing has a verdict.
 * A vote on two answers is a->p; among more, a->reward is the mean of P against every other answer that is judged. */
void ensemble_combine(const struct ensemble *e, int n, const double *reward, const double *p, struct label_answer *a);

#endif
