/* The batch: a table of sequences. Every stage of a step adds columns; each column has one writer, and reading a column
 * that nobody wrote is a bug that aborts with the column's name. This struct is the documentation of the data flow. */
#ifndef SAIL_BATCH_BATCH_H
#define SAIL_BATCH_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum batch_column {
    COL_ROWS = 1 << 0,     /* prompt_id, group, ids, n_prompt, n_tok, counted, source, age, finish  <- data set, sampler */
    COL_BEHAVIOUR = 1 << 1, /* logp_behaviour, logp_drawn                                   <- sampler */
    COL_LOGP = 1 << 2,     /* logp                                                         <- scorer */
    COL_LOGP_REF = 1 << 3, /* logp_ref                                                     <- scorer */
    COL_REWARD = 1 << 4,   /* reward (NaN: none)                                           <- labeler */
    COL_PAIRS = 1 << 5,    /* pair[].{win, lose, p, margin, route}                         <- data set, labeler */
    COL_COEF = 1 << 6,     /* coef                                                         <- objective */
    COL_TOKENS = 1 << 7,   /* token_logp, token_logp_ref                                   <- scorer, where the objective asks */
    COL_VERDICT = 1 << 8,  /* verdict: rows that come one by one                           <- data set */
    COL_MISMATCH = 1 << 9, /* the mismatched rows are there                                <- data set */
    COL_SHIFT = 1 << 10,   /* shift                                                        <- step */
    COL_WHOLE = 1 << 11,   /* n_whole, tail                                                <- batch_public_lengths */
    COL_ADJUSTED = 1 << 12, /* adjusted                                                     <- scorer */
    COL_WIN_RATE = 1 << 13, /* win_rate                                                    <- labeler */
    COL_LOGP_INIT = 1 << 14, /* logp_init                                                  <- scorer, where the objective asks */
    COL_LEARNED = 1 << 15, /* learned, ahead                                               <- the reward model that the run trains */
};

enum source { SOURCE_DATASET, SOURCE_POLICY, SOURCE_REFERENCE, SOURCE_MIXTURE, SOURCE_REPLAY, SOURCE_CANDIDATE /* a data row's answer beside sampled ones */ };
static inline bool source_is_fresh(enum source s) { return s == SOURCE_POLICY || s == SOURCE_REFERENCE || s == SOURCE_MIXTURE; } /* sampled in this step */
enum route { ROUTE_OFFLINE, ROUTE_DP, ROUTE_PP, ROUTE_PR, ROUTE_COUNT };
enum finish { FINISH_EOS, FINISH_LENGTH };
enum verdict { VERDICT_NONE, VERDICT_DESIRABLE, VERDICT_UNDESIRABLE, VERDICT_MISMATCHED }; /* mismatched: a prompt with another row's completion */

struct pair {
    int32_t win, lose; /* rows of the batch; for exact and soft labels: y1, y2 */
    enum route route;
    double p;      /* P(win beats lose): 1 for a hard or sampled label, the probability for a soft one */
    double margin; /* reward difference or data-set margin; 0 when there is none */
    double weight; /* what the pair counts, held constant: the importance weight of a stale pair, WPO's; else 1 */
    bool unlabelled; /* no verdict or a tie: kept for the counts, left out of the loss */
};

/* A pair by a value of it, for objectives that sort the batch. */
struct ranked {
    double value;
    int32_t pair;
};

struct batch {
    uint32_t written; /* COL_* */

