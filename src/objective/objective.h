/* Objectives: numbers in, loss and one coefficient per sequence out. Pure: no allocation, no randomness, no clock, no I/O.
 * A new one is one function of about 15 lines with its equation, one row in the registry, one test, one row in docs/methods.md: docs/extending.md. */
#ifndef SAIL_OBJECTIVE_OBJECTIVE_H
#define SAIL_OBJECTIVE_OBJECTIVE_H

#include "batch/batch.h"

enum coupling { COUPLE_SEQUENCE, COUPLE_PAIR, COUPLE_GROUP, COUPLE_BATCH };
enum baseline { BASELINE_NONE, BASELINE_LOG2, BASELINE_NUMBER, BASELINE_BATCH, BASELINE_LOO };
enum divergence { DIVERGENCE_REVERSE_KL, DIVERGENCE_FORWARD_KL, DIVERGENCE_JS, DIVERGENCE_ALPHA };
enum label_rule { LABEL_EXACT, LABEL_SAMPLED };

struct objective;
/* A sum of objectives: sum.c. n 0: none. */
enum { SUM_TERMS = 4 };
struct objective_sum {
    int n;
    const struct objective *term[SUM_TERMS];
    double weight[SUM_TERMS];
};

/* Constants of all methods, by the names of the options. Each objective reads its own. */
struct objective_params {
    double beta, eps, delta, lambda, gamma, tau; /* delta: SLiC's margin, BCO's shift of pairs; gamma: SimPO's margin, in sail-* the score coefficient of PR */
    double alpha;    /* cpo: weight of the likelihood, r-dpo: of the lengths, xpo and selm: of the term on the reference's answers */
    double rho, pi; /* SAIL: coefficients of DP and PP; gamma is PR's */
    double revkl;   /* SAIL-RevKL: weight of KL(ref || pi) */
    bool revkl_on_batch, revkl_vocabulary; /* vocabulary: the KL of each next token instead of a sample of it */
    double penalty;     /* two-level: weight of the upper level in what the second policy minimises */
    bool second;        /* ... whose turn it is: set by the step */
    bool scale_rewards; /* grpo: advantages over the group's standard deviation */
    double robust_rho, chi2_nu, kl_nu; /* robust SAIL: how wrong the labeler's P(win) may be */
    double label_smoothing, center; /* reward: share of wrong labels, weight of (r_w + r_l)^2 */
    bool use_margin;                /* the rows' margins */
    double desirable_weight, undesirable_weight; /* unpaired rows */
    struct objective_sum sum;
    enum baseline baseline;
    double baseline_value; /* BASELINE_NUMBER */
    enum label_rule label;
    enum divergence divergence; /* what ties the policy to the reference, and its alpha */
    double f_alpha;
};

/* Flags of `needs` above the columns. Without READS_ROUTE every pair is a labelled one. */
enum {
    READS_ROUTE = 1 << 25,
    ON_REFERENCE = 1 << 26, /* a term on answers of the reference: their rows stay without a pair */
    LEARNS_REWARD = 1 << 24, /* rewards are of a model that the run trains beside the policy, whose sampler is differentiated: pairs without a verdict stay */
    GROUPS = 1 << 20,     /* on the judged answers of a prompt, which are draws of the policy, instead of pairs */
    TOKEN_MEAN = 1 << 21, /* scale is 1 / completion tokens of the optimizer batch */
    BASELINES = 1 << 22,  /* --baseline is read: those over the batch couple it */
    LOO_IN_GROUP = 1 << 23, /* loo leaves one out of the own group, and couples no more than that */
    READS_OPPONENT = 1 << 28, /* a pair's margin is P(first beats an opponent) - P(second beats it) */
    SCORES_FIRST = 1 << 27, /* the first answer of a pair learns, by a score term: it is a draw of the policy, and labels never swap the two */
};

/* What one evaluation adds up; the caller zeroes it before the first micro-batch and reports means afterwards. */
struct objective_stats {
    double loss;      /* already scaled: sums to the batch's loss */
    double n_pair;    /* labelled pairs seen */
    double margin;    /* sum over pairs of beta * h */
    double accuracy;  /* pairs with h > 0 */
    double chosen, rejected; /* sums of beta * d(y) */
    double entropy;   /* SAIL: sum of H(s) over self-labelled pairs */
    double reference; /* the term on the reference's answers, scaled like the loss and part of it */
    double weight_clipped, weight_sum, weight_square; /* pairs with importance weights: clip share and effective sample size */
    double n_desirable, n_undesirable; /* unpaired rows seen: what chosen and rejected are then sums over */
    double reference_point;            /* unpaired: what an implicit reward is compared with, kto's z0, bco's delta */
    double term_loss[SUM_TERMS];       /* of a sum: without the weights */
    double loss_elsewhere;             /* of a sum: the part of the loss whose value at the reference is not known beforehand */
};

/* What an objective has a place for besides its constants. */
enum takes {
    TAKES_DIVERGENCE = 1 << 0, /* an f-divergence: a loss on differences of d(y) */
    TAKES_MARGIN = 1 << 1,     /* the rows' margins: a logit that they are taken off */
};

