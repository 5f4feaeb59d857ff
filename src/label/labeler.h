/* Labelers: who wins. A labeler gives a reward to each completion, or a probability to a pair, or nothing: a labeler that
 * fails never invents a verdict. */
#ifndef SAIL_LABEL_LABELER_H
#define SAIL_LABEL_LABELER_H

#include <jansson.h>

#include "batch/batch.h"

/* What a labeler sees of a group: a prompt's text and its completions' texts (not tokens), and the data row's other keys. */
struct label_request {
    const char *id; /* stable: prompt number and step */
    const char *prompt;
    json_t *row;                    /* the data row, or NULL; borrowed */
    const char *const *completions; /* (n) */
    const bool *finished;           /* (n): ended by EOS */
    int n;
    int n_vote; /* the majority is of the first so many; 0: of all */
};
struct label_answer {
    double *reward; /* (n), NaN: none */
    double p;       /* for n = 2: P(first beats second), or NaN when only rewards were given */
};

struct labeler;
/* Rewards by rules on the completion's text; file or inline text in YAML or JSON, see docs/labelers.md: contains, regex, length,
 * json_valid, ends_with, distinct-n, word lists, weighted sums. */
int labeler_rule_open(struct labeler **out, const char *path, sail_err *err);
/* An external program, started once and kept: JSON lines {"id","prompt","completions":[...]} in, {"id","rewards":[...]} or
 * {"id","p":[...]} out; deadline in seconds for each answer. A bad answer leaves the row unlabelled and is counted. */
int labeler_command_open(struct labeler **out, const char *command, double deadline_s, sail_err *err);
/* A gold table: JSON lines {"prompt","completion","reward"}. */
int labeler_table_open(struct labeler **out, const char *path, sail_err *err);
/* 1 or 0 by the final answer: that of the row's "answer" (gold), or the one that most completions of the request end in, at least this share of them; no verdict where
 * there is no such answer. */
int labeler_final_answer_open(struct labeler **out, bool gold, double share, sail_err *err);
char *label_final_answer(const char *text); /* in one spelling, to be freed; NULL: none */
void labeler_close(struct labeler *l);
const char *labeler_name(const struct labeler *l);
bool labeler_compares(const struct labeler *l); /* it has no reward for a single answer, as far as is known before it is asked */
/* answer->reward has room for n. SAIL_FAILED only when the labeler as a whole is gone (not for one bad answer). */
int labeler_ask(struct labeler *l, const struct label_request *q, struct label_answer *a, sail_err *err);
int64_t labeler_bad_answers(const struct labeler *l);

/* From two rewards to a pair. NaN rewards are unlabelled, and so are ties, which no draw decides; under the soft rule a tie is p = 1/2. */
enum pair_label { PAIR_LABEL_HARD, PAIR_LABEL_SOFT, PAIR_LABEL_SAMPLED };
/* rows i, j of the batch, rewards ri, rj. hard: the larger wins, p = 1. soft: win = i, p = sigma((ri - rj)/temperature). sampled: the winner
 * is drawn with that probability by uniform u, p = 1. margin = reward(win) - reward(lose). */
struct pair label_pair(int32_t i, int32_t j, double ri, double rj, enum pair_label rule, double temperature, double u);
/* The same from a verdict p = P(i beats j) on the pair itself; but for the soft rule a tie (p = 1/2) is unlabelled. */
struct pair label_judged(int32_t i, int32_t j, double p, enum pair_label rule, double u);
/* rate[k] = mean of P(k beats j) over the judged answers j, k itself (1/2) among them; from rewards by sigma((r_k - r_j)/temperature), or for n = 2 from a verdict p (NaN: none). */
void label_win_rates(int n, const double *reward, double p, double temperature, double *rate);
/* Of 0, 0.001 ... 1 the cost of a unit of length that makes the mean length of n prompts' best answers by reward - cost * length nearest to that of their worst; the least of
 * equals. reward, length: (n, k), NaN rewards: no verdict. */
double label_length_coef(int64_t n, int k, const double *reward, const double *length);
/* Share of an answer's runs of four tokens that were there before in it; 0 for fewer than five tokens. work: room for n runs. */
struct token_run {
    int32_t id[4];
};
double label_repetition(const int32_t *ids, int32_t n, struct token_run *work);
/* Sampled self-labels of routes dp and pp: win and lose are swapped with probability 1 - sigma(beta h), h from logp and logp_ref. first: the number that the
 * batch's first pair has in its step, which the random numbers are keyed by. */
void label_self(struct batch *b, int64_t first, double beta, uint64_t seed, uint64_t step);

#endif
