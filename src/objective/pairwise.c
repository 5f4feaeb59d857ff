/* Objectives on fixed pairs. Notation: lw, ll sums of log pi over the completions; d(y) = log pi - log ref; h = d(win) - d(lose);
 * n token counts; s(x) the logistic function; m the row's margin (0 unless --margin); p the row's P(win beats lose). Each function states its loss for p = 1,
 * and for other p where that is not the expectation over the label. */
#include <math.h>

#include "objective/pair.h"

/* A loss on z = beta h alone. */
static struct pair_loss on_h(const struct objective_params *p, struct logistic l) { return (struct pair_loss){l.loss, p->beta * l.slope, -p->beta * l.slope}; }
static double logit(const struct objective_params *p, const struct pair_numbers *x) { return p->beta * (x->dw - x->dl) - x->margin; }

static void sft_add(struct batch *b, int64_t row, double scale, struct objective_stats *s)
{
    b->coef[row] -= scale;
    s->loss -= scale * b->logp[row];
}

/* SFT: L = -sum_t log pi(y_t) / N over the batch's N completion tokens, in a table of pairs those of the winning rows; scale is 1 / N. */
static void sft_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    (void)p;
    const bool pairs = (b->written & COL_PAIRS) != 0;
    for (int64_t i = 0; !pairs && i < b->n; i++) sft_add(b, i, scale, s);
    for (const struct pair *q = b->pair; pairs && q < b->pair + b->n_pair; q++)
        if (!q->unlabelled) sft_add(b, q->win, scale * q->weight, s);
}

/* DPO (2305.18290, eq. 7): L = -log s(beta h - m), dL/dlw = -beta s(-beta h + m) = -dL/dll. Soft labels: the cross-entropy with P(win) = p. */
static struct pair_loss dpo(const struct objective_params *p, const struct pair_numbers *x) { return on_h(p, logistic(logit(p, x), x->p)); }

/* cDPO (Mitchell 2023): L = -(1 - eps) log s(z) - eps log s(-z), z = beta h - m */
static struct pair_loss cdpo(const struct objective_params *p, const struct pair_numbers *x)
{
    return on_h(p, logistic(logit(p, x), (1 - p->eps) * x->p + p->eps * (1 - x->p)));
}

/* Robust DPO (2403.00409): L = [-(1 - eps) log s(z) + eps log s(-z)] / (1 - 2 eps), z = beta h - m; unbiased under flips with probability eps. It is a
 * cross-entropy with a P(win) outside of 0..1. */
static struct pair_loss robust(const struct objective_params *p, const struct pair_numbers *x)
{
    return on_h(p, logistic(logit(p, x), (x->p - p->eps) / (1 - 2 * p->eps)));
}

/* R-DPO (2403.19159): L = -log s(beta h + alpha (nw - nl) - m): a longer winner has to win by less */
static struct pair_loss r_dpo(const struct objective_params *p, const struct pair_numbers *x)
{
    return on_h(p, logistic(logit(p, x) + p->alpha * (x->nw - x->nl), x->p));
}

/* DPO-Positive (2402.13228): L = -log s(beta (h - lambda max(0, -d(win))) - m): the winner's own log-prob must not fall */
static struct pair_loss dpop(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(logit(p, x) - p->beta * p->lambda * fmax(0, -x->dw), 1);
    return (struct pair_loss){l.loss, p->beta * l.slope * (x->dw < 0 ? 1 + p->lambda : 1), -p->beta * l.slope};
}

/* IPO (2310.12036, eq. 17) on sums: L = (h - 1/(2 tau))^2, tau = --beta. Soft labels: (h - (p - 1/2)/tau)^2, which is the expectation but for
 * a constant: online IPO's loss for a preference probability (2403.08635). */
static struct pair_loss ipo(const struct objective_params *p, const struct pair_numbers *x)
{
    const double e = x->dw - x->dl - (x->p - 0.5) / p->beta;
    return (struct pair_loss){e * e, 2 * e, -2 * e};
}

/* IPO on token means, as TRL has it: L = (d(win)/nw - d(lose)/nl - (p - 1/2)/tau)^2 */
static struct pair_loss ipo_mean(const struct objective_params *p, const struct pair_numbers *x)
{
    const double e = x->dw / x->nw - x->dl / x->nl - (x->p - 0.5) / p->beta;
    return (struct pair_loss){e * e, 2 * e / x->nw, -2 * e / x->nl};
}

/* Hinge with a reference (RSO, 2309.06657; online SLiC, 2402.04792): L = max(0, 1 - beta h) */
static struct pair_loss hinge(const struct objective_params *p, const struct pair_numbers *x)
{
    const double z = p->beta * (x->dw - x->dl), g = z < 1 ? -p->beta : 0;
    return (struct pair_loss){fmax(0, 1 - z), g, -g};
}

