/* Objectives on fixed pairs. Notation: lw, ll sums of log pi over the completions; d(y) = log pi - log ref; h = d(win) - d(lose);
 * n token counts; s(x) the logistic function. Each function states its loss and the derivatives in lw and ll. */
#include <math.h>

#include "objective/objective.h"

#define EACH_PAIR(b, q) for (const struct pair *q = (b)->pair; q < (b)->pair + (b)->n_pair; q++) if (!q->unlabelled)

static double gap(const struct batch *b, const struct pair *q) { return log_ratio(b, q->win) - log_ratio(b, q->lose); }
static const double log2e = 0.6931471805599453;

/* SFT: L = -sum_t log pi(y_t) / N over the batch's N completion tokens; scale is 1 / N. */
static void sft_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    (void)p;
    for (int64_t i = 0; i < b->n; i++) {
        b->coef[i] = -scale;
        s->loss -= scale * b->logp[i];
    }
}

/* DPO (2305.18290, eq. 7): L = -log s(beta h), dL/dlw = -beta s(-beta h) = -dL/dll. Soft labels: the cross-entropy with P(win) = p. */
static void dpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), g = p->beta * (sigmoid(z) - q->p);
        pair_add(b, q, scale, s, -(q->p * log_sigmoid(z) + (1 - q->p) * log_sigmoid(-z)), g, -g);
        pair_measure(b, q, p->beta, s);
    }
}

/* cDPO (Mitchell 2023): L = -(1 - eps) log s(z) - eps log s(-z), z = beta h */
static void cdpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), g = p->beta * (sigmoid(z) - (1 - p->eps));
        pair_add(b, q, scale, s, -(1 - p->eps) * log_sigmoid(z) - p->eps * log_sigmoid(-z), g, -g);
        pair_measure(b, q, p->beta, s);
    }
}

/* Robust DPO (2403.00409): L = [-(1 - eps) log s(z) + eps log s(-z)] / (1 - 2 eps); unbiased under flips with probability eps */
static void robust_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    const double k = 1 / (1 - 2 * p->eps);
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), g = -p->beta * k * ((1 - p->eps) * sigmoid(-z) + p->eps * sigmoid(z));
        pair_add(b, q, scale, s, k * (-(1 - p->eps) * log_sigmoid(z) + p->eps * log_sigmoid(-z)), g, -g);
        pair_measure(b, q, p->beta, s);
    }
}

/* IPO (2310.12036, eq. 17) on sums: L = (h - 1/(2 tau))^2, tau = --beta */
static void ipo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double e = gap(b, q) - 1 / (2 * p->beta);
        pair_add(b, q, scale, s, e * e, 2 * e, -2 * e);
        pair_measure(b, q, p->beta, s);
    }
}

/* IPO on token means, as TRL has it: L = (d(win)/nw - d(lose)/nl - 1/(2 tau))^2 */
static void ipo_mean_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double nw = b->n_tok[q->win], nl = b->n_tok[q->lose], e = log_ratio(b, q->win) / nw - log_ratio(b, q->lose) / nl - 1 / (2 * p->beta);
        pair_add(b, q, scale, s, e * e, 2 * e / nw, -2 * e / nl);
        pair_measure(b, q, p->beta, s);
    }
}

/* Hinge with a reference (RSO, 2309.06657): L = max(0, 1 - beta h) */
static void hinge_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), g = z < 1 ? -p->beta : 0;
        pair_add(b, q, scale, s, fmax(0, 1 - z), g, -g);
        pair_measure(b, q, p->beta, s);
    }
}

/* SLiC-HF (2305.10425): L = max(0, delta - lw + ll) - lambda lw, no reference */
static void slic_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double lw = b->logp[q->win], slack = p->delta - lw + b->logp[q->lose], active = slack > 0;
        pair_add(b, q, scale, s, fmax(0, slack) - p->lambda * lw, -active - p->lambda, active);
        s->n_pair++;
    }
}

/* SimPO (2405.14734, eq. 6): L = -log s(beta (lw/nw - ll/nl) - gamma), no reference */
static void simpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double nw = b->n_tok[q->win], nl = b->n_tok[q->lose], z = p->beta * (b->logp[q->win] / nw - b->logp[q->lose] / nl) - p->gamma, g = p->beta * sigmoid(-z);
        pair_add(b, q, scale, s, -log_sigmoid(z), -g / nw, g / nl);
        s->n_pair++;
    }
}

/* ORPO (2403.07691, eq. 6-7): L = -x_w - lambda log s(o(x_w) - o(x_l)), x = log-prob per token, o(x) = x - log(1 - e^x), do/dx = 1 / (1 - e^x). An answer
 * that is certain (x = 0, and above by rounding) has infinite odds: there x stops at `sure`. A certain winner's slope has the limit e^{o(x_l)}, which the
 * formula meets at the stop; a certain loser's grows without bound up to it, and beyond it the loss does not move with x_l. */
