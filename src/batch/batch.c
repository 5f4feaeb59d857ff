#include "batch/batch.h"

#include <stdlib.h>

#include "base/mem.h"

int batch_init(struct batch *b, int64_t capacity, int64_t pair_capacity, sail_err *err)
{
    *b = (struct batch){.capacity = capacity, .pair_capacity = pair_capacity};
    const size_t n = (size_t)capacity, np = (size_t)pair_capacity;
    int rc = SAIL_OK;
#define COLUMN(field, count) \
    if (!rc) rc = mem_alloc(&b->field, count, sizeof *b->field, err)
    COLUMN(prompt_id, n);
    COLUMN(group, n);
    COLUMN(ids, n);
    COLUMN(n_prompt, n);
    COLUMN(n_tok, n);
    COLUMN(counted, n);
    COLUMN(source, n);
    COLUMN(age, n);
    COLUMN(finish, n);
    COLUMN(logp_behaviour, n);
    COLUMN(logp_drawn, n);
    COLUMN(logp, n);
    COLUMN(logp_ref, n);
    COLUMN(n_whole, n);
    COLUMN(adjusted, n);
    COLUMN(reward, n);
    COLUMN(verdict, n);
    COLUMN(win_rate, n);
    COLUMN(logp_init, n);
    COLUMN(learned, n);
    COLUMN(ahead, n);
    COLUMN(coef, n);
    COLUMN(pull, n);
    COLUMN(pair, np);
    COLUMN(rank, 2 * np);
#undef COLUMN
    if (rc) batch_release(b);
    return rc;
}

int batch_init_tokens(struct batch *b, int64_t capacity, sail_err *err)
{
    const size_t n = (size_t)capacity;
    b->token_capacity = capacity;
    int rc = mem_alloc(&b->token_at, (size_t)b->capacity, sizeof *b->token_at, err);
    if (!rc) rc = mem_alloc(&b->token_logp, n, sizeof *b->token_logp, err);
    if (!rc) rc = mem_alloc(&b->token_logp_ref, n, sizeof *b->token_logp_ref, err);
    if (!rc) rc = mem_alloc(&b->token_weight, n, sizeof *b->token_weight, err);
    return rc;
}

void batch_lay_tokens(struct batch *b)
{
    int64_t at = 0;
    for (int64_t i = 0; b->token_at && i < b->n; i++) {
        BUG_ON(b->counted[i], "columns of tokens are of whole completions: of row %lld some tokens do not count", (long long)i);
        b->token_at[i] = at;
        for (int32_t t = 0; t < b->n_tok[i]; t++, at++) {
            BUG_ON(at == b->token_capacity, "more than %lld completion tokens in a batch", (long long)at);
            b->token_weight[at] = 1;
        }
    }
}

void batch_release(struct batch *b)
{
    free(b->token_at);
    free(b->token_logp);
    free(b->token_logp_ref);
    free(b->token_weight);
    free(b->prompt_id);
    free(b->group);
    free(b->ids);
    free(b->n_prompt);
    free(b->n_tok);
    free(b->counted);
    free(b->source);
    free(b->age);
    free(b->finish);
    free(b->logp_behaviour);
    free(b->logp_drawn);
    free(b->logp);
    free(b->logp_ref);
    free(b->n_whole);
    free(b->adjusted);
    free(b->reward);
    free(b->verdict);
    free(b->win_rate);
    free(b->logp_init);
    free(b->learned);
    free(b->ahead);
    free(b->coef);
    free(b->pull);
    free(b->pair);
    free(b->rank);
    *b = (struct batch){0};
}

void batch_clear(struct batch *b)
{
    b->n = b->n_pair = b->n_reference = 0;
    b->written = 0;
}

int64_t batch_counted_tokens(const struct batch *b)
{
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++)
        for (int32_t t = 0; t < b->n_tok[i]; t++) n += !b->counted[i] || b->counted[i][t];
    return n;
}

