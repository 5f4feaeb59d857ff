/* The rounds of `sail align --round-steps` (IterComp, docs/methods.md): before each, models of a gallery answer the prompts, a labeler judges them two by two, and reward models are fitted anew on all pairs
 * so far; they label the round's steps, and the policy that comes out of them joins the gallery. What a round needs lies in OUT/rounds; what is there is not made again. */
#ifndef SAIL_JOBS_ROUNDS_H
#define SAIL_JOBS_ROUNDS_H

#include "train/run.h"

struct rounds;
/* Of the run's options; what is wrong with them is said here. *out stays NULL where the run has no rounds. */
int rounds_open(struct rounds **out, const struct run *r, sail_err *err);
void rounds_close(struct rounds *w);
int64_t rounds_number(const struct rounds *w, int64_t step); /* from 1: the round that the next step belongs to */
int64_t rounds_end(const struct rounds *w, int64_t step);    /* its last step */
bool rounds_ready(const struct rounds *w, int64_t n);
int rounds_keep_policy(const struct rounds *w, const struct run *r, int64_t n, sail_err *err); /* as the round before n left it */
int rounds_prepare(const struct rounds *w, int64_t n, sail_err *err);                          /* no run is open meanwhile */
int rounds_enter(const struct rounds *w, struct run *r, int64_t n, sail_err *err);             /* the round's reward models label what the run learns from */

#endif
