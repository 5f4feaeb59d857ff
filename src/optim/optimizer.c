/* One update of every parameter. Arithmetic is double, storage f32; elements are independent, so threads do not change a bit. */
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/mem.h"

enum { MAX_SLOTS = 3 };

/* State arrays of a kind, by torch's names. Adafactor's second moment of a matrix is its row and column means. */
struct slot {
    const char *name;
    float *data;
    int64_t n;
};
struct optimizer {
    struct optimizer_options options;
    struct slot (*slot)[MAX_SLOTS]; /* (n) */
    int64_t n, steps;
    struct arena state;
};

void optimizer_defaults(struct optimizer_options *o, enum optimizer_kind kind)
{
    *o = (struct optimizer_options){.kind = kind, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .alpha = 0.99};
    if (kind == OPTIM_ADAMW) o->weight_decay = 0.01;
    if (kind != OPTIM_ADAFACTOR && kind != OPTIM_TORCH_ADAFACTOR) return;
    o->beta1 = -1;
    o->clip_threshold = 1;
    o->decay_rate = -0.8;
    o->eps1 = kind == OPTIM_ADAFACTOR ? 1e-30 : 0x1p-23;
    o->eps2 = 1e-3;
}

int optimizer_kind_find(enum optimizer_kind *out, const char *name, sail_err *err)
{
    static const char *const names[] = {"adamw", "rmsprop", "sgd", "adafactor", "torch-adafactor"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(name, names[i])) return *out = (enum optimizer_kind)i, SAIL_OK;
    return err_set(err, SAIL_USAGE, "--optimizer: expected adamw, rmsprop, sgd, adafactor or torch-adafactor, got '%s'", name);
}

static void add_slot(struct optimizer *o, int64_t i, const char *name, int64_t n)
{
    int k = 0;
    while (o->slot[i][k].name) k++;
    o->slot[i][k] = (struct slot){.name = name, .n = n};
}

static void add_slots(struct optimizer *o, int64_t i, const struct optim_param *p)
{
    const struct optimizer_options *q = &o->options;
    const int64_t rows = p->n_dim > 1 ? p->n / p->dim[p->n_dim - 1] : 0;
    switch (q->kind) {
    case OPTIM_ADAMW:
        add_slot(o, i, "exp_avg", p->n);
        add_slot(o, i, "exp_avg_sq", p->n);
        if (q->amsgrad) add_slot(o, i, "max_exp_avg_sq", p->n);
        return;
    case OPTIM_RMSPROP:
        add_slot(o, i, "square_avg", p->n);
        if (q->momentum > 0) add_slot(o, i, "momentum_buffer", p->n);
        if (q->centered) add_slot(o, i, "grad_avg", p->n);
        return;
    case OPTIM_SGD:
        if (q->momentum > 0) add_slot(o, i, "momentum_buffer", p->n);
        return;
    case OPTIM_ADAFACTOR:
    case OPTIM_TORCH_ADAFACTOR:
        add_slot(o, i, rows ? "exp_avg_sq_row" : "exp_avg_sq", rows ? rows : p->n);
        if (rows) add_slot(o, i, "exp_avg_sq_col", p->dim[p->n_dim - 1]);
        if (q->beta1 >= 0) add_slot(o, i, "exp_avg", p->n);
        return;
    }
}

/* Every array from one arena, whose fresh pages are zero. */
static int place_slots(struct optimizer *o, sail_err *err)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++) bytes += arena_room((size_t)o->slot[i][k].n * sizeof(float));
    const int rc = bytes ? arena_init(&o->state, bytes, err) : SAIL_OK;
    for (int64_t i = 0; !rc && i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++)
            if (o->slot[i][k].name) o->slot[i][k].data = arena_take(&o->state, (size_t)o->slot[i][k].n * sizeof(float));
    return rc;
}

int optimizer_create(struct optimizer **out, const struct optimizer_options *options, const struct optim_param *p, int64_t n, sail_err *err)
{
    struct optimizer *o;
    *out = NULL;
    int rc = mem_alloc(&o, 1, sizeof *o, err);
    if (rc) return rc;
    o->options = *options;
    o->n = n;
    rc = mem_alloc(&o->slot, (size_t)n, sizeof *o->slot, err);
    for (int64_t i = 0; !rc && i < n; i++) add_slots(o, i, &p[i]);
    if (!rc) rc = place_slots(o, err);
    if (rc)
        optimizer_free(o);
    else
        *out = o;
    return rc;
}

void optimizer_free(struct optimizer *o)
{
    if (!o) return;
    arena_release(&o->state);
    free(o->slot);
    free(o);
}

double optimizer_grad_norm(const struct optim_param *p, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += ops->square_sum(p[i].grad, p[i].n);
    return sqrt(total);
}

double optimizer_clip_scale(double norm, double max_norm) { return fmin(1, max_norm / (norm + 1e-6)); }