/* SLiC-HF (2305.10425): L = max(0, delta - lw + ll) - lambda lw, no reference */
static struct pair_loss slic(const struct objective_params *p, const struct pair_numbers *x)
{
    const double slack = p->delta - x->lw + x->ll, active = slack > 0;
    return (struct pair_loss){fmax(0, slack) - p->lambda * x->lw, -active - p->lambda, active};
}

/* SimPO (2405.14734, eq. 6): L = -log s(beta (lw/nw - ll/nl) - gamma - m), no reference. Soft labels: the cross-entropy of that logit, as SimPO's code smooths. */
static struct pair_loss simpo(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(p->beta * (x->lw / x->nw - x->ll / x->nl) - p->gamma - x->margin, x->p);
    return (struct pair_loss){l.loss, p->beta * l.slope / x->nw, -p->beta * l.slope / x->nl};
}

/* CPO (2401.08417): L = -log s(beta (lw - ll) - m) - alpha lw/nw, no reference */
static struct pair_loss cpo(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(p->beta * (x->lw - x->ll) - x->margin, 1);
    return (struct pair_loss){l.loss - p->alpha * x->lw / x->nw, p->beta * l.slope - p->alpha / x->nw, -p->beta * l.slope};
}

/* ORPO (2403.07691, eq. 6-7): L = -x_w - lambda log s(o(x_w) - o(x_l) - m), x = log-prob per token, o(x) = x - log(1 - e^x), do/dx = 1 / (1 - e^x). An answer
 * that is certain (x = 0, and above by rounding) has infinite odds: there x stops at `sure`. A certain winner's slope has the limit e^{o(x_l)}, which the
 * formula meets at the stop; a certain loser's grows without bound up to it, and beyond it the loss does not move with x_l. */
static struct pair_loss orpo(const struct objective_params *p, const struct pair_numbers *x)
{
    const double sure = -1e-30, w = x->lw / x->nw, l = x->ll / x->nl, xw = fmin(w, sure), xl = fmin(l, sure);
    const double z = (xw - log1m_exp(xw)) - (xl - log1m_exp(xl)) - x->margin, c = p->lambda * sigmoid(-z);
    return (struct pair_loss){-w - p->lambda * log_sigmoid(z), -1 / x->nw + c / (x->nw * expm1(xw)), l > sure ? 0 : -c / (x->nl * expm1(xl))};
}

/* EXO on pairs (2402.00856): KL(q || P), q = s(beta h - m), P the label smoothed by eps (1 - eps for p = 1): L = q log(q / P) + (1 - q) log((1 - q) / (1 - P)) */
static struct pair_loss exo_pair(const struct objective_params *p, const struct pair_numbers *x)
{
    const double z = logit(p, x), P = p->eps + (1 - 2 * p->eps) * x->p, a = log_sigmoid(z) - log(P), c = log_sigmoid(-z) - log1p(-P);
    return on_h(p, (struct logistic){sigmoid(z) * a + sigmoid(-z) * c, sigmoid(z) * sigmoid(-z) * (a - c)});
}

/* NCA on pairs (2402.05369): L = -log s(u) - log s(-u)/2 - log s(-v)/2, u = beta d(win), v = beta d(lose) */
static struct pair_loss nca_pair(const struct objective_params *p, const struct pair_numbers *x)
{
    const double u = p->beta * x->dw, v = p->beta * x->dl;
    return (struct pair_loss){-log_sigmoid(u) - 0.5 * log_sigmoid(-u) - 0.5 * log_sigmoid(-v), p->beta * (0.5 * sigmoid(u) - sigmoid(-u)), 0.5 * p->beta * sigmoid(v)};
}

/* BCO on pairs (2404.04656, without the running shift): L = -log s(beta d(win)) - log s(-beta d(lose)) */
static struct pair_loss bco_pair(const struct objective_params *p, const struct pair_numbers *x)
{
    const double u = p->beta * x->dw, v = p->beta * x->dl;
    return (struct pair_loss){-log_sigmoid(u) - log_sigmoid(-v), -p->beta * sigmoid(-u), p->beta * sigmoid(v)};
}

/* SPPO on the data's pairs (2405.00675): L = (d(win) - (p - 1/2)/beta)^2 + (d(lose) + (p - 1/2)/beta)^2, 1/eta = --beta; p = 1 is its form for hard labels */
static struct pair_loss sppo_hard(const struct objective_params *p, const struct pair_numbers *x)
{
    const double goal = (x->p - 0.5) / p->beta, u = x->dw - goal, v = x->dl + goal;
    return (struct pair_loss){u * u + v * v, 2 * u, 2 * v};
}

