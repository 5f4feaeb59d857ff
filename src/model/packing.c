#include "base/err.h"
#include "model/internal.h"

static int64_t longest_of(const struct sequences *s)
{
    int64_t most = 0;
    for (int64_t i = 0; i < s->n; i++)
        if (s->n_prompt[i] + s->n_tok[i] > most) most = s->n_prompt[i] + s->n_tok[i];
    return most;
}

size_t packing_room(const struct model *m, int64_t tokens, int64_t targets, int64_t n, int64_t longest)
{
    const size_t N = (size_t)n, T = (size_t)tokens, predicted = (size_t)targets;
    return turns_bytes(m, tokens, longest) + arena_room(T * 4) * 2 + arena_room(T * 8) + arena_room(2 * N * sizeof(struct attn_segment)) + arena_room(predicted * 4) * 2 + arena_room(predicted * 8) +
           arena_room((N + 1) * 8) + arena_room(N * 4);
}

/* Upper bounds without looking at groups: a few bytes a token. */
size_t packing_bytes(const struct model *m, const struct sequences *s)
{
    int64_t tokens = 0, targets = 0;
    for (int64_t i = 0; i < s->n; i++) {
        tokens += s->n_prompt[i] + s->n_tok[i];
        targets += s->n_tok[i];
    }
    return packing_room(m, tokens, targets, s->n, longest_of(s));
}

bool sequences_share(const struct model *m, const struct sequences *s, int64_t i)
{
    if (m->options.repeat_prompts || i == 0 || s->group[i] != s->group[i - 1] || s->n_prompt[i] != s->n_prompt[i - 1]) return false;
    const int64_t limit = m->config.rope_switch, here = s->n_prompt[i] + s->n_tok[i], before = s->n_prompt[i - 1] + s->n_tok[i - 1];
    if (!limit || (here <= limit && before <= limit)) return true;
    return m->config.rope_dynamic ? here == before : here > limit && before > limit;
}

int64_t model_unique_tokens(const struct model *m, const struct sequences *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) n += (sequences_share(m, s, i) ? 0 : s->n_prompt[i]) + s->n_tok[i];
    return n;
}

/* What names a sequence in random numbers: its tokens, so that neither the order of a batch nor its division changes a mask. */
static uint64_t mix(uint64_t key, const int32_t *ids, int64_t n)
{
    for (int64_t t = 0; t < n; t++) {
        key = (key ^ (uint64_t)(uint32_t)ids[t]) * 0x9E3779B97F4A7C15u;
        key ^= key >> 29;
    }
    return key;
}

struct rows {
    const int32_t *ids;
    int64_t n, first, length; /* tokens, position of the first, tokens of the whole sequence */
    uint64_t key;
};

static void put_rows(struct packing *p, const struct model *m, struct rows r)
{
    turns_put(&p->turn, m, p->n_row, r.first, r.n, r.length);
    for (int64_t t = 0; t < r.n; t++) {
        p->id[p->n_row] = r.ids[t];
        p->pos[p->n_row] = (int32_t)(r.first + t);
        p->key[p->n_row++] = r.key + (uint64_t)(r.first + t);
    }
}

/* The counted tokens of completion i: the first is predicted by the prompt's last row, every other by its own row's predecessor. */
static void put_targets(struct packing *p, const struct sequences *s, int64_t i, int64_t prompt_last, int64_t start)
{
    const int32_t *completion = s->ids[i] + s->n_prompt[i], n_tok = s->n_tok[i], whole = s->n_whole ? s->n_whole[i] : n_tok;
    const unsigned char *counted = s->counted ? s->counted[i] : NULL;
    for (int32_t t = 0; t < n_tok; t++) {
        if (counted && !counted[t]) continue;
        p->target_row[p->n_target] = (int32_t)(t == 0 ? prompt_last : start + t - 1);
        p->weight[p->n_target] = t < whole ? 1 : s->tail;
        p->target[p->n_target++] = completion[t];
    }
}

static int take(struct packing *p, struct arena *arena, const struct model *m, const struct sequences *s, sail_err *err)
{
    size_t tokens = 0, targets = 0;
    for (int64_t i = 0; i < s->n; i++) {
        BUG_ON(s->n_prompt[i] < 1 || s->n_tok[i] < 1, "sequence %lld has %d prompt and %d completion tokens", (long long)i, (int)s->n_prompt[i], (int)s->n_tok[i]);
        tokens += (size_t)s->n_prompt[i] + (size_t)s->n_tok[i];
        targets += (size_t)s->n_tok[i];
    }
    if (tokens > INT32_MAX) return err_set(err, SAIL_FAILED, "%zu tokens in one pass: expected fewer than 2^31", tokens);
    *p = (struct packing){.n_sequence = s->n};
    p->id = arena_take(arena, tokens * sizeof *p->id);
    p->pos = arena_take(arena, tokens * sizeof *p->pos);
    turns_take(&p->turn, m, arena, (int64_t)tokens, longest_of(s));
    p->key = arena_take(arena, tokens * sizeof *p->key);
    p->segment = arena_take(arena, 2 * (size_t)s->n * sizeof *p->segment);
    p->target_row = arena_take(arena, targets * sizeof *p->target_row);
    p->target = arena_take(arena, targets * sizeof *p->target);
    p->weight = arena_take(arena, targets * sizeof *p->weight);
    p->sequence_start = arena_take(arena, ((size_t)s->n + 1) * sizeof *p->sequence_start);
    p->last_row = arena_take(arena, (size_t)s->n * sizeof *p->last_row);
    return SAIL_OK;
}

int packing_make(struct packing *p, struct arena *arena, const struct model *m, const struct sequences *s, sail_err *err)
{
    int rc = take(p, arena, m, s, err);
    if (rc) return rc;
    int64_t prompt = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const int64_t n_prompt = s->n_prompt[i], n_tok = s->n_tok[i], length = n_prompt + n_tok;
        const int32_t *completion = s->ids[i] + n_prompt;
        const uint64_t key = mix(1, s->ids[i], n_prompt);
        if (!sequences_share(m, s, i)) {
            prompt = p->n_row;
            put_rows(p, m, (struct rows){s->ids[i], n_prompt, 0, length, key});
            p->segment[p->n_segment++] = (struct attn_segment){.start = prompt, .n = n_prompt};
        }
        // The last token predicts nothing; only a score is read there.
        const int64_t start = p->n_row, fed = m->config.reward_head ? n_tok : n_tok - 1;
        put_rows(p, m, (struct rows){completion, fed, n_prompt, length, mix(key, completion, n_tok)});
        if (fed) p->segment[p->n_segment++] = (struct attn_segment){.start = start, .n = fed, .prefix = prompt, .n_prefix = n_prompt};
        p->sequence_start[i] = p->n_target;
        put_targets(p, s, i, prompt + n_prompt - 1, start);
        p->last_row[i] = (int32_t)(start + fed - 1);
    }
    p->sequence_start[s->n] = p->n_target;
    return SAIL_OK;
}