void batch_slice(struct batch *slice, const struct batch *b, int64_t from, int64_t n, struct pair *pair_room)
{
    *slice = *b;
    slice->n = slice->capacity = n;
#define SHIFT(field) if (slice->field) slice->field += from
    SHIFT(prompt_id);
    SHIFT(group);
    SHIFT(ids);
    SHIFT(n_prompt);
    SHIFT(n_tok);
    SHIFT(counted);
    SHIFT(source);
    SHIFT(age);
    SHIFT(finish);
    SHIFT(logp_behaviour);
    SHIFT(logp_drawn);
    SHIFT(logp);
    SHIFT(logp_ref);
    SHIFT(n_whole);
    SHIFT(adjusted);
    SHIFT(reward);
    SHIFT(verdict);
    SHIFT(win_rate);
    SHIFT(logp_init);
    SHIFT(learned);
    SHIFT(ahead);
    SHIFT(coef);
    SHIFT(pull);
#undef SHIFT
    if (slice->token_at) slice->token_at += from; // entries keep their places in the columns of tokens
    slice->pair = pair_room;
    slice->n_pair = 0;
    for (int64_t k = 0; k < b->n_pair; k++) {
        struct pair q = b->pair[k];
        const bool win = q.win >= from && q.win < from + n, lose = q.lose >= from && q.lose < from + n;
        BUG_ON(win != lose, "pair %lld lies across a cut of the batch", (long long)k);
        if (!win) continue;
        q.win -= (int32_t)from;
        q.lose -= (int32_t)from;
        pair_room[slice->n_pair++] = q;
    }
    slice->pair_capacity = slice->n_pair;
}

void batch_public_lengths(struct batch *b, double tail)
{
    BATCH_NEED(b, COL_ROWS | COL_PAIRS);
    for (int64_t i = 0; i < b->n; i++) b->n_whole[i] = b->n_tok[i];
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        const int32_t w = b->n_tok[q->win], l = b->n_tok[q->lose], shorter = w < l ? w : l;
        BUG_ON((b->n_whole[q->win] != w && b->n_whole[q->win] != shorter) || (b->n_whole[q->lose] != l && b->n_whole[q->lose] != shorter), "a row in pairs of other lengths");
        b->n_whole[q->win] = b->n_whole[q->lose] = shorter;
    }
    b->tail = tail;
    b->written |= COL_WHOLE;
}

void batch_count_won(struct batch *b)
{
    b->won_tokens = 0;
    for (int64_t k = 0; k < b->n_pair; k++)
        if (!b->pair[k].unlabelled) b->won_tokens += b->n_tok[b->pair[k].win];
}

void batch_move_row(struct batch *b, int64_t to, int64_t from)
{
#define MOVE(field) b->field[to] = b->field[from]
    MOVE(prompt_id);
    MOVE(group);
    MOVE(ids);
    MOVE(n_prompt);
    MOVE(n_tok);
    MOVE(counted);
    MOVE(source);
    MOVE(age);
    MOVE(finish);
    MOVE(logp_behaviour);
    MOVE(logp_drawn);
    MOVE(logp);
    MOVE(logp_ref);
    MOVE(n_whole);
    MOVE(adjusted);
    MOVE(reward);
    MOVE(verdict);
    MOVE(win_rate);
    MOVE(logp_init);
    MOVE(learned);
    MOVE(ahead);
    MOVE(coef);
    MOVE(pull);
#undef MOVE
}

const char *batch_column_name(enum batch_column c)
{
    switch (c) {
    case COL_ROWS: return "rows";
    case COL_BEHAVIOUR: return "logp_behaviour";
    case COL_LOGP: return "logp";
    case COL_LOGP_REF: return "logp_ref";
    case COL_REWARD: return "reward";
    case COL_PAIRS: return "pair";
    case COL_COEF: return "coef";
    case COL_TOKENS: return "token_logp";
    case COL_VERDICT: return "verdict";
    case COL_MISMATCH: return "mismatched rows";
    case COL_SHIFT: return "shift";
    case COL_WHOLE: return "n_whole";
    case COL_ADJUSTED: return "adjusted";
    case COL_WIN_RATE: return "win_rate";
    case COL_LOGP_INIT: return "logp_init";
    case COL_LEARNED: return "learned";
    }
    return "?";
}

void batch_need(const struct batch *b, uint32_t columns, const char *file, int line)
{
    for (uint32_t c = 1; c <= COL_LEARNED; c <<= 1)
        if (columns & c & ~b->written) bug_abort(file, line, "batch column %s was read before it was written", batch_column_name(c));
}
