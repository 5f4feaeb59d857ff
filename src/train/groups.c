/* Runs on groups: the judged answers of a prompt, all drawn from the policy. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "train/run.h"

int groups_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const char *name = r->preset->name;
    if (r->mixture.pr < 1) return err_set(err, SAIL_USAGE, "method %s learns from the policy's judged answers alone: --mix-pr 1", name);
    if (c->replay_steps > 0) return err_set(err, SAIL_USAGE, "method %s takes one step on an answer: drop --replay-steps", name);
    if (c->eval_data) return err_set(err, SAIL_USAGE, "--eval-data: method %s has no loss on answers that are not its own: give --eval-prompts", name);
    if (strcmp(c->pairing, "best-worst")) return err_set(err, SAIL_USAGE, "--pairing: method %s learns from all answers at once, not from pairs: drop it", name);
    return SAIL_OK;
}

int64_t groups_keep_judged(struct batch *b)
{
    int64_t kept = 0, dropped = 0;
    for (int64_t from = 0, end; from < b->n; from = end) {
        int64_t judged = 0;
        end = batch_group_end(b, from);
        for (int64_t i = from; i < end; i++) judged += !isnan(b->reward[i]);
        for (int64_t i = from; i < end; i++) {
            if (isnan(b->reward[i]) || judged < 2) {
                dropped++;
                continue;
            }
            if (kept != i) batch_move_row(b, kept, i);
            kept++;
        }
    }
    b->n = kept;
    return dropped;
}

int64_t groups_count(const struct batch *b)
{
    int64_t n = 0;
    for (int64_t from = 0; from < b->n; from = batch_group_end(b, from)) n++;
    return n;
}