static double decay_of(const struct optimizer_options *q, const struct optim_param *p) { return p->decay ? q->weight_decay : 0; }

/* What an update works on. */
struct update {
    const struct optimizer *o;
    const struct optim_param *p;
    struct slot *slot;
    double lr, scale; /* scale: of the gradients */
};

/* The gradient as it is clipped; it is left zero. */
static double take_grad(const struct update *t, int64_t k)
{
    const double g = (float)(t->p->grad[k] * t->scale);
    t->p->grad[k] = 0;
    return g;
}

/* AdamW (1711.05101), torch's order: decay the weight, update the moments, step. */
static void adamw(const struct update *t)
{
    const struct optimizer_options *q = &t->o->options;
    const double steps = (double)t->o->steps;
    const struct adamw_step step = {.beta1 = q->beta1, .beta2 = q->beta2, .eps = q->eps, .scale = t->scale, .decay = 1 - t->lr * decay_of(q, t->p),
                                    .rate = t->lr / (1 - pow(q->beta1, steps)), .root = sqrt(1 - pow(q->beta2, steps))};
    ops->adamw(t->p->value, t->slot[0].data, t->slot[1].data, t->slot[2].data, t->p->grad, t->p->n, &step);
}

/* torch.RMSprop: eps is added after the root; weight decay goes into the gradient. */
static void rmsprop(const struct update *t)
{
    const struct optimizer_options *q = &t->o->options;
    const struct optim_param *p = t->p;
    const struct slot *s = t->slot;
    float *v = s[0].data, *buffer = q->momentum > 0 ? s[1].data : NULL, *mean = q->centered ? s[q->momentum > 0 ? 2 : 1].data : NULL;
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t k = 0; k < p->n; k++) {
        const double g = take_grad(t, k) + decay_of(q, p) * p->value[k], vk = q->alpha * v[k] + (1 - q->alpha) * g * g;
        double around = 0;
        v[k] = (float)vk;
        if (mean) {
            around = q->alpha * mean[k] + (1 - q->alpha) * g;
            mean[k] = (float)around;
        }
        double step = g / (sqrt(vk - around * around) + q->eps);
        if (buffer) {
            step += q->momentum * buffer[k];
            buffer[k] = (float)step;
        }
        p->value[k] = (float)(p->value[k] - t->lr * step);
    }
}

static void sgd(const struct update *t)
{
    const struct optimizer_options *q = &t->o->options;
    const struct optim_param *p = t->p;
    float *buffer = q->momentum > 0 ? t->slot[0].data : NULL;
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t k = 0; k < p->n; k++) {
        double g = take_grad(t, k) + decay_of(q, p) * p->value[k];
        if (buffer) {
            const double b = t->o->steps == 1 ? g : q->momentum * buffer[k] + g;
            buffer[k] = (float)b;
            g = q->nesterov ? g + q->momentum * b : b;
        }
        p->value[k] = (float)(p->value[k] - t->lr * g);
    }
}

/* For updates that are built in the gradient's place. */
static float *scaled_grad(const struct update *t)
{
    for (int64_t k = 0; k < t->p->n; k++) t->p->grad[k] = (float)(t->p->grad[k] * t->scale);
    return t->p->grad;
}

static double rms(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += (double)x[k] * x[k];
    return sqrt(sum / (double)n);
}

/* Adafactor (1804.04235) as transformers has it: factored second moment, update clipped by its RMS. The update is built in the gradient's place. */
static void adafactor(const struct update *t)
{
    const struct optimizer_options *q = &t->o->options;
    const struct optimizer *o = t->o;
    const struct optim_param *p = t->p;
    const struct slot *s = t->slot;
    double lr = t->lr;
    const double b2 = 1 - pow((double)o->steps, q->decay_rate);
    const int64_t columns = p->n_dim > 1 ? p->dim[p->n_dim - 1] : p->n, rows = p->n / columns;
    const bool factored = p->n_dim > 1;
    if (q->relative_step) lr = fmin(q->warmup_init ? 1e-6 * (double)o->steps : 1e-2, 1 / sqrt((double)o->steps));
    if (q->scale_parameter) lr *= fmax(q->eps2, rms(p->value, p->n));
    float *u = scaled_grad(t);
    if (factored) {
        float *row = s[0].data, *column = s[1].data;
        double row_mean = 0;
        for (int64_t r = 0; r < rows; r++) {
            double sum = 0;
            for (int64_t c = 0; c < columns; c++) sum += (double)u[r * columns + c] * u[r * columns + c] + q->eps1;
            row[r] = (float)(b2 * row[r] + (1 - b2) * sum / (double)columns);
            row_mean += row[r] / (double)rows;
        }
        for (int64_t c = 0; c < columns; c++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++) sum += (double)u[r * columns + c] * u[r * columns + c] + q->eps1;
            column[c] = (float)(b2 * column[c] + (1 - b2) * sum / (double)rows);
        }
        for (int64_t k = 0; k < p->n; k++) u[k] = (float)(u[k] / sqrt(row[k / columns] / row_mean) / sqrt(column[k % columns]));
    } else {
        float *v = s[0].data;
        for (int64_t k = 0; k < p->n; k++) {
            v[k] = (float)(b2 * v[k] + (1 - b2) * ((double)u[k] * u[k] + q->eps1));
            u[k] = (float)(u[k] / sqrt(v[k]));
        }
    }
    const double clip = fmax(1, rms(u, p->n) / q->clip_threshold);
    float *m = q->beta1 >= 0 ? s[factored ? 2 : 1].data : NULL;
    const double decay = 1 - lr * decay_of(q, p);
    for (int64_t k = 0; k < p->n; k++) {
        double step = lr * u[k] / clip;
        if (m) {
            step = q->beta1 * m[k] + (1 - q->beta1) * step;
            m[k] = (float)step;
        }
        p->value[k] = (float)(p->value[k] * decay - step);
        u[k] = 0;
    }
}

