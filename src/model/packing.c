#include "base/err.h"
#include "model/internal.h"

/* Upper bounds without looking at groups: a few bytes a token. */
size_t packing_bytes(const struct sequences *s)
{
    size_t tokens = 0, targets = 0, n = (size_t)s->n;
    for (int64_t i = 0; i < s->n; i++) {
        tokens += (size_t)s->n_prompt[i] + (size_t)s->n_tok[i];
        targets += (size_t)s->n_tok[i];
    }
    return arena_room(tokens * 4) * 2 + arena_room(tokens * 8) + arena_room(2 * n * sizeof(struct attn_segment)) + arena_room(targets * 4) * 2 + arena_room((n + 1) * 8) + 2 * arena_room(n * 4);
}

static void put_rows(struct packing *p, const int32_t *ids, int64_t n, int64_t first_pos, uint64_t member)
{
    for (int64_t t = 0; t < n; t++) {
        p->id[p->n_row] = ids[t];
        p->pos[p->n_row] = (int32_t)(first_pos + t);
        p->key[p->n_row++] = member << 32 | (uint64_t)(first_pos + t);
    }
}

/* The tokens of a completion: the first is predicted by the prompt's last row, every other by its own row's predecessor. */
static void put_targets(struct packing *p, const int32_t *completion, int64_t n_tok, int64_t prompt_last, int64_t start)
{
    for (int64_t t = 0; t < n_tok; t++) {
        p->target_row[p->n_target] = (int32_t)(t == 0 ? prompt_last : start + t - 1);
        p->target[p->n_target++] = completion[t];
    }
}

int packing_make(struct packing *p, struct arena *arena, const struct sequences *s, bool feed_last, sail_err *err)
{
    size_t tokens = 0, targets = 0;
    for (int64_t i = 0; i < s->n; i++) {
        tokens += (size_t)s->n_prompt[i] + (size_t)s->n_tok[i];
        targets += (size_t)s->n_tok[i];
    }
    if (tokens > INT32_MAX) return err_set(err, SAIL_FAILED, "%zu tokens in one pass: expected fewer than 2^31", tokens);
    *p = (struct packing){.n_sequence = s->n};
    p->id = arena_take(arena, tokens * sizeof *p->id);
    p->pos = arena_take(arena, tokens * sizeof *p->pos);
    p->key = arena_take(arena, tokens * sizeof *p->key);
    p->segment = arena_take(arena, 2 * (size_t)s->n * sizeof *p->segment);
    p->target_row = arena_take(arena, targets * sizeof *p->target_row);
    p->target = arena_take(arena, targets * sizeof *p->target);
    p->sequence_start = arena_take(arena, ((size_t)s->n + 1) * sizeof *p->sequence_start);
    p->completion_start = arena_take(arena, (size_t)s->n * sizeof *p->completion_start);
    p->last_row = arena_take(arena, (size_t)s->n * sizeof *p->last_row);
    int64_t prompt = 0;
    uint64_t member = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t n_prompt = s->n_prompt[i], n_tok = s->n_tok[i];
        BUG_ON(n_prompt < 1 || n_tok < 1, "sequence %lld has %lld prompt and %lld completion tokens", (long long)i, (long long)n_prompt, (long long)n_tok);
        const bool shares = i > 0 && s->group[i] == s->group[i - 1] && n_prompt == s->n_prompt[i - 1];
        member = shares ? member + 1 : (uint64_t)s->group[i] << 8;
        if (!shares) {
            prompt = p->n_row;
            put_rows(p, s->ids[i], n_prompt, 0, member);
            p->segment[p->n_segment++] = (struct attn_segment){.start = prompt, .n = n_prompt};
        }
        const int64_t start = p->n_row, fed = feed_last ? n_tok : n_tok - 1;
        put_rows(p, s->ids[i] + n_prompt, fed, n_prompt, member + 1);
        if (fed) p->segment[p->n_segment++] = (struct attn_segment){.start = start, .n = fed, .prefix = prompt, .n_prefix = n_prompt};
        p->sequence_start[i] = p->n_target;
        p->completion_start[i] = (int32_t)start;
        put_targets(p, s->ids[i] + n_prompt, n_tok, prompt + n_prompt - 1, start);
        if (n_prompt + n_tok > p->longest) p->longest = n_prompt + n_tok;
    }
    p->sequence_start[s->n] = p->n_target;
    return SAIL_OK;
}
