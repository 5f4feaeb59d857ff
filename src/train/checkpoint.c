/* Checkpoints: OUT/checkpoints/step-N/{params.safetensors, optimizer.safetensors, reference.safetensors, replay.safetensors, archive.safetensors, two_level.safetensors, state.json}, a folder that appears
 * whole or not at all. Random numbers have no state: the step's number is enough. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "io/safetensors.h"
#include "train/run.h"

static struct tensor vector_f32(const char *name, float *data, int64_t n)
{
    return (struct tensor){.name = name, .dtype = DTYPE_F32, .n_dim = 1, .dim = {n}, .data = data};
}

static int write_file(const char *folder, const char *name, const struct tensor *t, int64_t n, sail_err *err)
{
    char *path = path_join(folder, name);
    int rc = safetensors_write(path, t, n, NULL, 0, err);
    free(path);
    return rc;
}

static int write_params(const struct run *r, const char *folder, sail_err *err)
{
    struct tensor *t;
    if (mem_alloc(&t, (size_t)r->n_param, sizeof *t, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < r->n_param; i++) t[i] = vector_f32(r->param[i].name, r->param[i].value, r->param[i].n);
    int rc = write_file(folder, "params.safetensors", t, r->n_param, err);
    free(t);
    return rc;
}

static int write_optimizer(const struct run *r, const char *folder, sail_err *err)
{
    const int64_t n = optimizer_state_count(r->optimizer);
    struct tensor *t = NULL;
    char(*name)[64] = NULL;
    int rc = mem_alloc(&t, (size_t)n, sizeof *t, err);
    if (!rc) rc = mem_alloc(&name, (size_t)n, sizeof *name, err);
    for (int64_t i = 0; !rc && i < n; i++) {
        float *data;
        int64_t count;
        optimizer_state_at(r->optimizer, i, name[i], &data, &count);
        t[i] = vector_f32(name[i], data, count);
    }
    if (!rc) rc = write_file(folder, "optimizer.safetensors", t, n, err);
    free(t);
    free(name);
    return rc;
}

static int write_replay(const struct run *r, const char *folder, sail_err *err)
{
    const int64_t n = replay_size(r);
    double *packed;
    if (!n) return SAIL_OK;
    if (mem_alloc(&packed, (size_t)n, sizeof *packed, err)) return SAIL_FAILED;
    replay_pack(r, packed);
    const struct tensor t = {.name = "answers", .dtype = DTYPE_F64, .n_dim = 1, .dim = {n}, .data = packed};
    int rc = write_file(folder, "replay.safetensors", &t, 1, err);
    free(packed);
    return rc;
}

/* The adapter of a moving reference as one more policy: its parameters, *n of them (0: the reference stays). */
static struct param *moving_reference(const struct run *r, int64_t *n)
{
    struct param *p = NULL;
    *n = r->reference_rule->moves ? policy_params(r->reference, &p) : 0;
    return p;
}

static int write_reference(const struct run *r, const char *folder, sail_err *err)
{
    struct tensor *t;
    int64_t n = 0, n_moving;
    const struct param *p = moving_reference(r, &n_moving);
    if (mem_alloc(&t, 2 + (size_t)n_moving, sizeof *t, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < n_moving; i++) t[n++] = vector_f32(p[i].name, p[i].value, p[i].n);
    if (r->cache.logp) t[n++] = (struct tensor){.name = "data", .dtype = DTYPE_F64, .n_dim = 1, .dim = {2 * r->cache.n}, .data = r->cache.logp};
    if (r->eval_cache.logp) t[n++] = (struct tensor){.name = "eval", .dtype = DTYPE_F64, .n_dim = 1, .dim = {2 * r->eval_cache.n}, .data = r->eval_cache.logp};
    int rc = write_file(folder, "reference.safetensors", t, n, err);
    free(t);
    return rc;
}

static int write_state(const struct run *r, const char *folder, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "{\"step\": %lld, \"optimizer_steps\": %lld, \"trained_tokens\": %lld, \"sampled_tokens\": %lld, \"labels\": %lld, \"ties\": %lld, \"unlabelled\": %lld, \"shift_n\": %lld, \"shift_mean\": ",
               (long long)r->step, (long long)optimizer_steps(r->optimizer), (long long)r->counts.trained_tokens, (long long)r->counts.sampled_tokens,
               (long long)r->counts.labels, (long long)r->counts.ties, (long long)r->counts.unlabelled, (long long)r->shift.n);
    buf_json_double(&b, r->shift.mean);
    buf_puts(&b, ", \"best\": ");
    buf_json_double(&b, r->best);
    buf_puts(&b, "}\n");
    char *path = path_join(folder, "state.json");
    int rc = b.failed ? err_memory(err, b.len) : file_replace(path, b.data, b.len, err);
    free(path);
    buf_release(&b);
    return rc;
}

