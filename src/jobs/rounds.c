#include "jobs/rounds.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "jobs/meetings.h"
#include "train/evaluators.h"

enum { MAX_GALLERY = 32, MAX_MEMBERS = 64 };

struct rounds {
    sail_config *config; /* the run's, resolved */
    sail_config *refit;  /* of `sail reward` */
    int64_t steps;       /* of a round */
    char *gallery[MAX_GALLERY];
    int n_gallery;
    struct evaluators judges; /* a reward model is fitted to each */
    int n_judge;
    char *folder;
};

static char *in_round(const struct rounds *w, int64_t n, const char *name) { return mem_printf("%s/%lld/%s", w->folder, (long long)n, name); }

/* ---------------------------------------------------------------- what the options say */

static int read_gallery(struct rounds *w, sail_err *err)
{
    const int64_t last = (w->config->max_steps + w->steps - 1) / w->steps;
    char *paths = mem_strdup(w->config->gallery), *rest = paths;
    int rc = SAIL_OK;
    for (char *path; !rc && (path = strsep(&rest, ","));) {
        if (!*path)
            rc = err_set(err, SAIL_USAGE, "--gallery %s: a name between the commas is empty", w->config->gallery);
        else if (w->n_gallery == MAX_GALLERY)
            rc = err_set(err, SAIL_USAGE, "--gallery: expected at most %d models", MAX_GALLERY);
        else if (!path_exists(path))
            rc = err_set(err, SAIL_USAGE, "--gallery: there is no file or folder '%s'", path);
        else
            w->gallery[w->n_gallery++] = mem_strdup(path);
    }
    free(paths);
    if (!rc && w->n_gallery + last > MAX_MEMBERS)
        rc = err_set(err, SAIL_USAGE, "%d models and %lld rounds of --round-steps %lld: the gallery would grow past %d: fewer or longer rounds", w->n_gallery, (long long)last, (long long)w->steps, MAX_MEMBERS);
    return rc;
}

/* Who judges the gallery's answers: outside of the run, and each answer for what it is. */
static int read_judges(struct rounds *w, sail_err *err)
{
    const sail_config *c = w->config;
    int rc = evaluators_given(c) ? evaluators_read(&w->judges, c, err) : SAIL_OK;
    w->n_judge = w->judges.n ? w->judges.n : 1;
    for (int k = 0; !rc && k < w->n_judge; k++) {
        const sail_config *j = w->judges.n ? w->judges.of[k].config : c;
        if (!strcmp(j->final_answer, "majority")) rc = err_set(err, SAIL_USAGE, "--final-answer majority and --round-steps: the reward model would learn what most models say: --final-answer gold, or another labeler");
        if (j->judge_model && (!strcmp(j->judge_model, "policy") || !strcmp(j->judge_model, "reference")))
            rc = err_set(err, SAIL_USAGE, "--judge-model %s and --round-steps: the gallery is judged between the rounds, when no policy is there: name the judge's folder", j->judge_model);
    }
    return rc;
}

/* The options of the refits: those of the run that are about the machine and the rows' lengths, then the user's. */
static int read_refit(struct rounds *w, sail_err *err)
{
    static const enum option_id shared[] = {OPTION_model, OPTION_dtype, OPTION_threads, OPTION_seed, OPTION_micro_tokens, OPTION_max_length, OPTION_max_prompt_length, OPTION_quiet};
    static const char *const set_by_round[] = {"data", "out", "resume", "dry_run", "quiet"};
    json_error_t why;
    json_t *j = w->config->refit ? json_loads(w->config->refit, JSON_REJECT_DUPLICATES, &why) : json_object(), *v;
    const char *key;
    int rc = sail_config_create(&w->refit, "reward", err);
    for (size_t i = 0; !rc && i < sizeof shared / sizeof *shared; i++) config_take(w->refit, w->config, shared[i]);
    if (!rc && !json_is_object(j)) rc = err_set(err, SAIL_USAGE, "--refit: expected options of `sail reward` as {\"lr\": 1e-5, \"epochs\": 2}, in YAML a mapping");
    json_object_foreach(j, key, v)
    {
        for (size_t i = 0; !rc && i < sizeof set_by_round / sizeof *set_by_round; i++)
            if (!strcmp(key, set_by_round[i])) rc = err_set(err, SAIL_USAGE, "'%s' is set by the round itself", key);
        char *text = json_is_string(v) ? mem_strdup(json_string_value(v)) : json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        if (!rc) rc = sail_config_set(w->refit, key, text ? text : "", err);
        free(text);
        if (rc) {
            err_context(err, "--refit");
            break;
        }
    }
    json_decref(j);
    if (!rc && !text_pipeline_same_tokenizer(w->config->model, w->refit->model) && strcmp(w->config->model, w->refit->model))
        rc = err_set(err, SAIL_USAGE, "--refit: model %s has another tokenizer than %s", w->refit->model, w->config->model);
    return rc;
}

