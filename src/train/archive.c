/* Judged answers of the iterates before (--replay-iterates): some prompts of a step are taken from there instead of being answered anew, with their verdicts; log-probs and reference are those of
 * now. An iterate is what lies between two moves of the reference. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "train/run.h"

enum { ITERATES = 8 };

/* Everything of one iterate: of each prompt k answers, their tokens one after the other. */
struct iterate {
    struct sampled_prompt *prompt;
    struct sampled_answer *answer;
    int64_t *ids_at; /* where the tokens of a prompt's answers begin */
    int32_t *ids;
    size_t n, n_ids, prompt_capacity, answer_capacity, at_capacity, ids_capacity;
};

struct archive {
    int n;                             /* earlier iterates that are drawn from */
    double share[ITERATES + 1], shared; /* [1]: of the one before; of all of them */
    struct iterate of[ITERATES + 1];   /* [0]: the one under way */
    int64_t number;                    /* of [0] */
};

static int parse(struct archive *a, const char *text, sail_err *err)
{
    for (const char *at = text;; at++) {
        char *end;
        const double share = strtod(at, &end);
        if (end == at || (*end && *end != ',') || !(share >= 0)) return err_set(err, SAIL_USAGE, "--replay-iterates: expected shares like 0.3,0.15, got '%s'", text);
        if (a->n == ITERATES) return err_set(err, SAIL_USAGE, "--replay-iterates: expected at most %d shares", ITERATES);
        a->shared += a->share[++a->n] = share;
        at = end;
        if (!*end) break;
    }
    return a->shared < 1 ? SAIL_OK : err_set(err, SAIL_USAGE, "--replay-iterates %s: the shares add up to %g: expected less than 1, so that new answers come in", text, a->shared);
}

