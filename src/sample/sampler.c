/* Slots hold the answers that grow; prompts hold the prefills that the answers of one prompt share. A slot that ends takes the next answer of the queue at
 * once, so the batch stays full while there is work. Random numbers are keyed by prompt, return and token: slots and their order change nothing. Voices (one, or
 * two whose logits are blended) read the same tokens side by side. */
#include "sample/sampler.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sample/blend.h"
#include "sample/select.h"
#include "sample/voice.h"

enum { POLICY, REFERENCE, VOICES };

struct slot {
    bool busy, fresh; /* fresh: the next token comes from the prompt's last row */
    int64_t prompt;   /* prompt place */
    struct answer *answer;
};
struct place { /* of a prefilled prompt */
    int64_t i, users;
    bool used;
};

struct sampler {
    struct model *model;
    struct voice voice[VOICES];
    struct slot *slot;
    struct place *place;
    int64_t n_slot, most_slots; /* of this run; that there is room for */
    int n_team;           /* threads that draw */
    struct arena weights; /* what each of them draws from, in huge pages: select.h */
    int64_t *active;
    int32_t *token;
    struct going *going;
    struct prefill *fill;
    int64_t *fill_place;
    struct answer *answer;
    int32_t *ids;
    float *logp, *drawn;
    int64_t most_answers, most_tokens; /* that there is room for */
    struct sampler_cost cost; /* of the last run */
};

struct sampler_cost sampler_cost(const struct sampler *s) { return s->cost; }

int sampler_create(struct sampler **out, struct model *m, sail_err *err)
{
    struct sampler *s;
    *out = NULL;
    int rc = mem_alloc(&s, 1, sizeof *s, err);
    if (rc) return rc;
    s->model = m;
    *out = s;
    return SAIL_OK;
}

static void free_slots(struct sampler *s)
{
    free(s->slot);
    free(s->place);
    arena_release(&s->weights);
    free(s->active);
    free(s->token);
    free(s->going);
    free(s->fill);
    free(s->fill_place);
    s->slot = NULL;
    s->place = NULL;
    s->active = s->fill_place = NULL;
    s->token = NULL;
    s->going = NULL;
    s->fill = NULL;
    s->most_slots = 0;
}

static void free_answers(struct sampler *s)
{
    free(s->answer);
    free(s->ids);
    free(s->logp);
    free(s->drawn);
    s->answer = NULL;
    s->ids = NULL;
    s->logp = s->drawn = NULL;
    s->most_answers = s->most_tokens = 0;
}

void sampler_free(struct sampler *s)
{
    if (!s) return;
    free_slots(s);
    free_answers(s);
    for (int v = 0; v < VOICES; v++) voice_release(&s->voice[v]);
    free(s);
}

static int take_slots(struct sampler *s, int64_t n, sail_err *err)
{
    s->n_slot = n;
    if (n <= s->most_slots) return SAIL_OK;
    const int64_t V = model_facts(s->model)->vocab;
    const size_t N = (size_t)n;
    free_slots(s);
    int rc = mem_alloc(&s->slot, N, sizeof *s->slot, err);
    if (!rc) rc = mem_alloc(&s->place, N, sizeof *s->place, err);
    s->n_team = backend_thread_count();
    if (!rc) rc = arena_init(&s->weights, (size_t)s->n_team * (size_t)select_scratch(V) * sizeof(float), err);
    if (!rc) rc = mem_alloc(&s->active, N, sizeof *s->active, err);
    if (!rc) rc = mem_alloc(&s->token, N, sizeof *s->token, err);
    if (!rc) rc = mem_alloc(&s->going, N, sizeof *s->going, err);
    if (!rc) rc = mem_alloc(&s->fill, N, sizeof *s->fill, err);
    if (!rc) rc = mem_alloc(&s->fill_place, N, sizeof *s->fill_place, err);
    if (!rc) s->most_slots = n;
    return rc;
}

static int take_answers(struct sampler *s, int64_t n, int64_t tokens, sail_err *err)
{
    if (n <= s->most_answers && tokens <= s->most_tokens) return SAIL_OK;
    const int64_t answers = n > s->most_answers ? n : s->most_answers, most = tokens > s->most_tokens ? tokens : s->most_tokens;
    free_answers(s);
    int rc = mem_alloc(&s->answer, (size_t)answers, sizeof *s->answer, err);
    if (!rc) rc = mem_alloc(&s->ids, (size_t)most, sizeof *s->ids, err);
    if (!rc) rc = mem_alloc(&s->logp, (size_t)most, sizeof *s->logp, err);
    if (!rc) rc = mem_alloc(&s->drawn, (size_t)most, sizeof *s->drawn, err);
    if (rc) return rc;
    s->most_answers = answers;
    s->most_tokens = most;
    return SAIL_OK;
}