    int64_t n;                 /* rows: one sequence (prompt + completion) each */
    int64_t *prompt_id;        /* (n) which prompt of the run */
    int32_t *group;            /* (n) rows of one group are adjacent and share their prompt */
    const int32_t **ids;       /* (n) prompt then completion, n_prompt + n_tok ids; borrowed */
    int32_t *n_prompt, *n_tok; /* (n) tokens of the prompt, of the completion (EOS counted) */
    const unsigned char **counted; /* (n) n_tok flags: which completion tokens the loss counts; NULL: all. Borrowed */
    enum source *source;       /* (n) */
    int32_t *age;              /* (n) optimizer steps since it was sampled */
    enum finish *finish;       /* (n) */
    double *logp_behaviour;    /* (n) under the policy that sampled: sum over completion tokens, T = 1, full vocabulary */
    double *logp_drawn;        /* (n) under what it was drawn from: other than the policy at another temperature, with top-k or top-p, or where two models were blended */
    double *logp, *logp_ref;   /* (n) sums over completion tokens */
    int32_t *n_whole;          /* (n) completion tokens after this many count `tail` times in those sums; only where COL_WHOLE is written */
    double tail;
    double *adjusted;          /* (n) mean over completion tokens of log pi(y_t) - log sum_v pi(v)^2 */
    double *reward;            /* (n) */
    enum verdict *verdict;     /* (n) */
    double shift;              /* running mean of the implicit rewards */
    double *win_rate;          /* (n) mean of P(y beats y') over the judged answers y' of its prompt, itself (1/2) among them; NaN: no verdict */
    double *learned;           /* (n) score under the reward model that the run itself trains */
    double *ahead;             /* (n) two-level: log-prob under the first policy minus that under the second */
    double *logp_init;         /* (n) under the policy that the run began with, beside a reference that has moved on */

    int64_t n_reference; /* answers of the reference in the optimizer batch that this is, or is a slice of */

    int64_t n_pair;
    struct pair *pair; /* (n_pair) */
    int64_t won_tokens; /* completion tokens of the winning rows of the whole optimizer batch, in its slices too; for sums with sft */

    double *coef; /* (n) dL/dlog pi(y_i) */
    double *pull; /* (n) dL/dKL(ref || pi) of the next token after each prefix of the completion, over the whole vocabulary; 0 but in SAIL-RevKL */

    struct ranked *rank; /* (2 pair_capacity) room for sorting; no column */

    /* Columns of completion tokens, only where the objective asks for them (else NULL): row i's n_tok[i] entries start at token_at[i]. */
    int64_t *token_at;                   /* (n) */
    float *token_logp, *token_logp_ref;
    float *token_weight;                 /* multiplies coef, token by token; 1 unless the objective says otherwise */
    int64_t token_capacity;

    int64_t capacity, pair_capacity;
};

/* Storage for capacity rows and pair_capacity pairs, all columns; nothing written yet. */
int batch_init(struct batch *b, int64_t capacity, int64_t pair_capacity, sail_err *err);
int batch_init_tokens(struct batch *b, int64_t capacity, sail_err *err); /* the columns of tokens */
void batch_release(struct batch *b);
void batch_clear(struct batch *b); /* n = n_pair = 0, no column written */
int64_t batch_counted_tokens(const struct batch *b); /* of all rows */
/* A view of rows [from, from + n) and of the pairs inside them (rows of a pair are adjacent); pair indices are counted from `from` in
 * pair_room (n / 2 pairs). Columns written through the view land in b; its `written` is its own. Never released. */
void batch_slice(struct batch *slice, const struct batch *b, int64_t from, int64_t n, struct pair *pair_room);
/* Places the rows' entries in the columns of tokens, weights 1: once the rows stay as they are. */
void batch_lay_tokens(struct batch *b);
static inline float *batch_tokens(const struct batch *b, float *column) { return column && b->n ? column + b->token_at[0] : NULL; } /* of the first row */
/* LD-DPO: of both answers of a pair, the tokens past the shorter one's length count `tail` times. No row may be in two pairs of other lengths. */
void batch_public_lengths(struct batch *b, double tail);
void batch_count_won(struct batch *b); /* writes won_tokens */
void batch_move_row(struct batch *b, int64_t to, int64_t from); /* copies all columns of a row */
/* Rows [from, batch_group_end(b, from)) are one group. */
static inline int64_t batch_group_end(const struct batch *b, int64_t from)
{
    int64_t end = from + 1;
    while (end < b->n && b->group[end] == b->group[from]) end++;
    return end;
}
const char *batch_column_name(enum batch_column c);

#define BATCH_NEED(b, columns) batch_need((b), (columns), __FILE__, __LINE__)
void batch_need(const struct batch *b, uint32_t columns, const char *file, int line);

#endif