/* APO-zero (2408.06266, eq. 7): L = 1 - s(u) + s(v), u = beta d(win), v = beta d(lose) */
static struct pair_loss apo_zero(const struct objective_params *p, const struct pair_numbers *x)
{
    const double u = p->beta * x->dw, v = p->beta * x->dl;
    return (struct pair_loss){sigmoid(-u) + sigmoid(v), -p->beta * sigmoid(u) * sigmoid(-u), p->beta * sigmoid(v) * sigmoid(-v)};
}

/* APO-down (2408.06266, eq. 8): L = s(u) + 1 - s(z), u = beta d(win), z = beta h */
static struct pair_loss apo_down(const struct objective_params *p, const struct pair_numbers *x)
{
    const double u = p->beta * x->dw, z = p->beta * (x->dw - x->dl), dz = p->beta * sigmoid(z) * sigmoid(-z);
    return (struct pair_loss){sigmoid(u) + sigmoid(-z), p->beta * sigmoid(u) * sigmoid(-u) - dz, dz};
}

/* DiscoPOP (2406.08414): L = -log s(z)(1 - m) + e^{-z} m, z = beta h, m = s(z/tau); the product e^{-z} m is formed in logs so that it stays finite */
static struct pair_loss discopop(const struct objective_params *p, const struct pair_numbers *x)
{
    const double z = p->beta * (x->dw - x->dl), m = sigmoid(z / p->tau), w = sigmoid(-z / p->tau), em = exp(log_sigmoid(z / p->tau) - z);
    return on_h(p, (struct logistic){-log_sigmoid(z) * w + em, -sigmoid(-z) * w - em + (em * w + log_sigmoid(z) * m * w) / p->tau});
}

/* DPO on token means (Tulu 3, 2411.15124): L = -log s(beta (d(win)/nw - d(lose)/nl) - m) */
static struct pair_loss sigmoid_norm(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(p->beta * (x->dw / x->nw - x->dl / x->nl) - x->margin, x->p);
    return (struct pair_loss){l.loss, p->beta * l.slope / x->nw, -p->beta * l.slope / x->nl};
}

static const char *refuse_robust(const struct objective_params *p) { return p->eps >= 0.5 ? "--eps must be below 0.5: with half of the labels wrong nothing can be learned from them" : NULL; }
static const char *refuse_exo(const struct objective_params *p) { return p->eps <= 0 ? "--eps must be above 0: the smoothed label is divided by" : NULL; }
static const char *refuse_discopop(const struct objective_params *p) { return p->tau > 1 ? "--tau must be at most 1: beyond that the loss grows without bound on pairs in the wrong order" : NULL; }

PAIR_OBJECTIVE(dpo, pairs)
PAIR_OBJECTIVE(cdpo, pairs)
PAIR_OBJECTIVE(robust, pairs)
PAIR_EVAL(r_dpo, pairs)
PAIR_OBJECTIVE(dpop, labels)
PAIR_OBJECTIVE(ipo, pairs)
PAIR_OBJECTIVE(ipo_mean, pairs)
PAIR_OBJECTIVE(hinge, labels)
PAIR_EVAL(slic, labels)
PAIR_EVAL(simpo, pairs)
PAIR_EVAL(cpo, labels)
PAIR_EVAL(orpo, labels)
PAIR_OBJECTIVE(exo_pair, pairs)
PAIR_OBJECTIVE(nca_pair, labels)
PAIR_OBJECTIVE(bco_pair, labels)
PAIR_OBJECTIVE(sppo_hard, pairs)
PAIR_OBJECTIVE(apo_zero, labels)
PAIR_OBJECTIVE(apo_down, labels)
PAIR_OBJECTIVE(discopop, labels)
PAIR_OBJECTIVE(sigmoid_norm, pairs)