struct objective {
    const char *name; /* "dpo" */
    enum coupling coupling;
    uint32_t needs;   /* COL_*: columns besides rows and logp; READS_ROUTE */
    /* Adds coef (already zeroed rows of this call) and stats. scale: 1 / labelled pairs of the whole optimizer batch (sft: 1 / tokens). */
    void (*eval)(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s);
    /* A pair's loss where policy = reference (h = 0), for the step-0 check; NULL: reference-free. Of unpaired rows: a row's, with weight 1 and q NULL. */
    double (*at_reference)(const struct objective_params *p, const struct pair *q);
    const char *equation, *paper;
    /* Why these constants have no meaning here and what to change; NULL: they have one. The field may be NULL: every constant has. */
    const char *(*refuse)(const struct objective_params *p);
    uint32_t takes; /* TAKES_* */
};

const struct objective *objective_find(const char *name); /* a list with commas: the sum */
const struct objective *objective_at(int i); /* NULL after the last */

/* Refuses constants that have no meaning, in the name of `method`. */
int objective_check(const struct objective *o, const struct objective_params *p, const char *method, sail_err *err);

/* Zeroes coef, marks COL_COEF written, checks the needed columns, then eval. */
void objective_eval(const struct objective *o, const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s);

/* "dpo,sft" and "1,0.1" (NULL: all 1); without a comma the sum is empty and may have no weights. */
int objective_sum_parse(struct objective_sum *sum, const char *objectives, const char *weights, sail_err *err);

/* Columns besides rows and logp; of a sum those of all its terms. */
uint32_t objective_needs(const struct objective *o, const struct objective_params *p);

/* What the objective couples with these constants: a baseline over the batch couples the batch; a sum what one of its terms couples. */
enum coupling objective_coupling(const struct objective *o, const struct objective_params *p);

/* The weight of an unpaired row. */
static inline double verdict_weight(const struct objective_params *p, enum verdict v)
{
    return v == VERDICT_DESIRABLE ? p->desirable_weight : v == VERDICT_UNDESIRABLE ? p->undesirable_weight : 0;
}

/* The column `shift`: the mean of beta d(y) over every answer of the run so far. */
struct running_mean {
    double mean, n;
};
/* Takes in a scored batch (mismatched rows aside), then writes the column. */
void running_mean_add(struct running_mean *m, struct batch *b, double beta);

/* "none", "log2", "batch", "loo" or a number. */
int baseline_parse(const char *text, enum baseline *out, double *value, sail_err *err);

/* log sigma(x), sigma(x), binary entropy of sigma(z): exact in the tails. */
double log_sigmoid(double x);
double sigmoid(double x);
double preference_entropy(double z);
double log1m_exp(double x); /* log(1 - e^x), x < 0 */

/* divergence.c: what takes the place of d(y) under the f-divergence of p, and its slope in d; both 0 and 1 at d = 0 but for JS, whose slope is 1/2. */
double divergence_score(const struct objective_params *p, double d);
double divergence_slope(const struct objective_params *p, double d);
enum divergence divergence_parse(const char *name); /* a choice of --f-divergence */

/* wpo.c: the weight of a pair, and all pairs' weights multiplied by theirs. Reads the column adjusted. */
double wpo_weight(const struct batch *b, const struct pair *q);
void wpo_weigh(struct batch *b);

/* Helpers of the objectives. d(y) = log pi - log ref of a row. */
static inline double log_ratio(const struct batch *b, int32_t row) { return b->logp[row] - b->logp_ref[row]; }
/* Adds a pair's loss and coefficients, times its weight and the scale. */
static inline void pair_add(struct batch *b, const struct pair *q, double scale, struct objective_stats *s, double loss, double dwin, double dlose)
{
    b->coef[q->win] += q->weight * scale * dwin;
    b->coef[q->lose] += q->weight * scale * dlose;
    s->loss += q->weight * scale * loss;
}
/* Adds weight times the mean of d(y) over the answers of the reference in the optimizer batch; those of this slice. */
static inline void reference_add(struct batch *b, double weight, struct objective_stats *s)
{
    for (int64_t i = 0; b->n_reference && i < b->n; i++) {
        if (b->source[i] != SOURCE_REFERENCE) continue;
        const double c = weight / (double)b->n_reference;
        b->coef[i] += c;
        s->loss += c * log_ratio(b, (int32_t)i);
        s->reference += c * log_ratio(b, (int32_t)i);
    }
}
/* The implicit rewards of a pair, for the metrics. */
static inline void pair_measure(const struct batch *b, const struct pair *q, double beta, struct objective_stats *s)
{
    const double dw = log_ratio(b, q->win), dl = log_ratio(b, q->lose);
    s->n_pair++;
    s->chosen += beta * dw;
    s->rejected += beta * dl;
    s->margin += beta * (dw - dl);
    s->accuracy += dw > dl;
}

extern const struct objective objective_sail;   /* sail.c */
extern const struct objective objective_reward; /* reward.c */
extern const struct objective objective_listwise; /* listwise.c */
extern const struct objective objective_two_level, objective_two_level_reward; /* two_level.c; the second is the reward model's, and no method's */
extern const struct objective objective_group[];   /* group.c; ends with a NULL name */
extern const struct objective objective_iterate[]; /* iterate.c; ends with a NULL name */
extern const struct objective objective_explore[]; /* explore.c; ends with a NULL name */
extern const struct objective objective_egpo[];     /* egpo.c; ends with a NULL name */
extern const struct objective objective_nash[];     /* nash.c; ends with a NULL name */
extern const struct objective objective_pairwise[]; /* pairwise.c; ends with a NULL name */
extern const struct objective objective_unpaired[]; /* unpaired.c; ends with a NULL name */
extern const struct objective objective_terms[];    /* terms.c; ends with a NULL name */
extern const struct objective objective_sum;        /* sum.c */

#endif