int rounds_open(struct rounds **out, const struct run *r, sail_err *err)
{
    struct rounds *w;
    *out = NULL;
    if (!r->config->round_steps) return SAIL_OK;
    if (!r->text.tokenizer) return err_set(err, SAIL_USAGE, "%s: --round-steps compares texts, and there is no tokenizer (tokenizer.json)", r->config->model);
    int rc = mem_alloc(&w, 1, sizeof *w, err);
    if (rc) return rc;
    w->config = config_copy(r->config);
    w->steps = r->config->round_steps;
    w->folder = r->config->out ? path_join(r->config->out, "rounds") : NULL;
    rc = w->config ? read_gallery(w, err) : err_memory(err, sizeof *w->config);
    if (!rc && w->folder && !r->config->resume && path_exists(w->folder)) rc = err_set(err, SAIL_USAGE, "%s is there already: add --resume to go on with its rounds, or name another folder", w->folder);
    if (!rc) rc = read_judges(w, err);
    if (!rc) rc = read_refit(w, err);
    if (rc)
        rounds_close(w);
    else
        *out = w;
    return rc;
}

void rounds_close(struct rounds *w)
{
    if (!w) return;
    evaluators_release(&w->judges);
    for (int i = 0; i < w->n_gallery; i++) free(w->gallery[i]);
    sail_config_free(w->refit);
    sail_config_free(w->config);
    free(w->folder);
    free(w);
}

int64_t rounds_number(const struct rounds *w, int64_t step) { return step / w->steps + 1; }
int64_t rounds_end(const struct rounds *w, int64_t step) { return rounds_number(w, step) * w->steps; }

/* ---------------------------------------------------------------- what a round needs */

/* A command with the run's options, as far as it has them. */
static int command(sail_config **out, const char *name, const sail_config *like, sail_err *err)
{
    int rc = sail_config_create(out, name, err);
    for (int i = 0; !rc && i < OPTION_COUNT; i++) config_take(*out, like, (enum option_id)i);
    return rc;
}

/* Models in the order in which they came: the start policy, the gallery, the policies of the rounds before n. */
static int members(const struct rounds *w, int64_t n) { return 1 + w->n_gallery + (int)(n - 1); }
static char *answers_of(const struct rounds *w, int i)
{
    return !i ? mem_printf("%s/start.jsonl", w->folder) : i <= w->n_gallery ? mem_printf("%s/gallery-%d.jsonl", w->folder, i) : mem_printf("%s/%d/policy.jsonl", w->folder, i - w->n_gallery);
}

/* What an adapter's folder stands on is the run's own model. */
static bool is_adapter(const char *path)
{
    char *file = path_join(path, "adapter_config.json");
    const bool yes = path_exists(file);
    free(file);
    return yes;
}

/* Options by name, the last one NULL. */
static int with(sail_config *c, sail_err *err, ...)
{
    va_list ap;
    va_start(ap, err);
    int rc = SAIL_OK;
    for (const char *key; !rc && (key = va_arg(ap, const char *));) rc = sail_config_set(c, key, va_arg(ap, const char *), err);
    va_end(ap);
    return rc;
}

static const char *prompts_of(const sail_config *c) { return c->gallery_prompts ? c->gallery_prompts : c->prompts ? c->prompts : c->data; }

static int generate(const struct rounds *w, int i, const char *out, sail_err *err)
{
    sail_config *c = NULL;
    char *own = i > w->n_gallery ? in_round(w, i - w->n_gallery, "policy") : NULL;
    const char *path = own ? own : i ? w->gallery[i - 1] : NULL;
    int rc = command(&c, "generate", w->config, err);
    if (!rc && path) {
        config_reset(c, OPTION_adapter);
        rc = with(c, err, is_adapter(path) ? "adapter" : "model", path, NULL);
    }
    if (!rc) rc = with(c, err, "prompts", prompts_of(w->config), "out", out, NULL);
    if (!rc) {
        c->seed = w->config->seed + 1 + i; // no model meets itself with the same random numbers
        log_note("gallery: answers of %s", path ? path : w->config->model);
        rc = job_generate(c, err);
    }
    sail_config_free(c);
    free(own);
    return rc;
}

static int write_spent(const struct rounds *w, int64_t n, const struct meetings_spent *spent, sail_err *err)
{
    char *path = in_round(w, n, "spent.json"), *text = mem_printf("{\"labels\": %lld, \"sampled_tokens\": %lld}\n", (long long)(2 * spent->pairs * w->n_judge), (long long)spent->tokens);
    int rc = file_replace(path, text, strlen(text), err);
    free(text);
    free(path);
    return rc;
}

