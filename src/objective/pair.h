/* Objectives of one pair: a function from the numbers of a pair to its loss and two slopes. The loops over pairs, the row's label and the f-divergence are
 * written once, in pair.c. */
#ifndef SAIL_OBJECTIVE_PAIR_H
#define SAIL_OBJECTIVE_PAIR_H

#include "objective/objective.h"

struct pair_numbers {
    double lw, ll; /* log pi(y), sums over the completions */
    double dw, dl; /* log pi(y) - log ref(y), or what an f-divergence puts in its place; 0 without a reference */
    double nw, nl; /* completion tokens */
    double p;      /* P(win beats lose) */
    double margin; /* what the win must be ahead by; 0 unless --margin */
};

/* L, and its derivatives in lw and ll (where the loss is in dw and dl: in those). */
struct pair_loss {
    double loss, win, lose;
};
typedef struct pair_loss pair_function(const struct objective_params *p, const struct pair_numbers *x);

/* Over the labelled pairs. The first: f reads the label x->p itself. The second: f is of a certain label, and the loss is its expectation,
 * p f(win, lose) + (1 - p) f(lose, win); the margin of the turned pair is -margin. */
void pairs_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s, pair_function *f);
void labels_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s, pair_function *f);
/* The loss of a pair where policy = reference. */
double pairs_at_reference(const struct objective_params *p, const struct pair *q, pair_function *f);
double labels_at_reference(const struct objective_params *p, const struct pair *q, pair_function *f);

/* Defines NAME_eval and NAME_at_reference for a registry row from the pair_function NAME; driver: pairs or labels. */
#define PAIR_OBJECTIVE(name, driver) \
    PAIR_EVAL(name, driver)          \
    static double name##_at_reference(const struct objective_params *p, const struct pair *q) { return driver##_at_reference(p, q, name); }
/* NAME_eval alone: no reference, or a loss there that depends on more than the pair's label. */
#define PAIR_EVAL(name, driver) \
    static void name##_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s) { driver##_eval(p, b, scale, s, name); }

/* Cross-entropy of the logit z with P(win) = t: loss -t log s(z) - (1 - t) log s(-z), slope s(z) - t, exact in both tails. */
struct logistic {
    double loss, slope;
};
struct logistic logistic(double z, double t);

/* aot.c */
void aot_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s);
double aot_at_reference(const struct objective_params *p, const struct pair *q);

#endif
