/* A model that a sampler listens to: its key/value cache, and the residual rows that predict the next tokens of prompts and answers. A sampler has one, and
 * a second one where answers are drawn from the logits of two. */
#ifndef SAIL_SAMPLE_VOICE_H
#define SAIL_SAMPLE_VOICE_H

#include "base/mem.h"
#include "model/decode.h"
#include "sample/sampler.h"

/* Cache rows: `longest` for each prompt place, then `own` for each slot's answer; both whole blocks of the cache. */
struct cache_layout {
    int64_t n_slot, longest, own, prefill_rows;
};
/* An answer that goes on after its newest token. */
struct going {
    int64_t slot, place;
    const struct prompt *prompt;
    const struct answer *answer;
};

struct voice {
    struct policy policy;
    struct kv_cache *cache;
    int64_t n_slot;             /* that there is room for */
    float *x, *place_x;         /* (n_slot, C) rows that predict the next token: of each slot, of each prefilled prompt */
    float *step_x, *logits;     /* (n_slot, C), (n_slot, kv_logits_row()) of one pass */
    struct arena head;          /* the logits' memory: huge pages */
    bool *whole;                /* (n_slot) the prompt's rows are among the answer's own: past the length where all positions turn otherwise nothing of the prefill holds */
    struct attn_cache_row *row; /* (n_slot) */
    int64_t *slot;              /* (n_slot) */
    int32_t *token;             /* (n_slot) */
    int32_t *sequence;          /* (longest + own) a prompt and its answer together */
    int64_t n_sequence;
};

/* Room for a run; the first call makes the cache. positions: of the longest prompt and answer together. */
int voice_prepare(struct voice *v, struct policy p, const struct cache_layout *l, int64_t positions, sail_err *err);
void voice_release(struct voice *v);
size_t voice_memory(const struct voice *v);
/* Whole prompts into their places. */
void voice_prefill(struct voice *v, const struct prefill *fill, const int64_t *place, int64_t n);
/* A slot begins an answer to the prompt of a place. */
void voice_begin(struct voice *v, int64_t slot, int64_t place);
/* v->logits of these slots, one after the other. */
void voice_logits(struct voice *v, const int64_t *slot, int64_t n);
/* Reads the newest token of each answer. */
void voice_advance(struct voice *v, const struct cache_layout *l, const struct going *going, int64_t n);

#endif