/* One call of sampler_run. */
struct run {
    struct sampler *s;
    const struct prompt *prompt;
    int64_t n_prompt, next, n_answer;
    int n_voice;
    struct cache_layout layout;
    const struct sampler_options *o;
    int64_t done, tokens;
};

static int64_t find_place(struct run *r, int64_t i)
{
    int64_t free_place = -1;
    for (int64_t p = 0; p < r->s->n_slot; p++) {
        if (r->s->place[p].used && r->s->place[p].i == i) return p;
        if (!r->s->place[p].used && free_place < 0) free_place = p;
    }
    BUG_ON(free_place < 0, "every prompt place is in use");
    r->s->place[free_place] = (struct place){.i = i};
    return free_place;
}

static void run_prefill(struct run *r, int64_t n)
{
    struct sampler_cost *cost = &r->s->cost;
    const double start = clock_seconds();
    for (int v = 0; n && v < r->n_voice; v++) voice_prefill(&r->s->voice[v], r->s->fill, r->s->fill_place, n);
    for (int64_t i = 0; i < n; i++) cost->prefill_tokens += r->s->fill[i].n;
    cost->prefill_s += clock_seconds() - start;
}

/* Free slots take the next answers; prompts that are new are prefilled together, a pass at a time. */
static void refill(struct run *r)
{
    struct sampler *s = r->s;
    int64_t n_fill = 0, rows = 0;
    for (int64_t k = 0; k < s->n_slot && r->next < r->n_answer; k++) {
        if (s->slot[k].busy) continue;
        struct answer *y = &s->answer[r->next++];
        const int64_t p = find_place(r, y->i), n = r->prompt[y->i].n;
        if (!s->place[p].used) {
            s->place[p].used = true;
            if (rows + n > r->layout.prefill_rows) {
                run_prefill(r, n_fill);
                n_fill = rows = 0;
            }
            s->fill_place[n_fill] = p;
            s->fill[n_fill++] = (struct prefill){.ids = r->prompt[y->i].ids, .n = n, .row = p * r->layout.longest};
            rows += n;
        }
        s->place[p].users++;
        s->slot[k] = (struct slot){.busy = true, .fresh = true, .prompt = p, .answer = y};
    }
    run_prefill(r, n_fill);
    for (int64_t k = 0; k < s->n_slot; k++) {
        if (!s->slot[k].busy || !s->slot[k].fresh) continue;
        for (int v = 0; v < r->n_voice; v++) voice_begin(&s->voice[v], k, s->slot[k].prompt);
        s->slot[k].fresh = false;
    }
}

static bool ends(const struct sampler_options *o, int32_t id)
{
    for (int i = 0; i < o->n_eos && !o->ignore_eos; i++)
        if (o->eos[i] == id) return true;
    return false;
}

/* A slot's answer is whole: the slot is free, and its prompt's place when nobody else uses it or waits for it. */
static void finish(struct run *r, struct slot *slot, enum finish why)
{
    struct answer *y = slot->answer;
    struct place *p = &r->s->place[slot->prompt];
    y->finish = why;
    for (int32_t t = 0; t < y->n; t++) {
        y->logp += y->token_logp[t];
        y->drawn += y->token_drawn[t];
    }
    slot->busy = false;
    r->done++;
    const bool waiting = r->next < r->n_answer && r->s->answer[r->next].i == p->i;
    if (--p->users == 0 && !waiting) p->used = false;
}

/* One token of an answer from its a-th row of logits. */
static int32_t choose_token(const struct run *r, struct answer *y, int64_t a)
{
    const struct sampler_options *o = r->o;
    const struct select_options how = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .greedy = o->greedy};
    const int64_t V = model_facts(r->s->model)->vocab, row = kv_logits_row(r->s->model);
    const uint64_t index = (r->prompt[y->i].key * 4096 + (uint64_t)y->k) * 65536 + (uint64_t)y->n;
    const double u = rng_uniform(o->seed, RNG_SAMPLE, o->step, index);
    const float *policy = r->s->voice[POLICY].logits + a * row;
    float *scratch = (float *)(void *)r->s->weights.base + omp_get_thread_num() * select_scratch(V); // stays in that core's cache
    float *const logp = &y->token_logp[y->n], *const drawn = &y->token_drawn[y->n];
    if (r->n_voice == 1) return select_token(policy, V, &how, u, scratch, logp, drawn);
    float *blended = r->s->voice[REFERENCE].logits + a * row;
    blend_logits(blended, policy, V, &o->blend, scratch);
    float own; // of the blend: the policy's is below
    const int32_t id = select_token(blended, V, &how, u, scratch, &own, drawn);
    if (id >= 0) *logp = select_logp(policy, V, id, scratch);
    return id;
}

