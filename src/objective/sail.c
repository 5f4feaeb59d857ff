/* SAIL (arXiv 2406.15567): DPO's gradient plus the terms of a policy that makes its own data.
 *
 * J = E_{y1,y2, label}[F], F = log s(z), z = h(win) - h(lose) = beta (d(win) - d(lose)). Loss gradients, per sequence log-prob:
 *
 *   offline        -/+ beta (1 - s)
 *   dp, sampled    -/+ beta (1 - s)(1 + rho F)
 *   dp, exact      -/+ beta rho z s (1 - s)                       labels of the policy itself, expected: J = -E[H(s)]
 *   pp, sampled    -/+ beta (1 - s)(1 + pi F) - pi (F - b)
 *   pp, exact      -/+ beta pi z s (1 - s) - pi (-H(s) - b)
 *   pr             -/+ beta (P - s) - gamma (l - b)               l = P log s(z) + (1 - P) log s(-z); P = 1: a hard or drawn label; robust: the worst P near it
 *
 * b is a baseline independent of the sample: none, -log 2, a number, or the mean over the route's pairs that share no completion with the pair (loo, and
 * batch, which is its other name once it is corrected for the own pair; -log 2 where there is no other). None of them changes the expectation. Stale pairs carry q->weight, which
 * multiplies everything (pair_add).
 *
 * SAIL-RevKL (2606.31524) adds revkl KL(ref || pi): -revkl / n on each of n answers of the reference, a sample of the gradient -revkl E_ref[grad log pi]. On the
 * batch's own pairs it is the public code's term instead, revkl mean_t[log ref(y_t) - log pi(y_t)] of each answer: a pull on what is there, not that KL. With
 * revkl_vocabulary the sample at each prefix gives way to its expectation, KL(ref(.|prefix) || pi(.|prefix)): on the reference's answers the same mean with less
 * noise, on the batch's a true KL of next tokens. */
#include <math.h>

#include "objective/objective.h"

#define LOG2 0.6931471805599453

/* How far below p a label P may lie with KL(P || p) = P log(P/p) + (1 - P) log((1 - P)/q) <= nu, q = 1 - p: down to 0 where the ball holds it, else to where the divergence, convex and growing with
 * the distance, is nu. Newton's step where it stays between distances that are known to be inside and outside, else half way. */
static double reach_of_kl_ball(double p, double q, double nu)
{
    if (q <= 0 || p <= 0) return 0; // KL to a certain label is infinite
    if (nu >= -log1p(-p)) return p;
    double inside = 0, outside = p, d = fmin(sqrt(2 * nu * p * q), p / 2); // close by the divergence is d^2 / (2 p q)
    for (int i = 0; i < 100; i++) {
        const double a = log1p(-d / p), b = log1p(d / q), over = (p - d) * a + (q + d) * b - nu, next = d - over / (b - a);
        if (fabs(next - d) <= 1e-15 * d) break;
        *(over > 0 ? &outside : &inside) = d;
        d = next > inside && next < outside ? next : 0.5 * (inside + outside);
    }
    return d;
}

/* The worst P(win) that the labeler's may stand for. The loss is linear in it with slope -z, so that the worst is at an end, where it stays as z moves a little:
 * the gradient holds it constant (Danskin).
 *   |P - p| <= rho (2602.20457): P = p - rho sign z, which adds rho |z| to the loss; P may leave 0..1, as in the paper's form
 *   chi-square ball of radius nu: P = p - sqrt(nu p (1 - p)) sign z, within 0..1
 *   KL(P || p) <= nu: the ball's end on the side of -z */
static double worst_label(const struct objective_params *p, const struct pair *q, double z)
{
    const double side = (z > 0) - (z < 0);
    if (p->kl_nu > 0) return fmin(1, q->p - side * (side > 0 ? reach_of_kl_ball(q->p, 1 - q->p, p->kl_nu) : reach_of_kl_ball(1 - q->p, q->p, p->kl_nu)));
    if (p->chi2_nu > 0) return fmin(1, fmax(0, q->p - side * sqrt(p->chi2_nu * q->p * (1 - q->p))));
    return q->p - side * p->robust_rho;
}

/* The value that the score term multiplies: F, -H(s) or l. */
static double score_value(const struct objective_params *p, const struct pair *q, double z)
{
    if (q->route == ROUTE_PR) {
        const double shift = worst_label(p, q, z) - q->p; // log s(z) - log s(-z) = z
        return q->p * log_sigmoid(z) + (1 - q->p) * log_sigmoid(-z) + shift * z;
    }
    return p->label == LABEL_EXACT ? -preference_entropy(z) : log_sigmoid(z);
}

static double pair_z(const struct objective_params *p, const struct batch *b, const struct pair *q) { return p->beta * (log_ratio(b, q->win) - log_ratio(b, q->lose)); }

static bool shares_completion(const struct pair *a, const struct pair *b) { return a->win == b->win || a->win == b->lose || a->lose == b->win || a->lose == b->lose; }

/* The value less the mean over the route's pairs that share no completion with this one. The mean with the own pair in it (batch) would shrink the score
 * term by (1 - 1/B), and multiplied back by B/(B-1) it is the same number. */
