#include "sample/voice.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void free_rows(struct voice *v)
{
    free(v->x);
    free(v->place_x);
    free(v->step_x);
    arena_release(&v->head);
    free(v->whole);
    free(v->row);
    free(v->slot);
    free(v->token);
    free(v->sequence);
    *v = (struct voice){.policy = v->policy, .cache = v->cache};
}

void voice_release(struct voice *v)
{
    free_rows(v);
    kv_cache_free(v->cache);
    *v = (struct voice){0};
}

static int take_rows(struct voice *v, int64_t n, int64_t sequence, sail_err *err)
{
    if (n <= v->n_slot && sequence <= v->n_sequence) return SAIL_OK;
    if (n < v->n_slot) n = v->n_slot;
    if (sequence < v->n_sequence) sequence = v->n_sequence;
    const struct model_facts *f = model_facts(v->policy.model);
    const size_t C = (size_t)f->hidden, row = (size_t)kv_logits_row(v->policy.model), N = (size_t)n;
    free_rows(v);
    int rc = mem_alloc(&v->x, N * C, sizeof *v->x, err);
    if (!rc) rc = mem_alloc(&v->place_x, N * C, sizeof *v->place_x, err);
    if (!rc) rc = mem_alloc(&v->step_x, N * C, sizeof *v->step_x, err);
    if (!rc) rc = arena_init(&v->head, N * row * sizeof *v->logits, err);
    if (!rc) v->logits = arena_take(&v->head, N * row * sizeof *v->logits);
    if (!rc) rc = mem_alloc(&v->whole, N, sizeof *v->whole, err);
    if (!rc) rc = mem_alloc(&v->row, N, sizeof *v->row, err);
    if (!rc) rc = mem_alloc(&v->slot, N, sizeof *v->slot, err);
    if (!rc) rc = mem_alloc(&v->token, N, sizeof *v->token, err);
    if (!rc) rc = mem_alloc(&v->sequence, (size_t)sequence, sizeof *v->sequence, err);
    if (rc) return rc;
    v->n_slot = n;
    v->n_sequence = sequence;
    return SAIL_OK;
}

int voice_prepare(struct voice *v, struct policy p, const struct cache_layout *l, int64_t positions, sail_err *err)
{
    const int64_t context = model_facts(p.model)->max_position, most = l->prefill_rows > l->n_slot ? l->prefill_rows : l->n_slot;
    if (v->cache && v->policy.model != p.model) voice_release(v);
    v->policy = p;
    int rc = v->cache ? SAIL_OK : kv_cache_create(&v->cache, p.model, err);
    if (!rc) rc = take_rows(v, l->n_slot, l->longest + l->own, err);
    if (!rc) rc = kv_cache_reserve(v->cache, p, l->n_slot * (l->longest + l->own), most, positions < context ? positions : context, err);
    return rc;
}

size_t voice_memory(const struct voice *v)
{
    if (!v->cache) return 0;
    const struct model_facts *f = model_facts(v->policy.model);
    return kv_cache_bytes(v->cache) + (size_t)v->n_slot * (size_t)(3 * f->hidden + kv_logits_row(v->policy.model)) * sizeof(float);
}

void voice_prefill(struct voice *v, const struct prefill *fill, const int64_t *place, int64_t n)
{
    const int64_t C = model_facts(v->policy.model)->hidden;
    kv_prefill(v->cache, v->policy, fill, n, v->step_x);
    for (int64_t k = 0; k < n; k++) memcpy(v->place_x + place[k] * C, v->step_x + k * C, (size_t)C * sizeof(float));
}

void voice_begin(struct voice *v, int64_t slot, int64_t place)
{
    const int64_t C = model_facts(v->policy.model)->hidden;
    memcpy(v->x + slot * C, v->place_x + place * C, (size_t)C * sizeof(float));
    v->whole[slot] = false;
}

void voice_logits(struct voice *v, const int64_t *slot, int64_t n)
{
    const int64_t C = model_facts(v->policy.model)->hidden;
    for (int64_t a = 0; a < n; a++) memcpy(v->step_x + a * C, v->x + slot[a] * C, (size_t)C * sizeof(float));
    kv_logits(v->cache, v->policy, v->step_x, n, v->logits);
}

/* Once past the switch (LongRoPE), or by every token past it (dynamic), all positions of an answer turn otherwise. */
static bool turns_anew(const struct model_facts *f, int64_t n_prompt, int64_t length)
{
    if (!f->rope_switch || length <= f->rope_switch) return false;
    return f->rope_dynamic || (n_prompt <= f->rope_switch && length == f->rope_switch + 1);
}

/* Everything is computed again. */
static void prefill_again(struct voice *v, const struct going *g, int64_t row)
{
    const int64_t C = model_facts(v->policy.model)->hidden, n_prompt = g->prompt->n, n = g->answer->n;
    memcpy(v->sequence, g->prompt->ids, (size_t)n_prompt * sizeof *v->sequence);
    memcpy(v->sequence + n_prompt, g->answer->ids, (size_t)n * sizeof *v->sequence);
    const struct prefill all = {.ids = v->sequence, .n = n_prompt + n, .row = row};
    kv_prefill(v->cache, v->policy, &all, 1, v->x + g->slot * C);
    v->whole[g->slot] = true;
}

void voice_advance(struct voice *v, const struct cache_layout *l, const struct going *going, int64_t n)
{
    const struct model_facts *f = model_facts(v->policy.model);
    const int64_t C = f->hidden;
    int64_t steps = 0;
    for (const struct going *g = going; g < going + n; g++) {
        const int64_t start = l->n_slot * l->longest + g->slot * l->own, n_prompt = g->prompt->n, n_answer = g->answer->n;
        if (turns_anew(f, n_prompt, n_prompt + n_answer)) {
            prefill_again(v, g, start);
            continue;
        }
        v->slot[steps] = g->slot;
        v->token[steps] = g->answer->ids[n_answer - 1];
        v->row[steps++] = v->whole[g->slot] ? (struct attn_cache_row){.start = start, .n = n_prompt + n_answer}
                                            : (struct attn_cache_row){.prefix = g->place * l->longest, .n_prefix = n_prompt, .start = start, .n = n_answer};
    }
    if (!steps) return;
    kv_step(v->cache, v->policy, v->token, v->row, steps, v->step_x);
    for (int64_t a = 0; a < steps; a++) memcpy(v->x + v->slot[a] * C, v->step_x + a * C, (size_t)C * sizeof(float));
}