static void orpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    const double sure = -1e-30;
    EACH_PAIR(b, q) {
        const double nw = b->n_tok[q->win], nl = b->n_tok[q->lose], x = b->logp[q->win] / nw, y = b->logp[q->lose] / nl, xw = fmin(x, sure), xl = fmin(y, sure);
        const double z = (xw - log1m_exp(xw)) - (xl - log1m_exp(xl)), c = p->lambda * sigmoid(-z);
        pair_add(b, q, scale, s, -x - p->lambda * log_sigmoid(z), -1 / nw + c / (nw * expm1(xw)), y > sure ? 0 : -c / (nl * expm1(xl)));
        s->n_pair++;
    }
}

/* EXO on pairs (2402.00856): KL(q || label smoothed by eps), q = s(z): L = q (log q - log(1 - eps)) + (1 - q)(log(1 - q) - log eps) */
static void exo_pair_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), a = log_sigmoid(z) - log1p(-p->eps), c = log_sigmoid(-z) - log(p->eps), g = p->beta * sigmoid(z) * sigmoid(-z) * (a - c);
        pair_add(b, q, scale, s, sigmoid(z) * a + sigmoid(-z) * c, g, -g);
        pair_measure(b, q, p->beta, s);
    }
}

/* NCA on pairs (2402.05369): L = -log s(u) - log s(-u)/2 - log s(-v)/2, u = beta d(win), v = beta d(lose) */
static void nca_pair_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double u = p->beta * log_ratio(b, q->win), v = p->beta * log_ratio(b, q->lose);
        pair_add(b, q, scale, s, -log_sigmoid(u) - 0.5 * log_sigmoid(-u) - 0.5 * log_sigmoid(-v), p->beta * (0.5 * sigmoid(u) - sigmoid(-u)), 0.5 * p->beta * sigmoid(v));
        pair_measure(b, q, p->beta, s);
    }
}

/* BCO on pairs (2404.04656, without the running shift): L = -log s(beta d(win)) - log s(-beta d(lose)) */
static void bco_pair_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double u = p->beta * log_ratio(b, q->win), v = p->beta * log_ratio(b, q->lose);
        pair_add(b, q, scale, s, -log_sigmoid(u) - log_sigmoid(-v), -p->beta * sigmoid(-u), p->beta * sigmoid(v));
        pair_measure(b, q, p->beta, s);
    }
}

/* SPPO with hard labels (2405.00675): L = (d(win) - 1/(2 beta))^2 + (d(lose) + 1/(2 beta))^2, 1/eta = --beta */
static void sppo_hard_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double u = log_ratio(b, q->win) - 1 / (2 * p->beta), v = log_ratio(b, q->lose) + 1 / (2 * p->beta);
        pair_add(b, q, scale, s, u * u + v * v, 2 * u, 2 * v);
        pair_measure(b, q, p->beta, s);
    }
}

/* APO-zero (2408.06266, eq. 7): L = 1 - s(u) + s(v), u = beta d(win), v = beta d(lose) */
static void apo_zero_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double u = p->beta * log_ratio(b, q->win), v = p->beta * log_ratio(b, q->lose);
        pair_add(b, q, scale, s, sigmoid(-u) + sigmoid(v), -p->beta * sigmoid(u) * sigmoid(-u), p->beta * sigmoid(v) * sigmoid(-v));
        pair_measure(b, q, p->beta, s);
    }
}

/* APO-down (2408.06266, eq. 8): L = s(u) + 1 - s(z), u = beta d(win), z = beta h */
static void apo_down_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double u = p->beta * log_ratio(b, q->win), z = p->beta * gap(b, q), dz = p->beta * sigmoid(z) * sigmoid(-z);
        pair_add(b, q, scale, s, sigmoid(u) + sigmoid(-z), p->beta * sigmoid(u) * sigmoid(-u) - dz, dz);
        pair_measure(b, q, p->beta, s);
    }
}

/* DiscoPOP (2406.08414): L = -log s(z)(1 - m) + e^{-z} m, m = s(z/tau); the product e^{-z} m is formed in logs so that it stays finite */
static void discopop_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double z = p->beta * gap(b, q), m = sigmoid(z / p->tau), w = sigmoid(-z / p->tau), em = exp(log_sigmoid(z / p->tau) - z);
        const double dz = -sigmoid(-z) * w - em + (em * w + log_sigmoid(z) * m * w) / p->tau;
        pair_add(b, q, scale, s, -log_sigmoid(z) * w + em, p->beta * dz, -p->beta * dz);
        pair_measure(b, q, p->beta, s);
    }
}

/* DPO on token means (Tulu 3, 2411.15124): L = -log s(beta (d(win)/nw - d(lose)/nl)) */
static void sigmoid_norm_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    EACH_PAIR(b, q) {
        const double nw = b->n_tok[q->win], nl = b->n_tok[q->lose], z = p->beta * (log_ratio(b, q->win) / nw - log_ratio(b, q->lose) / nl), g = p->beta * sigmoid(-z);
        pair_add(b, q, scale, s, -log_sigmoid(z), -g / nw, g / nl);
        pair_measure(b, q, p->beta, s);
    }
}