static int meet(const struct rounds *w, int64_t n, sail_err *err)
{
    struct text_pipeline text;
    struct meeting m[MAX_MEMBERS + 1] = {{0}};
    struct meetings_spent spent;
    char *answers[MAX_MEMBERS + 1], *out = in_round(w, n, "meetings.jsonl");
    const int count = members(w, n);
    for (int i = 0; i < count; i++) {
        const char *path = i && i <= w->n_gallery ? w->gallery[i - 1] : NULL;
        m[i] = (struct meeting){.answers = answers[i] = answers_of(w, i), .fresh = n == 1 || i == count - 1,
                                .same_tokenizer = !path || is_adapter(path) || !strcmp(path, w->config->model) || text_pipeline_same_tokenizer(w->config->model, path)};
    }
    int rc = text_pipeline_open(&text, w->config->model, NULL, 0, w->config, err);
    if (!rc) {
        rc = meetings_write(out, m, count, &text, &spent, err);
        text_pipeline_close(&text);
    }
    if (!rc) rc = write_spent(w, n, &spent, err);
    for (int i = 0; i < count; i++) free(answers[i]);
    free(out);
    return rc;
}

static char *of_judge(const struct rounds *w, int64_t n, int k, const char *name)
{
    return mem_printf("%s/%lld/reward-%d%s%s", w->folder, (long long)n, k + 1, *name ? "/" : "", name);
}

static char *fitted(const struct rounds *w, int64_t n, int k) { return of_judge(w, n, k, w->refit->full ? "run/final" : "model"); }

static int label(const struct rounds *w, int64_t n, int k, const char *out, sail_err *err)
{
    sail_config *c = NULL;
    char *data = in_round(w, n, "meetings.jsonl");
    int rc = command(&c, "label", w->judges.n ? w->judges.of[k].config : w->config, err);
    if (!rc) rc = with(c, err, "prompts", prompts_of(w->config), "data", data, "out", out, NULL);
    if (!rc) rc = job_label(c, err);
    sail_config_free(c);
    free(data);
    return rc;
}

static int append(struct file_writer *out, const char *path, int64_t *bytes, sail_err *err)
{
    char *data;
    size_t len;
    int rc = file_read(path, SIZE_MAX / 2, &data, &len, err);
    if (rc) return rc;
    rc = file_writer_write(out, data, len, err);
    *bytes += (int64_t)len;
    free(data);
    return rc;
}

/* All pairs so far: those of the round before, and the new ones. */
static int gather(const struct rounds *w, int64_t n, int k, const char *path, sail_err *err)
{
    struct file_writer out;
    int64_t bytes = 0;
    char *fresh = of_judge(w, n, k, "new.jsonl"), *before = of_judge(w, n - 1, k, "pairs.jsonl");
    int rc = file_writer_open(&out, path, err);
    if (!rc) {
        if (n > 1) rc = append(&out, before, &bytes, err);
        if (!rc) rc = append(&out, fresh, &bytes, err);
        if (!rc && !bytes) rc = err_set(err, SAIL_FAILED, "%s: the labeler told no two answers of the gallery apart: there is nothing to fit a reward model to", fresh);
        if (!rc) rc = file_writer_commit(&out, err);
        if (rc) file_writer_abandon(&out);
    }
    free(before);
    free(fresh);
    return rc;
}

static int fit(const struct rounds *w, int64_t n, int k, sail_err *err)
{
    char *data = of_judge(w, n, k, "pairs.jsonl"), *out = of_judge(w, n, k, "run"), *saved = of_judge(w, n, k, "run/config.yaml");
    sail_config *c = config_copy(w->refit);
    int rc = c ? with(c, err, "data", data, "out", out, NULL) : err_memory(err, sizeof *c);
    if (!rc) {
        c->resume = path_exists(saved);
        log_note("round %lld: fitting reward model %d of %d", (long long)n, k + 1, w->n_judge);
        rc = job_reward(c, err);
    }
    sail_config_free(c);
    free(saved);
    free(out);
    free(data);
    return rc;
}

/* A fitted adapter becomes a folder of its own, as labelers are opened. */
static int merge(const struct rounds *w, int64_t n, int k, const char *out, sail_err *err)
{
    sail_config *c = NULL;
    char *final = of_judge(w, n, k, "run/final");
    int rc = sail_config_create(&c, "convert", err);
    if (!rc) rc = with(c, err, "model", w->refit->model, "merge", final, "out", out, NULL);
    if (!rc) rc = job_convert(c, err);
    sail_config_free(c);
    free(final);
    return rc;
}