int archive_check(const struct run *r, bool scores_sampler, sail_err *err)
{
    const sail_config *c = r->config;
    struct archive a = {0};
    if (!c->replay_iterates) return SAIL_OK;
    int rc = parse(&a, c->replay_iterates, err);
    if (rc || a.shared == 0) return rc;
    if (!r->reference_rule->moves || r->reference_rule->blends)
        return err_set(err, SAIL_USAGE, "--replay-iterates: an iterate ends where the reference moves, and --ref-rule is %s: --ref-rule periodic, or --replay-iterates 0", c->ref_rule);
    if (!r->pairs || scores_sampler || r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--replay-iterates brings back judged pairs as they are: method %s has no use for them: drop it, or --replay-iterates 0", r->preset->name);
    if (c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--replay-iterates and --replay-steps both train on answers again: drop one of them");
    if (r->pairing->ask || c->implicit_reward || c->prefix_endings)
        return err_set(err, SAIL_USAGE, "--replay-iterates keeps rewards of whole answers: drop it, or --pairing %s, --implicit-reward and --prefix-endings", c->pairing);
    if (!strcmp(c->pr_label, "sampled")) return err_set(err, SAIL_USAGE, "--replay-iterates keeps verdicts, and --pr-label sampled would draw them again: hard or soft");
    return SAIL_OK;
}

int archive_open(struct run *r, sail_err *err)
{
    if (!r->config->replay_iterates) return SAIL_OK;
    struct archive a = {0};
    int rc = parse(&a, r->config->replay_iterates, err);
    if (rc || a.shared == 0) return rc;
    if (mem_alloc(&r->archive, 1, sizeof *r->archive, err)) return SAIL_FAILED;
    *r->archive = a;
    return SAIL_OK;
}

static void release(struct iterate *x)
{
    free(x->prompt);
    free(x->answer);
    free(x->ids_at);
    free(x->ids);
    *x = (struct iterate){0};
}

void archive_close(struct archive *a)
{
    for (int i = 0; a && i <= a->n; i++) release(&a->of[i]);
    free(a);
}

/* Where the run has gone on to another iterate all of them grow older by one. */
static void turn(struct run *r)
{
    struct archive *a = r->archive;
    for (const int64_t now = r->step / reference_steps(r); a->number < now; a->number++) {
        release(&a->of[a->n]);
        memmove(a->of + 1, a->of, (size_t)a->n * sizeof *a->of);
        a->of[0] = (struct iterate){0};
    }
}

static double draw(const struct run *r, int64_t j, uint64_t what) { return rng_uniform((uint64_t)r->config->seed, RNG_ROUTE, (uint64_t)r->step, (uint64_t)j + (what << 40)); }

/* The iterate that row j of the step comes from; 0: from none before. */
static int source(const struct run *r, int64_t j)
{
    double u = draw(r, j, 1);
    for (int i = 1; i <= r->archive->n; i++)
        if ((u -= r->archive->share[i]) < 0) return r->archive->of[i].n ? i : 0;
    return 0;
}

bool archive_takes(struct run *r, int64_t j)
{
    if (!r->archive) return false;
    turn(r);
    return source(r, j) > 0;
}

void archive_recall(struct run *r, int64_t j)
{
    struct sampled *d = &r->sampled;
    const struct iterate *x = &r->archive->of[source(r, j)];
    const size_t at = (size_t)(draw(r, j, 2) * (double)x->n);
    const int32_t *ids = x->ids + x->ids_at[at];
    d->prompt[d->n] = x->prompt[at];
    for (int64_t k = 0; k < d->k; k++) {
        const int64_t to = d->n * d->k + k;
        d->answer[to] = x->answer[(int64_t)at * d->k + k];
        memcpy(d->ids + to * r->config->max_new_tokens, ids, (size_t)d->answer[to].n * sizeof *ids);
        ids += d->answer[to].n;
    }
    d->n++;
}

static int room(void *array, size_t *capacity, size_t n, size_t size, sail_err *err)
{
    int rc = SAIL_OK;
    while (!rc && *capacity < n) rc = mem_grow(array, *capacity, capacity, size, err);
    return rc;
}

/* Room for so many prompts of k answers, and tokens. */
static int reserve(struct iterate *x, size_t n, size_t k, size_t tokens, sail_err *err)
{
    int rc = room(&x->prompt, &x->prompt_capacity, n, sizeof *x->prompt, err);
    if (!rc) rc = room(&x->ids_at, &x->at_capacity, n, sizeof *x->ids_at, err);
    if (!rc) rc = room(&x->answer, &x->answer_capacity, n * k, sizeof *x->answer, err);
    return rc ? rc : room(&x->ids, &x->ids_capacity, tokens, sizeof *x->ids, err);
}

int archive_keep(struct run *r, int64_t i, sail_err *err)
{
    struct iterate *x = &r->archive->of[0];
    const struct sampled *d = &r->sampled;
    size_t tokens = x->n_ids;
    for (int64_t k = 0; k < d->k; k++) tokens += (size_t)d->answer[i * d->k + k].n;
    int rc = reserve(x, x->n + 1, (size_t)d->k, tokens, err);
    if (rc) return rc;
    x->prompt[x->n] = d->prompt[i];
    x->ids_at[x->n] = (int64_t)x->n_ids;
    for (int64_t k = 0; k < d->k; k++) {
        const int64_t from = i * d->k + k;
        x->answer[(int64_t)x->n * d->k + k] = d->answer[from];
        memcpy(x->ids + x->n_ids, d->ids + from * r->config->max_new_tokens, (size_t)d->answer[from].n * sizeof *x->ids);
        x->n_ids += (size_t)d->answer[from].n;
    }
    x->n++;
    return SAIL_OK;
}

/* --- In a checkpoint: for each iterate that holds something its numbers, and its tokens. --- */
enum { OF_PROMPT = 5, OF_ANSWER = 5 };

static void pack(const struct iterate *x, int64_t k, double *out)
{
    for (size_t i = 0; i < x->n; i++) {
        const struct sampled_prompt *q = &x->prompt[i];
        const double of[OF_PROMPT] = {(double)q->row, q->route, (double)q->key, q->p, q->shared};
        memcpy(out, of, sizeof of);
        out += OF_PROMPT;
        for (const struct sampled_answer *y = x->answer + (int64_t)i * k; y < x->answer + (int64_t)(i + 1) * k; y++, out += OF_ANSWER) {
            const double one[OF_ANSWER] = {y->n, y->finish, y->logp, y->drawn, y->reward};
            memcpy(out, one, sizeof one);
        }
    }
}

int archive_write(const struct run *r, const char *folder, sail_err *err)
{
    const struct archive *a = r->archive;
    struct tensor t[1 + 2 * (ITERATES + 1)];
    char name[1 + 2 * (ITERATES + 1)][32];
    double *packed[ITERATES + 1] = {NULL}, number = (double)a->number;
    const int64_t k = r->sampled.k;
    int64_t n = 1;
    int rc = SAIL_OK;
    t[0] = (struct tensor){.name = "number", .dtype = DTYPE_F64, .n_dim = 1, .dim = {1}, .data = &number};
    for (int i = 0; !rc && i <= a->n; i++) {
        const struct iterate *x = &a->of[i];
        const int64_t count = (int64_t)x->n * (OF_PROMPT + k * OF_ANSWER);
        if (!x->n || (rc = mem_alloc(&packed[i], (size_t)count, sizeof **packed, err))) continue;
        pack(x, k, packed[i]);
        snprintf(name[n], sizeof *name, "%d.numbers", i);
        t[n] = (struct tensor){.name = name[n], .dtype = DTYPE_F64, .n_dim = 1, .dim = {count}, .data = packed[i]};
        n++;
        snprintf(name[n], sizeof *name, "%d.ids", i);
        t[n] = (struct tensor){.name = name[n], .dtype = DTYPE_I32, .n_dim = 1, .dim = {(int64_t)x->n_ids}, .data = x->ids};
        n++;
    }
    char *path = path_join(folder, "archive.safetensors");
    if (!rc) rc = safetensors_write(path, t, n, NULL, 0, err);
    free(path);
    for (int i = 0; i <= a->n; i++) free(packed[i]);
    return rc;
}

/* From n prompts' numbers; false: no run like this one wrote them. */
static bool unpack(const struct run *r, struct iterate *x, const char *in, size_t n, size_t n_ids)
{
    const int64_t k = r->sampled.k;
    for (; x->n < n; x->n++) {
        double q[OF_PROMPT], y[OF_ANSWER];
        memcpy(q, in, sizeof q);
        in += sizeof q;
        if (!r->prompts || !replay_whole(q[0], 0, (double)r->prompts->n - 1) || !replay_whole(q[1], 0, ROUTE_COUNT - 1) || !replay_whole(q[2], 0, 0x1p53)) return false;
        x->prompt[x->n] = (struct sampled_prompt){.row = (int64_t)q[0], .route = (enum route)q[1], .key = (uint64_t)q[2], .p = q[3], .beats = {NAN, NAN}, .shared = q[4] != 0};
        x->ids_at[x->n] = (int64_t)x->n_ids;
        for (int64_t j = 0; j < k; j++, in += sizeof y) {
            memcpy(y, in, sizeof y);
            if (!replay_whole(y[0], 1, (double)r->config->max_new_tokens) || !replay_whole(y[1], 0, FINISH_LENGTH) || x->n_ids + (size_t)y[0] > n_ids) return false;
            x->answer[(int64_t)x->n * k + j] = (struct sampled_answer){.n = (int32_t)y[0], .finish = (enum finish)y[1], .logp = y[2], .drawn = y[3], .reward = y[4]};
            x->n_ids += (size_t)y[0];
        }
    }
    return x->n_ids == n_ids;
}

static int read_iterate(struct run *r, const struct safetensors *s, int i, sail_err *err)
{
    struct iterate *x = &r->archive->of[i];
    char name[32];
    snprintf(name, sizeof name, "%d.numbers", i);
    const struct tensor *numbers = safetensors_find(s, name);
    snprintf(name, sizeof name, "%d.ids", i);
    const struct tensor *ids = safetensors_find(s, name);
    if (!numbers && !ids) return SAIL_OK;
    const int64_t each = OF_PROMPT + r->sampled.k * OF_ANSWER;
    bool good = numbers && ids && numbers->dtype == DTYPE_F64 && ids->dtype == DTYPE_I32 && tensor_count(numbers) % each == 0;
    if (good) {
        const size_t n = (size_t)(tensor_count(numbers) / each), n_ids = (size_t)tensor_count(ids);
        int rc = reserve(x, n, (size_t)r->sampled.k, n_ids, err);
        if (rc) return rc;
        memcpy(x->ids, ids->data, n_ids * sizeof *x->ids);
        for (size_t t = 0; good && t < n_ids; t++) good = x->ids[t] >= 0 && x->ids[t] < model_facts(r->model)->vocab;
        good = good && unpack(r, x, numbers->data, n, n_ids);
    }
    return good ? SAIL_OK : err_set(err, SAIL_FAILED, "%s: the answers of iterate %d do not fit this run", s->path, i);
}

int archive_read(struct run *r, const char *folder, sail_err *err)
{
    struct archive *a = r->archive;
    struct safetensors s;
    char *path = path_join(folder, "archive.safetensors");
    int rc = safetensors_open(&s, path, err);
    free(path);
    if (rc) return rc;
    const struct tensor *number = safetensors_find(&s, "number");
    double value = -1;
    if (number && number->dtype == DTYPE_F64 && tensor_count(number) == 1) memcpy(&value, number->data, sizeof value);
    if (replay_whole(value, 0, 0x1p53))
        a->number = (int64_t)value;
    else
        rc = err_set(err, SAIL_FAILED, "%s: 'number': expected the number of an iterate", s.path);
    for (int i = 0; !rc && i <= a->n; i++) rc = read_iterate(r, &s, i, err);
    safetensors_close(&s);
    return rc;
}