/* One token for every busy slot, from the rows that predict it. */
static int64_t choose(struct run *r)
{
    struct sampler *s = r->s;
    int64_t n = 0;
    for (int64_t k = 0; k < s->n_slot; k++)
        if (s->slot[k].busy) s->active[n++] = k;
    for (int v = 0; v < r->n_voice; v++) voice_logits(&s->voice[v], s->active, n);
#pragma omp parallel for num_threads(s->n_team) schedule(dynamic)
    for (int64_t a = 0; a < n; a++) s->token[a] = choose_token(r, s->slot[s->active[a]].answer, a);
    return n;
}

static int by_place(const void *a, const void *b)
{
    const struct going *x = a, *y = b;
    return x->place != y->place ? (x->place < y->place ? -1 : 1) : (x->slot > y->slot) - (x->slot < y->slot);
}

static int step(struct run *r, sail_err *err)
{
    struct sampler *s = r->s;
    const int64_t n = choose(r);
    int64_t context = INT64_MAX, going = 0;
    for (int v = 0; v < r->n_voice; v++) {
        const int64_t most = model_facts(s->voice[v].policy.model)->max_position;
        context = most < context ? most : context;
    }
    for (int64_t a = 0; a < n; a++) {
        struct slot *slot = &s->slot[s->active[a]];
        struct answer *y = slot->answer;
        if (s->token[a] < 0)
            return err_set(err, SAIL_FAILED, "prompt %lld: the model's logits after token %d are not numbers (NaN or infinite): nothing can be sampled from them", (long long)r->prompt[y->i].key,
                           (int)(r->prompt[y->i].n + y->n));
        y->ids[y->n++] = s->token[a];
        r->tokens++;
        if (ends(r->o, s->token[a]))
            finish(r, slot, FINISH_EOS);
        else if (y->n == r->o->max_new_tokens || r->prompt[y->i].n + y->n >= context)
            finish(r, slot, FINISH_LENGTH);
        else
            s->going[going++] = (struct going){.slot = s->active[a], .place = slot->prompt, .prompt = &r->prompt[y->i], .answer = y};
    }
    qsort(s->going, (size_t)going, sizeof *s->going, by_place); // answers of a prompt side by side: they read its keys together
    for (int v = 0; v < r->n_voice; v++) voice_advance(&s->voice[v], &r->layout, s->going, going);
    s->cost.passes += going > 0;
    return SAIL_OK;
}

static int check_prompts(struct run *r, int64_t context, sail_err *err)
{
    const int64_t vocab = model_facts(r->s->model)->vocab;
    for (int64_t i = 0; i < r->n_prompt; i++) {
        char what[48];
        snprintf(what, sizeof what, "prompt %lld", (long long)i);
        if (r->prompt[i].n < 1) return err_set(err, SAIL_FAILED, "%s has no tokens (and the tokenizer no BOS)", what);
        if (r->prompt[i].n >= context)
            return err_set(err, SAIL_FAILED, "%s has %d tokens: no room for an answer in the model's context of %lld", what, (int)r->prompt[i].n, (long long)context);
        for (int32_t t = 0; t < r->prompt[i].n; t++)
            if (r->prompt[i].ids[t] < 0 || r->prompt[i].ids[t] >= vocab)
                return err_set(err, SAIL_FAILED, "%s: token %d is id %d, outside the model's vocabulary of %lld", what, (int)t, (int)r->prompt[i].ids[t], (long long)vocab);
        if (r->prompt[i].n > r->layout.longest) r->layout.longest = r->prompt[i].n;
    }
    return SAIL_OK;
}

static int64_t whole_blocks(int64_t rows) { return (rows + CACHE_BLOCK - 1) / CACHE_BLOCK * CACHE_BLOCK; }

