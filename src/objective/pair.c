#include "objective/pair.h"

struct logistic logistic(double z, double t)
{
    return (struct logistic){-(t * log_sigmoid(z) + (1 - t) * log_sigmoid(-z)), (1 - t) * sigmoid(z) - t * sigmoid(-z)};
}

static struct pair_numbers numbers(const struct objective_params *p, const struct batch *b, const struct pair *q)
{
    struct pair_numbers x = {.lw = b->logp[q->win], .ll = b->logp[q->lose], .nw = b->n_tok[q->win], .nl = b->n_tok[q->lose], .p = q->p, .margin = p->use_margin ? q->margin : 0};
    if (b->written & COL_LOGP_REF) {
        x.dw = divergence_score(p, log_ratio(b, q->win));
        x.dl = divergence_score(p, log_ratio(b, q->lose));
    }
    return x;
}

/* dL/dlog pi from dL/dd, row by row: only objectives in d(y) alone meet a divergence other than the reverse KL, whose slope is 1. */
static void chain(const struct objective_params *p, const struct batch *b, const struct pair *q, struct pair_loss *l)
{
    if (p->divergence == DIVERGENCE_REVERSE_KL) return;
    l->win *= divergence_slope(p, log_ratio(b, q->win));
    l->lose *= divergence_slope(p, log_ratio(b, q->lose));
}

static struct pair_numbers turned(const struct pair_numbers *x)
{
    return (struct pair_numbers){.lw = x->ll, .ll = x->lw, .dw = x->dl, .dl = x->dw, .nw = x->nl, .nl = x->nw, .p = 1 - x->p, .margin = -x->margin};
}

static void measure(const struct objective_params *p, const struct batch *b, const struct pair *q, struct objective_stats *s)
{
    if (b->written & COL_LOGP_REF)
        pair_measure(b, q, p->beta, s);
    else
        s->n_pair++;
}

/* Of both labels, each by its probability; the slopes in the order of the pair. */
static struct pair_loss expected(const struct objective_params *p, const struct pair_numbers *x, pair_function *f)
{
    struct pair_loss sum = {0};
    if (x->p > 0) {
        const struct pair_loss l = f(p, x);
        sum = (struct pair_loss){x->p * l.loss, x->p * l.win, x->p * l.lose};
    }
    if (x->p < 1) {
        const struct pair_numbers other = turned(x);
        const struct pair_loss l = f(p, &other);
        sum.loss += other.p * l.loss;
        sum.win += other.p * l.lose;
        sum.lose += other.p * l.win;
    }
    return sum;
}

static struct pair_loss direct(const struct objective_params *p, const struct pair_numbers *x, pair_function *f) { return f(p, x); }

typedef struct pair_loss apply_function(const struct objective_params *p, const struct pair_numbers *x, pair_function *f);

static void each_pair(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s, pair_function *f, apply_function *apply)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const struct pair_numbers x = numbers(p, b, q);
        struct pair_loss l = apply(p, &x, f);
        chain(p, b, q, &l);
        pair_add(b, q, scale, s, l.loss, l.win, l.lose);
        measure(p, b, q, s);
    }
}

void pairs_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s, pair_function *f) { each_pair(p, b, scale, s, f, direct); }
void labels_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s, pair_function *f) { each_pair(p, b, scale, s, f, expected); }

/* Of two answers of one token: the length means nothing where both differences are 0. */
static double at_reference(const struct objective_params *p, const struct pair *q, pair_function *f, apply_function *apply)
{
    const struct pair_numbers x = {.nw = 1, .nl = 1, .p = q->p, .margin = p->use_margin ? q->margin : 0};
    return apply(p, &x, f).loss;
}

double pairs_at_reference(const struct objective_params *p, const struct pair *q, pair_function *f) { return at_reference(p, q, f, direct); }
double labels_at_reference(const struct objective_params *p, const struct pair *q, pair_function *f) { return at_reference(p, q, f, expected); }
