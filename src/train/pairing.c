/* From the k answers of a prompt to pairs. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "train/run.h"

/* The best against the worst answer (the first of equals; without a verdict on two answers: the first two). */
static int best_worst(int k, const double *reward, double u, int (*out)[2])
{
    int best = 0, worst = 0;
    (void)u;
    for (int i = 1; reward && i < k; i++) {
        if (isnan(reward[i])) continue;
        if (isnan(reward[best]) || reward[i] > reward[best]) best = i;
        if (isnan(reward[worst]) || reward[i] < reward[worst]) worst = i;
    }
    if (best == worst) worst = best ? 0 : 1;
    out[0][0] = best;
    out[0][1] = worst;
    return 1;
}

static int at_random(int k, const double *reward, double u, int (*out)[2])
{
    (void)reward;
    const int code = (int)(u * k * (k - 1)), i = code / (k - 1), j = code % (k - 1);
    out[0][0] = i;
    out[0][1] = j + (j >= i);
    return 1;
}

static int every(int k, const double *reward, double u, int (*out)[2])
{
    int n = 0;
    (void)reward;
    (void)u;
    for (int i = 0; i < k; i++)
        for (int j = i + 1; j < k; j++, n++) {
            out[n][0] = i;
            out[n][1] = j;
        }
    return n;
}

/* Whose pair is not chosen but asked for: what `ask` and `pair` make of it says which answers it has. */
static int one_pair(int k, const double *reward, double u, int (*out)[2])
{
    (void)k;
    (void)reward;
    (void)u;
    out[0][0] = 0;
    out[0][1] = 1;
    return 1;
}

static const struct pairing pairings[] = {
    {.name = "best-worst", .choose = best_worst, .needs_reward = true, .skews = true},
    {.name = "random", .choose = at_random},
    {.name = "tournament", .choose = one_pair, .skews = true, .ask = tournament_ask, .pair = tournament_pair},
    {.name = "opponent", .choose = one_pair, .skews = true, .ask = opponent_ask, .pair = opponent_pair},
    {.name = "tilted", .choose = tilt_choose, .needs_reward = true, .skews = true, .weight = tilt_weight},
    {.name = "all", .choose = every, .all = true},
    {.name = "duels", .choose = every, .all = true, .ask = duels_ask, .pair = duels_pair},
};

const struct pairing *pairing_find(const char *name)
{
    for (size_t i = 0; i < sizeof pairings / sizeof *pairings; i++)
        if (!strcmp(pairings[i].name, name)) return &pairings[i];
    return NULL;
}

void batch_keep_paired(struct batch *b, bool reference)
{
    int64_t pairs = 0, rows = 0;
    for (int64_t k = 0; k < b->n_pair; k++)
        if (!b->pair[k].unlabelled) b->pair[pairs++] = b->pair[k];
    b->n_pair = pairs;
    // Both passes go forward: pairs of a row are found by its old number, which is never smaller than the new one.
    for (int64_t i = 0; i < b->n; i++) {
        bool used = reference && b->source[i] == SOURCE_REFERENCE;
        for (int64_t k = 0; k < pairs; k++) {
            struct pair *q = &b->pair[k];
            if (q->win != i && q->lose != i) continue;
            used = true;
            if (q->win == i) q->win = (int32_t)rows;
            if (q->lose == i) q->lose = (int32_t)rows;
        }
        if (!used) continue;
        if (rows != i) batch_move_row(b, rows, i);
        rows++;
    }
    b->n = rows;
}