static double advantage_over_batch(const struct objective_params *p, const struct batch *b, const struct pair *q, double value)
{
    double sum = 0, n = 0;
    for (const struct pair *o = b->pair; o < b->pair + b->n_pair; o++) {
        if (o->unlabelled || o->route != q->route || shares_completion(o, q)) continue;
        sum += score_value(p, o, pair_z(p, b, o));
        n++;
    }
    return value - (n > 0 ? sum / n : -LOG2); // alone: a constant is as unbiased
}

static double advantage(const struct objective_params *p, const struct batch *b, const struct pair *q, double value)
{
    switch (p->baseline) {
    case BASELINE_NONE: return value;
    case BASELINE_LOG2: return value + LOG2;
    case BASELINE_NUMBER: return value - p->baseline_value;
    default: return advantage_over_batch(p, b, q, value);
    }
}

static void dp_pair(const struct objective_params *p, struct batch *b, const struct pair *q, double scale, struct objective_stats *s, double z)
{
    if (p->label == LABEL_EXACT) {
        const double pull = p->beta * p->rho * z * sigmoid(z) * sigmoid(-z);
        pair_add(b, q, scale, s, p->rho * preference_entropy(z), -pull, pull);
    } else {
        const double F = log_sigmoid(z), pull = p->beta * sigmoid(-z) * (1 + p->rho * F);
        pair_add(b, q, scale, s, -F - 0.5 * p->rho * F * F, -pull, pull);
    }
    s->entropy += preference_entropy(z);
}

static void pp_pair(const struct objective_params *p, struct batch *b, const struct pair *q, double scale, struct objective_stats *s, double z)
{
    const double score = p->pi * advantage(p, b, q, score_value(p, q, z));
    if (p->label == LABEL_EXACT) {
        const double pull = p->beta * p->pi * z * sigmoid(z) * sigmoid(-z);
        pair_add(b, q, scale, s, p->pi * preference_entropy(z), -pull - score, pull - score);
    } else {
        const double F = log_sigmoid(z), pull = p->beta * sigmoid(-z) * (1 + p->pi * F);
        pair_add(b, q, scale, s, -F - 0.5 * p->pi * F * F, -pull - score, pull - score);
    }
    s->entropy += preference_entropy(z);
}

static void pr_pair(const struct objective_params *p, struct batch *b, const struct pair *q, double scale, struct objective_stats *s, double z)
{
    const double P = worst_label(p, q, z), pull = p->beta * (P * sigmoid(-z) - (1 - P) * sigmoid(z)); // P - s, exact in both tails
    const double l = score_value(p, q, z), score = p->gamma == 0 ? 0 : p->gamma * advantage(p, b, q, l);
    pair_add(b, q, scale, s, -l, -pull - score, pull - score);
}

static void revkl_on_batch(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        if (p->revkl_vocabulary) {
            b->pull[q->win] += q->weight * scale * 0.5 * p->revkl / b->n_tok[q->win];
            b->pull[q->lose] += q->weight * scale * 0.5 * p->revkl / b->n_tok[q->lose];
            continue;
        }
        const double w = 0.5 * p->revkl / b->n_tok[q->win], l = 0.5 * p->revkl / b->n_tok[q->lose], term = -w * log_ratio(b, q->win) - l * log_ratio(b, q->lose);
        pair_add(b, q, scale, s, term, -w, -l);
        s->reference += q->weight * scale * term;
    }
}

static void sail_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double z = pair_z(p, b, q), g = p->beta * sigmoid(-z);
        switch (q->route) {
        case ROUTE_DP: dp_pair(p, b, q, scale, s, z); break;
        case ROUTE_PP: pp_pair(p, b, q, scale, s, z); break;
        case ROUTE_PR: pr_pair(p, b, q, scale, s, z); break;
        default: pair_add(b, q, scale, s, -log_sigmoid(z), -g, g); break;
        }
        pair_measure(b, q, p->beta, s);
    }
    if (p->revkl > 0 && p->revkl_on_batch)
        revkl_on_batch(p, b, scale, s);
    else if (p->revkl > 0 && p->revkl_vocabulary)
        for (int64_t i = 0; i < b->n; i++) b->pull[i] = b->source[i] == SOURCE_REFERENCE ? p->revkl / (double)b->n_reference : 0;
    else if (p->revkl > 0)
        reference_add(b, -p->revkl, s);
}

static const char *refuse(const struct objective_params *p)
{
    return (p->robust_rho > 0) + (p->chi2_nu > 0) + (p->kl_nu > 0) > 1 ? "--robust-rho, --chi2-nu and --kl-nu each say how wrong a label may be: give one of them" : NULL;
}

/* At z = 0 every form of F is -log 2 and H(s) is log 2. */
static double sail_at_reference(const struct objective_params *p, const struct pair *q)
{
    const double l2 = LOG2, c = q->route == ROUTE_DP ? p->rho : q->route == ROUTE_PP ? p->pi : 0;
    if (q->route != ROUTE_DP && q->route != ROUTE_PP) return l2;
    return p->label == LABEL_EXACT ? c * l2 : l2 - 0.5 * c * l2 * l2;
}

const struct objective objective_sail = {"sail", COUPLE_PAIR, COL_PAIRS | COL_LOGP_REF | READS_ROUTE | ON_REFERENCE | BASELINES, sail_eval, sail_at_reference,
                                         "-E[F] with the gradient of the sampler and of the labels: offline, dp, pp, pr", "arXiv 2406.15567", refuse, 0};