/* Steps of the complete checkpoints of a run, ascending; *n of them; free() the list. */
static int list_steps(const char *folder, int64_t **steps, size_t *n, sail_err *err)
{
    *steps = NULL;
    *n = 0;
    size_t capacity = 0;
    DIR *d = opendir(folder);
    if (!d) return SAIL_OK;
    int rc = SAIL_OK;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, "step-", 5)) continue;
        long long step = strtoll(e->d_name + 5, &end, 10);
        if (*end || end == e->d_name + 5) continue; // a temporary of a save that never finished
        if (!(rc = mem_grow(steps, *n, &capacity, sizeof **steps, err))) (*steps)[(*n)++] = step;
    }
    closedir(d);
    for (size_t i = 1; i < *n; i++) // few: insertion sort
        for (size_t j = i; j > 0 && (*steps)[j - 1] > (*steps)[j]; j--) {
            int64_t t = (*steps)[j];
            (*steps)[j] = (*steps)[j - 1];
            (*steps)[j - 1] = t;
        }
    return rc;
}

static void drop_old(const char *folder, int64_t keep)
{
    int64_t *steps;
    size_t n;
    if (list_steps(folder, &steps, &n, NULL) == SAIL_OK)
        for (size_t i = 0; i + (size_t)keep < n; i++) {
            char *path = mem_printf("%s/step-%lld", folder, (long long)steps[i]);
            sail_err err = {0};
            if (dir_remove(path, &err)) log_warning("an old checkpoint stays: %s", err.message);
            free(path);
        }
    free(steps);
}

int checkpoint_save(struct run *r, sail_err *err)
{
    char *folder = path_join(r->config->out, "checkpoints");
    char *path = mem_printf("%s/step-%lld", folder, (long long)r->step);
    struct dir_writer w = {0};
    int rc = dir_create(folder, err);
    if (!rc && r->writer) rc = run_writer_sync(r->writer, err);
    if (!rc) rc = dir_writer_open(&w, path, err);
    if (!rc) {
        rc = write_params(r, w.temporary, err);
        if (!rc) rc = write_optimizer(r, w.temporary, err);
        if (!rc) rc = write_reference(r, w.temporary, err);
        if (!rc) rc = write_replay(r, w.temporary, err);
        if (!rc && r->archive) rc = archive_write(r, w.temporary, err);
        if (!rc && r->two_level) rc = two_level_write(r, w.temporary, err);
        if (!rc) rc = write_state(r, w.temporary, err);
        if (!rc)
            rc = dir_writer_commit(&w, err);
        else
            dir_writer_abandon(&w);
    }
    if (!rc) drop_old(folder, r->config->keep_checkpoints);
    free(path);
    free(folder);
    return rc ? err_context(err, "checkpoint of step %lld", (long long)r->step) : SAIL_OK;
}

/* Copies a stored f32 or f64 vector of exactly n values. */
static int read_vector(const struct safetensors *s, const char *name, void *out, enum dtype dtype, int64_t n, sail_err *err)
{
    const struct tensor *t = safetensors_find(s, name);
    if (!t || t->dtype != dtype || tensor_count(t) != n)
        return err_set(err, SAIL_FAILED, "%s: '%s': expected %lld values of %s, got %s", s->path, name, (long long)n, dtype_name(dtype), t ? "another shape or type" : "none");
    memcpy(out, t->data, (size_t)n * dtype_size(dtype));
    return SAIL_OK;
}

static int open_file(struct safetensors *s, const char *folder, const char *name, sail_err *err)
{
    char *path = path_join(folder, name);
    int rc = safetensors_open(s, path, err);
    free(path);
    return rc;
}

static int read_params(struct run *r, const char *folder, sail_err *err)
{
    struct safetensors s;
    int rc = open_file(&s, folder, "params.safetensors", err);
    if (rc) return rc;
    for (int64_t i = 0; !rc && i < r->n_param; i++) rc = read_vector(&s, r->param[i].name, r->param[i].value, DTYPE_F32, r->param[i].n, err);
    if (!rc && s.n != r->n_param)
        rc = err_set(err, SAIL_FAILED, "%s: expected %lld parameters, got %lld", s.path, (long long)r->n_param, (long long)s.n);
    safetensors_close(&s);
    return rc;
}

static int read_optimizer(struct run *r, const char *folder, sail_err *err)
{
    struct safetensors s;
    int rc = open_file(&s, folder, "optimizer.safetensors", err);
    if (rc) return rc;
    for (int64_t i = 0; !rc && i < optimizer_state_count(r->optimizer); i++) {
        char name[64];
        float *data;
        int64_t n;
        optimizer_state_at(r->optimizer, i, name, &data, &n);
        rc = read_vector(&s, name, data, DTYPE_F32, n, err);
    }
    safetensors_close(&s);
    return rc;
}

