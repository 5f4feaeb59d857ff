/* Best against worst of many answers by a judge of two, with few questions: winners meet winners until one is left, and those who lost their first meeting meet each other until one has
 * lost everything. Eight answers take eleven meetings instead of the twenty-eight of all pairs (INPO, 2407.00617). */
#include <math.h>

#include "base/err.h"
#include "train/run.h"

/* What is known of the meetings so far: p[x][y] = P(x beats y), NaN: not met. */
struct bracket {
    double p[MAX_ANSWERS][MAX_ANSWERS];
    meet_function *meet;
    void *context;
};

/* Those who met before do not meet again. */
static int encounter(struct bracket *b, int x, int y, double *p, sail_err *err)
{
    int rc = isnan(b->p[x][y]) ? b->meet(b->context, x, y, &b->p[x][y], err) : SAIL_OK;
    *p = b->p[x][y];
    b->p[y][x] = 1 - *p;
    return rc;
}

/* One round of n players, in their order: who wins (or loses) goes on, of equals the first, and the odd one out. Who does not is appended to `out` of *n_out. Returns how many go on; -1: a
 * meeting had no verdict. */
static int play_round(struct bracket *b, int *player, int n, bool winners, int *out, int *n_out, int *rc, sail_err *err)
{
    int on = 0;
    for (int k = 0; k + 1 < n; k += 2) {
        double p;
        const int x = player[k], y = player[k + 1];
        if ((*rc = encounter(b, x, y, &p, err)) || isnan(p)) return -1;
        const bool first = winners ? p >= 0.5 : p <= 0.5;
        if (out) out[(*n_out)++] = first ? y : x;
        player[on++] = first ? x : y;
    }
    if (n % 2) player[on++] = player[n - 1];
    return on;
}

int tournament_play(int k, meet_function *meet, void *context, int *best, int *worst, double *p, sail_err *err)
{
    struct bracket b = {.meet = meet, .context = context};
    int up[MAX_ANSWERS], down[MAX_ANSWERS], n_up = k, n_down = 0, rc = SAIL_OK;
    *p = NAN;
    for (int x = 0; x < k; x++) {
        up[x] = x;
        for (int y = 0; y < k; y++) b.p[x][y] = NAN;
    }
    for (bool first = true; n_up > 1; first = false) {
        const int odd = n_up % 2 ? up[n_up - 1] : -1;
        n_up = play_round(&b, up, n_up, true, first ? down : NULL, &n_down, &rc, err);
        if (n_up < 0) return rc;
        if (first && odd >= 0) down[n_down++] = odd; // who has not met anybody may be either
    }
    while (n_down > 1)
        if ((n_down = play_round(&b, down, n_down, false, NULL, NULL, &rc, err)) < 0) return rc;
    *best = up[0];
    *worst = down[0];
    return *best == *worst ? SAIL_OK : encounter(&b, *best, *worst, p, err);
}

struct asking {
    struct run *r;
    int64_t i, first;
};

static int ask_two(void *context, int x, int y, double *p, sail_err *err)
{
    const struct asking *a = context;
    struct sampled_answer *answer = &a->r->sampled.answer[a->i * a->r->sampled.k];
    const int both[2] = {x, y};
    double reward[2];
    int rc = labels_ask(a->r, a->i, a->first, both, 2, reward, p, err);
    if (rc) return rc;
    if (isnan(*p)) *p = 1 / (1 + exp((reward[1] - reward[0]) / a->r->config->label_temperature));
    answer[x].reward = reward[0];
    answer[y].reward = reward[1];
    return SAIL_OK;
}

int tournament_ask(struct run *r, int64_t i, int64_t first, sail_err *err)
{
    struct sampled_prompt *prompt = &r->sampled.prompt[i];
    struct asking a = {r, i, first};
    return tournament_play((int)r->sampled.k, ask_two, &a, &prompt->best, &prompt->worst, &prompt->beats[0], err);
}

/* Who does not beat the worst is not the best: no pair. */
struct pair tournament_pair(const struct run *r, int64_t i, int64_t first, const int *of)
{
    const struct sampled_prompt *prompt = &r->sampled.prompt[i];
    const int ends[2] = {prompt->best, prompt->worst};
    (void)of;
    if (!(prompt->beats[0] > 0.5)) return (struct pair){.win = (int32_t)first, .lose = (int32_t)first + 1, .p = 1, .weight = 1, .unlabelled = true};
    return labels_verdict(r, i, first, ends, prompt->beats[0]);
}