/* Room for a run with this layout, in which only the longest prompt's length is known so far. */
static int take_room(struct run *r, const struct policy *voice, sail_err *err)
{
    struct sampler *s = r->s;
    const struct sampler_options *o = r->o;
    struct cache_layout *l = &r->layout;
    r->n_answer = r->n_prompt * o->n_return;
    l->n_slot = o->n_slot ? o->n_slot : 32;
    if (l->n_slot > r->n_answer) l->n_slot = r->n_answer > 0 ? r->n_answer : 1;
    l->prefill_rows = l->longest > 1024 ? l->longest : 1024;
    l->own = o->max_new_tokens;
    const int64_t positions = l->longest + o->max_new_tokens;
    for (int v = 0; v < r->n_voice; v++) {
        const struct model_facts *f = model_facts(voice[v].model);
        const int64_t again = f->rope_dynamic ? positions : f->rope_switch + 1; // most rows of an answer that is computed again
        if (!f->rope_switch || positions <= f->rope_switch) continue;
        l->own = positions; // an answer that crosses is stored whole
        if (again > l->prefill_rows) l->prefill_rows = again;
    }
    l->longest = whole_blocks(l->longest);
    l->own = whole_blocks(l->own);
    int rc = take_slots(s, l->n_slot, err);
    if (!rc) rc = take_answers(s, r->n_answer, r->n_answer * o->max_new_tokens, err);
    for (int v = 0; !rc && v < r->n_voice; v++) rc = voice_prepare(&s->voice[v], voice[v], l, positions, err);
    return rc;
}

static int prepare(struct run *r, const struct policy *voice, sail_err *err)
{
    struct sampler *s = r->s;
    const struct sampler_options *o = r->o;
    int64_t context = INT64_MAX;
    for (int v = 0; v < r->n_voice; v++) {
        const struct model_facts *f = model_facts(voice[v].model);
        if (f->max_position < context) context = f->max_position;
        if (f->vocab != model_facts(s->model)->vocab)
            return err_set(err, SAIL_FAILED, "logits of two models are blended: expected one vocabulary, got %lld and %lld ids", (long long)model_facts(s->model)->vocab, (long long)f->vocab);
    }
    int rc = check_prompts(r, context, err);
    if (!rc) rc = take_room(r, voice, err);
    for (int64_t k = 0; !rc && k < r->n_answer; k++)
        s->answer[k] = (struct answer){.i = k / o->n_return, .k = o->first_return + k % o->n_return, .ids = s->ids + k * o->max_new_tokens,
                                       .token_logp = s->logp + k * o->max_new_tokens, .token_drawn = s->drawn + k * o->max_new_tokens};
    for (int64_t k = 0; !rc && k < r->layout.n_slot; k++) {
        s->slot[k].busy = false;
        s->place[k].used = false;
    }
    return rc;
}

int sampler_reserve(struct sampler *s, struct policy p, int64_t n_prompt, int64_t longest, const struct sampler_options *o, sail_err *err)
{
    const struct policy voice[VOICES] = {[POLICY] = p, [REFERENCE] = o->blend.with};
    struct run r = {.s = s, .n_prompt = n_prompt, .o = o, .n_voice = o->blend.with.model ? 2 : 1, .layout = {.longest = longest}};
    return take_room(&r, voice, err);
}

size_t sampler_memory(const struct sampler *s)
{
    size_t bytes = (size_t)s->n_team * (size_t)select_scratch(model_facts(s->model)->vocab) * sizeof(float) + (size_t)s->most_answers * sizeof *s->answer +
                   (size_t)s->most_tokens * (sizeof *s->ids + sizeof *s->logp + sizeof *s->drawn);
    for (int v = 0; v < VOICES; v++) bytes += voice_memory(&s->voice[v]);
    return bytes;
}

int sampler_run(struct sampler *s, struct policy p, const struct prompt *prompt, int64_t n_prompt, const struct sampler_options *o, struct answer **answers,
                bool (*progress)(void *, int64_t, int64_t), void *context, sail_err *err)
{
    const struct policy voice[VOICES] = {[POLICY] = p, [REFERENCE] = o->blend.with};
    struct run r = {.s = s, .prompt = prompt, .n_prompt = n_prompt, .o = o, .n_voice = o->blend.with.model ? 2 : 1};
    int rc = prepare(&r, voice, err);
    if (rc) return rc;
    s->cost = (struct sampler_cost){0};
    while (r.done < r.n_answer) {
        refill(&r);
        const double start = clock_seconds();
        if ((rc = step(&r, err))) return rc;
        s->cost.decode_s += clock_seconds() - start;
        s->cost.decode_tokens = r.tokens;
        if (progress && !progress(context, r.done, r.tokens)) return err_set(err, SAIL_FAILED, "interrupted while sampling (%lld of %lld answers done)", (long long)r.done, (long long)r.n_answer);
    }
    *answers = s->answer;
    return SAIL_OK;
}