static int read_reference(struct run *r, const char *folder, sail_err *err)
{
    struct safetensors s;
    int rc = open_file(&s, folder, "reference.safetensors", err);
    if (rc) return rc;
    if (r->cache.logp) rc = read_vector(&s, "data", r->cache.logp, DTYPE_F64, 2 * r->cache.n, err);
    if (!rc && r->eval_cache.logp) rc = read_vector(&s, "eval", r->eval_cache.logp, DTYPE_F64, 2 * r->eval_cache.n, err);
    int64_t n;
    const struct param *p = moving_reference(r, &n);
    for (int64_t i = 0; !rc && i < n; i++) rc = read_vector(&s, p[i].name, p[i].value, DTYPE_F32, p[i].n, err);
    if (!rc && n) policy_params_changed(r->reference);
    safetensors_close(&s);
    return rc;
}

static int read_replay(struct run *r, const char *folder, sail_err *err)
{
    const int64_t n = replay_size(r);
    struct safetensors s;
    double *packed = NULL;
    if (!n) return SAIL_OK;
    int rc = open_file(&s, folder, "replay.safetensors", err);
    if (rc) return rc;
    rc = mem_alloc(&packed, (size_t)n, sizeof *packed, err);
    if (!rc) rc = read_vector(&s, "answers", packed, DTYPE_F64, n, err);
    if (!rc) rc = replay_unpack(r, packed, err);
    free(packed);
    safetensors_close(&s);
    return rc;
}

static int read_state(struct run *r, const char *folder, sail_err *err)
{
    char *path = path_join(folder, "state.json");
    json_error_t why;
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    long long step, optimizer, trained, sampled, labels, ties, unlabelled;
    double shift_mean = 0, shift_n = 0;
    json_t *best;
    int rc = SAIL_OK;
    if (!j || json_unpack(j, "{sI sI sI sI sI sI sI so s?F s?F}", "step", &step, "optimizer_steps", &optimizer, "trained_tokens", &trained, "sampled_tokens", &sampled,
                          "labels", &labels, "ties", &ties, "unlabelled", &unlabelled, "best", &best, "shift_mean", &shift_mean, "shift_n", &shift_n))
        rc = err_set(err, SAIL_FAILED, "%s: not a checkpoint's state: %s", path, j ? "keys are missing" : why.text);
    if (!rc) {
        r->step = step;
        optimizer_set_steps(r->optimizer, optimizer);
        r->counts = (struct run_counts){trained, sampled, labels, ties, unlabelled};
        r->shift = (struct running_mean){shift_mean, shift_n};
        r->best = json_is_null(best) ? INFINITY : json_number_value(best);
    }
    json_decref(j);
    free(path);
    return rc;
}

int64_t checkpoint_newest(const struct run *r)
{
    char *folder = r->config->out ? path_join(r->config->out, "checkpoints") : NULL;
    int64_t *steps = NULL;
    size_t n = 0;
    const bool found = folder && !list_steps(folder, &steps, &n, NULL) && n > 0;
    const int64_t newest = found ? steps[n - 1] : -1;
    free(steps);
    free(folder);
    return newest;
}

int checkpoint_load_newest(struct run *r, bool *found, sail_err *err)
{
    char *folder = path_join(r->config->out, "checkpoints");
    int64_t *steps;
    size_t n;
    int rc = list_steps(folder, &steps, &n, err);
    *found = !rc && n > 0;
    if (*found) {
        char *path = mem_printf("%s/step-%lld", folder, (long long)steps[n - 1]);
        rc = read_params(r, path, err);
        if (!rc) rc = read_optimizer(r, path, err);
        if (!rc) rc = read_reference(r, path, err);
        if (!rc) rc = read_replay(r, path, err);
        if (!rc && r->archive) rc = archive_read(r, path, err);
        if (!rc && r->two_level) rc = two_level_read(r, path, err);
        if (!rc) rc = read_state(r, path, err);
        if (!rc && r->two_level) two_level_resume(r);
        if (!rc) policy_params_changed(r->policy);
        free(path);
    }
    free(steps);
    free(folder);
    return rc ? err_context(err, "--resume") : SAIL_OK;
}

int policy_save(const struct run *r, const char *path, sail_err *err)
{
    return r->adapter ? adapter_save(r->adapter, path, err) : model_save(r->policy, path, &(struct save_options){.dtype = SAVE_AS_IS}, err);
}

int final_save(struct run *r, sail_err *err)
{
    char *path = path_join(r->config->out, "final");
    int rc = policy_save(r, path, err);
    free(path);
    return !rc && r->two_level ? two_level_save(r, err) : rc;
}