enum { PAIRS = COL_PAIRS, REF = COL_PAIRS | COL_LOGP_REF };
const struct objective objective_pairwise[] = {
    {"sft", COUPLE_SEQUENCE, 0, sft_eval, NULL, "-sum_t log pi(y_t) / N", "-", NULL, 0},
    {"dpo", COUPLE_PAIR, REF, dpo_eval, dpo_at_reference, "-log s(beta h)", "arXiv 2305.18290", NULL, TAKES_DIVERGENCE | TAKES_MARGIN},
    {"cdpo", COUPLE_PAIR, REF, cdpo_eval, cdpo_at_reference, "-(1-eps) log s(beta h) - eps log s(-beta h)", "Mitchell 2023", NULL, TAKES_DIVERGENCE | TAKES_MARGIN},
    {"robust", COUPLE_PAIR, REF, robust_eval, robust_at_reference, "[-(1-eps) log s(beta h) + eps log s(-beta h)] / (1-2 eps)", "arXiv 2403.00409", refuse_robust, TAKES_DIVERGENCE | TAKES_MARGIN},
    {"r-dpo", COUPLE_PAIR, REF, r_dpo_eval, NULL, "-log s(beta h + alpha (n_w - n_l))", "arXiv 2403.19159", NULL, TAKES_DIVERGENCE | TAKES_MARGIN},
    {"dpop", COUPLE_PAIR, REF, dpop_eval, dpop_at_reference, "-log s(beta (h - lambda max(0, -d_w)))", "arXiv 2402.13228", NULL, TAKES_MARGIN},
    {"ipo", COUPLE_PAIR, REF, ipo_eval, ipo_at_reference, "(h - 1/(2 beta))^2, sums", "arXiv 2310.12036", NULL, TAKES_DIVERGENCE},
    {"ipo-mean", COUPLE_PAIR, REF, ipo_mean_eval, ipo_mean_at_reference, "(d_w/n_w - d_l/n_l - 1/(2 beta))^2, token means", "arXiv 2310.12036", NULL, 0},
    {"hinge", COUPLE_PAIR, REF, hinge_eval, hinge_at_reference, "max(0, 1 - beta h)", "arXiv 2309.06657", NULL, TAKES_DIVERGENCE},
    {"slic", COUPLE_PAIR, PAIRS, slic_eval, NULL, "max(0, delta - l_w + l_l) - lambda l_w", "arXiv 2305.10425", NULL, 0},
    {"simpo", COUPLE_PAIR, PAIRS, simpo_eval, NULL, "-log s(beta (l_w/n_w - l_l/n_l) - gamma)", "arXiv 2405.14734", NULL, TAKES_MARGIN},
    {"cpo", COUPLE_PAIR, PAIRS, cpo_eval, NULL, "-log s(beta (l_w - l_l)) - alpha l_w/n_w", "arXiv 2401.08417", NULL, TAKES_MARGIN},
    {"orpo", COUPLE_PAIR, PAIRS, orpo_eval, NULL, "-x_w - lambda log s(logodds(x_w) - logodds(x_l))", "arXiv 2403.07691", NULL, TAKES_MARGIN},
    {"exo-pair", COUPLE_PAIR, REF, exo_pair_eval, exo_pair_at_reference, "KL(s(beta h) || 1-eps)", "arXiv 2402.00856", refuse_exo, TAKES_DIVERGENCE | TAKES_MARGIN},
    {"nca-pair", COUPLE_PAIR, REF, nca_pair_eval, nca_pair_at_reference, "-log s(beta d_w) - [log s(-beta d_w) + log s(-beta d_l)]/2", "arXiv 2402.05369", NULL, 0},
    {"bco-pair", COUPLE_PAIR, REF, bco_pair_eval, bco_pair_at_reference, "-log s(beta d_w) - log s(-beta d_l)", "arXiv 2404.04656", NULL, 0},
    {"sppo-hard", COUPLE_PAIR, REF, sppo_hard_eval, sppo_hard_at_reference, "(d_w - 1/(2 beta))^2 + (d_l + 1/(2 beta))^2", "arXiv 2405.00675", NULL, 0},
    {"apo-zero", COUPLE_PAIR, REF, apo_zero_eval, apo_zero_at_reference, "1 - s(beta d_w) + s(beta d_l)", "arXiv 2408.06266", NULL, 0},
    {"apo-down", COUPLE_PAIR, REF, apo_down_eval, apo_down_at_reference, "s(beta d_w) + 1 - s(beta h)", "arXiv 2408.06266", NULL, 0},
    {"discopop", COUPLE_PAIR, REF, discopop_eval, discopop_at_reference, "-log s(z)(1-m) + e^-z m, m = s(z/tau)", "arXiv 2406.08414", refuse_discopop, TAKES_DIVERGENCE},
    {"sigmoid-norm", COUPLE_PAIR, REF, sigmoid_norm_eval, sigmoid_norm_at_reference, "-log s(beta (d_w/n_w - d_l/n_l))", "arXiv 2411.15124", NULL, TAKES_MARGIN},
    {"aot", COUPLE_BATCH, REF, aot_eval, aot_at_reference, "-log s(beta (u_(i) - v_(i))), u = l_w - l_l and v = r_w - r_l sorted over the batch", "arXiv 2406.05882", NULL, TAKES_MARGIN},
    {.name = NULL},
};
