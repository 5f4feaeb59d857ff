/* Every pair of a prompt's answers meets, and the labeler is asked about each meeting by itself: judges of two answers need no scale of rewards. */
#include <math.h>

#include "base/err.h"
#include "train/run.h"

/* Where the meeting of answers x < y of k lies among all. */
static int64_t place(int64_t k, int x, int y) { return x * (2 * k - x - 1) / 2 + y - x - 1; }

static double *duel_of(const struct run *r, int64_t i, int x, int y)
{
    const int64_t k = r->sampled.k;
    return &r->sampled.duel[i * (k * (k - 1) / 2) + place(k, x, y)];
}

int duels_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (r->pairing->ask != duels_ask && r->pairing->ask != tournament_ask) return SAIL_OK;
    if (r->objective->needs & COL_WIN_RATE) return err_set(err, SAIL_USAGE, "--pairing %s: method %s reads every answer's rate of wins from rewards: --pairing all", c->pairing, r->preset->name);
    if (c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--pairing %s: the verdicts of its pairs are not kept for further steps: drop --replay-steps", c->pairing);
    if (c->pair_margin > 0 || c->pair_margin_own > 0 || c->pair_floor > -1e12)
        return err_set(err, SAIL_USAGE, "--pair-margin and --pair-floor are about rewards, and --pairing %s asks who wins: drop them, or --pairing all", c->pairing);
    return SAIL_OK;
}

int duels_ask(struct run *r, int64_t i, int64_t first, sail_err *err)
{
    const int k = (int)r->sampled.k;
    for (int x = 0; x < k; x++)
        for (int y = x + 1; y < k; y++) {
            const int both[2] = {x, y};
            double reward[2], p;
            int rc = labels_ask(r, i, first, both, 2, reward, &p, err);
            if (rc) return rc;
            *duel_of(r, i, x, y) = !isnan(p) ? p : 1 / (1 + exp((reward[1] - reward[0]) / r->config->label_temperature));
        }
    return SAIL_OK;
}

struct pair duels_pair(const struct run *r, int64_t i, int64_t first, const int *of)
{
    return labels_verdict(r, i, first, of, *duel_of(r, i, of[0], of[1]));
}