/* Adafactor as torch has it: the step is min(lr, 1/sqrt(t)) max(eps2, RMS(p)), eps1 a floor under the second moment's root, and lr alone decays. */
static void torch_adafactor(const struct update *t)
{
    const struct optimizer_options *q = &t->o->options;
    const struct optim_param *p = t->p;
    const struct slot *s = t->slot;
    const double steps = (double)t->o->steps, lr = t->lr, fresh = pow(steps, q->decay_rate), step = fmax(q->eps2, rms(p->value, p->n)) * fmin(lr, 1 / sqrt(steps)), floor2 = q->eps1 * q->eps1;
    const double decay = 1 - lr * decay_of(q, p);
    const int64_t columns = p->n_dim > 1 ? p->dim[p->n_dim - 1] : p->n, rows = p->n / columns;
    float *u = scaled_grad(t), *row = s[0].data, *column = s[1].data;
    if (p->n_dim > 1) {
        double row_mean = 0;
        for (int64_t r = 0; r < rows; r++) {
            const double mean = rms(u + r * columns, columns);
            row[r] = (float)(row[r] + fresh * (mean * mean - row[r]));
            row_mean += row[r] / (double)rows;
        }
        for (int64_t c = 0; c < columns; c++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++) sum += (double)u[r * columns + c] * u[r * columns + c];
            column[c] = (float)(column[c] + fresh * (sum / (double)rows - column[c]));
        }
        for (int64_t k = 0; k < p->n; k++) u[k] = (float)(u[k] / sqrt(fmax(floor2, (double)row[k / columns] * column[k % columns] / fmax(q->eps1, row_mean))));
    } else {
        for (int64_t k = 0; k < p->n; k++) {
            row[k] = (float)(row[k] + fresh * ((double)u[k] * u[k] - row[k]));
            u[k] = (float)(u[k] / sqrt(fmax(floor2, row[k])));
        }
    }
    const double clip = fmax(1, rms(u, p->n) / q->clip_threshold);
    for (int64_t k = 0; k < p->n; k++) {
        p->value[k] = (float)(p->value[k] * decay - step / clip * u[k]);
        u[k] = 0;
    }
}

void optimizer_step(struct optimizer *o, const struct optim_param *p, int64_t n, double lr, double scale)
{
    static void (*const update[])(const struct update *) = {adamw, rmsprop, sgd, adafactor, torch_adafactor};
    BUG_ON(n != o->n, "optimizer of %lld parameters got %lld", (long long)o->n, (long long)n);
    o->steps++;
    for (int64_t i = 0; i < n; i++) update[o->options.kind](&(struct update){o, &p[i], o->slot[i], lr, scale});
}

int64_t optimizer_state_count(const struct optimizer *o)
{
    int64_t count = 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++) count += o->slot[i][k].name != NULL;
    return count;
}

int64_t optimizer_state_values(const struct optimizer *o)
{
    int64_t count = 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++)
            if (o->slot[i][k].name) count += o->slot[i][k].n;
    return count;
}

void optimizer_state_at(const struct optimizer *o, int64_t at, char name[64], float **data, int64_t *n)
{
    for (int64_t i = 0; i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++) {
            if (!o->slot[i][k].name || at--) continue;
            snprintf(name, 64, "%s.%lld", o->slot[i][k].name, (long long)i);
            *data = o->slot[i][k].data;
            *n = o->slot[i][k].n;
            return;
        }
    BUG_ON(1, "optimizer state out of range");
}

int64_t optimizer_steps(const struct optimizer *o) { return o->steps; }
void optimizer_set_steps(struct optimizer *o, int64_t steps) { o->steps = steps; }