/* The reward model of judge k, from the round's meetings; what is there already stays. */
static int refit(const struct rounds *w, int64_t n, int k, sail_err *err)
{
    char *folder = of_judge(w, n, k, ""), *fresh = of_judge(w, n, k, "new.jsonl"), *pairs = of_judge(w, n, k, "pairs.jsonl"), *final = of_judge(w, n, k, "run/final"), *out = fitted(w, n, k);
    int rc = dir_create(folder, err);
    if (!rc && !path_exists(fresh)) rc = label(w, n, k, fresh, err);
    if (!rc && !path_exists(pairs)) rc = gather(w, n, k, pairs, err);
    if (!rc && !path_exists(final)) rc = fit(w, n, k, err);
    if (!rc && !path_exists(out)) rc = merge(w, n, k, out, err);
    free(out);
    free(final);
    free(pairs);
    free(fresh);
    free(folder);
    return rc;
}

/* The reward models as evaluators, with the weights of those that they learnt from. */
static int write_evaluators(const struct rounds *w, int64_t n, sail_err *err)
{
    json_t *list = json_array();
    for (int k = 0; k < w->judges.n; k++) {
        char *model = fitted(w, n, k);
        json_array_append_new(list, json_pack("{ss sf ss}", "name", w->judges.of[k].name, "weight", w->judges.of[k].weight, "reward_model", model));
        free(model);
    }
    json_t *all = json_pack("{so}", "evaluators", list);
    char *text = all ? json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL, *path = in_round(w, n, "evaluators.yaml");
    int rc = text ? file_replace(path, text, strlen(text), err) : err_memory(err, 0);
    json_decref(all);
    free(text);
    free(path);
    return rc;
}

bool rounds_ready(const struct rounds *w, int64_t n)
{
    char *path = in_round(w, n, "ready");
    const bool ready = path_exists(path);
    free(path);
    return ready;
}

int rounds_keep_policy(const struct rounds *w, const struct run *r, int64_t n, sail_err *err)
{
    if (n == 1) return SAIL_OK;
    char *path = in_round(w, n - 1, "policy");
    int rc = path_exists(path) ? SAIL_OK : policy_save(r, path, err);
    free(path);
    return rc;
}

int rounds_prepare(const struct rounds *w, int64_t n, sail_err *err)
{
    char *folder = mem_printf("%s/%lld", w->folder, (long long)n), *spent = in_round(w, n, "spent.json"), *ready = in_round(w, n, "ready");
    int rc = dir_create(folder, err);
    for (int i = 0; !rc && i < members(w, n); i++) {
        char *answers = answers_of(w, i);
        if (!path_exists(answers)) rc = generate(w, i, answers, err);
        free(answers);
    }
    if (!rc && !path_exists(spent)) rc = meet(w, n, err);
    for (int k = 0; !rc && k < w->n_judge; k++) rc = refit(w, n, k, err);
    if (!rc && w->judges.n) rc = write_evaluators(w, n, err);
    if (!rc) rc = file_replace(ready, "", 0, err);
    free(ready);
    free(spent);
    free(folder);
    if (rc && interrupt_asked()) return err_set(err, SAIL_FAILED, "interrupted while round %lld was prepared: what is done stays; go on with `sail align --out %s --resume`", (long long)n, w->config->out);
    return rc ? err_context(err, "round %lld", (long long)n) : SAIL_OK;
}

static int add_spent(const struct rounds *w, struct run *r, int64_t n, sail_err *err)
{
    json_int_t labels, tokens;
    char *path = in_round(w, n, "spent.json");
    json_t *j = json_load_file(path, 0, NULL);
    int rc = json_unpack(j, "{sI sI}", "labels", &labels, "sampled_tokens", &tokens) ? err_set(err, SAIL_FAILED, "%s: expected labels and sampled_tokens", path) : SAIL_OK;
    if (!rc) r->counts.labels += labels;
    if (!rc) r->counts.sampled_tokens += tokens;
    json_decref(j);
    free(path);
    return rc;
}

int rounds_enter(const struct rounds *w, struct run *r, int64_t n, sail_err *err)
{
#define ID(option) OPTION_##option,
    static const enum option_id labelers[] = {REWARDER_OPTIONS(ID) OPTION_reward_sign};
#undef ID
    sail_config *c = config_copy(w->config);
    if (!c) return err_memory(err, sizeof *c);
    for (size_t i = 0; i < sizeof labelers / sizeof *labelers; i++) config_reset(c, labelers[i]);
    char *path = w->judges.n ? in_round(w, n, "evaluators.yaml") : fitted(w, n, 0);
    int rc = sail_config_set(c, w->judges.n ? "evaluators" : "reward_model", path, err);
    if (!rc) rc = run_label_by(r, c, err);
    if (!rc && r->step == (n - 1) * w->steps) rc = add_spent(w, r, n, err); // later checkpoints have it
    free(path);
    sail_config_free(c);
    return rc;
}