static const char *refuse_robust(const struct objective_params *p) { return p->eps >= 0.5 ? "--eps must be below 0.5: with half of the labels wrong nothing can be learned from them" : NULL; }
static const char *refuse_exo(const struct objective_params *p) { return p->eps <= 0 ? "--eps must be above 0: the smoothed label is divided by" : NULL; }
static const char *refuse_discopop(const struct objective_params *p) { return p->tau > 1 ? "--tau must be at most 1: beyond that the loss grows without bound on pairs in the wrong order" : NULL; }

static double zero_log2(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, log2e; }
static double zero_robust(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, log2e; }
static double zero_ipo(const struct objective_params *p, const struct pair *q) { return (void)q, 1 / (4 * p->beta * p->beta); }
static double zero_one(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, 1; }
static double zero_exo(const struct objective_params *p, const struct pair *q) { return (void)q, -log2e - 0.5 * (log1p(-p->eps) + log(p->eps)); }
static double zero_two_log2(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, 2 * log2e; }
static double zero_sppo(const struct objective_params *p, const struct pair *q) { return (void)q, 1 / (2 * p->beta * p->beta); }
static double zero_discopop(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, log2e / 2 + 0.5; }

enum { PAIRS = COL_PAIRS, REF = COL_PAIRS | COL_LOGP_REF };
const struct objective objective_pairwise[] = {
    {"sft", COUPLE_SEQUENCE, 0, sft_eval, NULL, "-sum_t log pi(y_t) / N", "-", NULL},
    {"dpo", COUPLE_PAIR, REF, dpo_eval, zero_log2, "-log s(beta h)", "arXiv 2305.18290", NULL},
    {"cdpo", COUPLE_PAIR, REF, cdpo_eval, zero_log2, "-(1-eps) log s(beta h) - eps log s(-beta h)", "Mitchell 2023", NULL},
    {"robust", COUPLE_PAIR, REF, robust_eval, zero_robust, "[-(1-eps) log s(beta h) + eps log s(-beta h)] / (1-2 eps)", "arXiv 2403.00409", refuse_robust},
    {"ipo", COUPLE_PAIR, REF, ipo_eval, zero_ipo, "(h - 1/(2 beta))^2, sums", "arXiv 2310.12036", NULL},
    {"ipo-mean", COUPLE_PAIR, REF, ipo_mean_eval, zero_ipo, "(d_w/n_w - d_l/n_l - 1/(2 beta))^2, token means", "arXiv 2310.12036", NULL},
    {"hinge", COUPLE_PAIR, REF, hinge_eval, zero_one, "max(0, 1 - beta h)", "arXiv 2309.06657", NULL},
    {"slic", COUPLE_PAIR, PAIRS, slic_eval, NULL, "max(0, delta - l_w + l_l) - lambda l_w", "arXiv 2305.10425", NULL},
    {"simpo", COUPLE_PAIR, PAIRS, simpo_eval, NULL, "-log s(beta (l_w/n_w - l_l/n_l) - gamma)", "arXiv 2405.14734", NULL},
    {"orpo", COUPLE_PAIR, PAIRS, orpo_eval, NULL, "-x_w - lambda log s(logodds(x_w) - logodds(x_l))", "arXiv 2403.07691", NULL},
    {"exo-pair", COUPLE_PAIR, REF, exo_pair_eval, zero_exo, "KL(s(beta h) || 1-eps)", "arXiv 2402.00856", refuse_exo},
    {"nca-pair", COUPLE_PAIR, REF, nca_pair_eval, zero_two_log2, "-log s(beta d_w) - [log s(-beta d_w) + log s(-beta d_l)]/2", "arXiv 2402.05369", NULL},
    {"bco-pair", COUPLE_PAIR, REF, bco_pair_eval, zero_two_log2, "-log s(beta d_w) - log s(-beta d_l)", "arXiv 2404.04656", NULL},
    {"sppo-hard", COUPLE_PAIR, REF, sppo_hard_eval, zero_sppo, "(d_w - 1/(2 beta))^2 + (d_l + 1/(2 beta))^2", "arXiv 2405.00675", NULL},
    {"apo-zero", COUPLE_PAIR, REF, apo_zero_eval, zero_one, "1 - s(beta d_w) + s(beta d_l)", "arXiv 2408.06266", NULL},
    {"apo-down", COUPLE_PAIR, REF, apo_down_eval, zero_one, "s(beta d_w) + 1 - s(beta h)", "arXiv 2408.06266", NULL},
    {"discopop", COUPLE_PAIR, REF, discopop_eval, zero_discopop, "-log s(z)(1-m) + e^-z m, m = s(z/tau)", "arXiv 2406.08414", refuse_discopop},
    {"sigmoid-norm", COUPLE_PAIR, REF, sigmoid_norm_eval, zero_log2, "-log s(beta (d_w/n_w - d_l/n_l))", "arXiv 2411.15124", NULL},
    {.name = NULL},
};
