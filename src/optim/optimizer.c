/* One update of every parameter. Arithmetic is double, storage f32; elements are independent, so threads do not change a bit. */
#include "optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { MAX_SLOTS = 3, BLOCK = 4096 };

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

static int add_slot(struct optimizer *o, int64_t i, const char *name, int64_t n, sail_err *err)
{
    int k = 0;
    while (o->slot[i][k].name) k++;
    o->slot[i][k] = (struct slot){.name = name, .n = n};
    return mem_alloc(&o->slot[i][k].data, (size_t)n, sizeof(float), err);
}

static int add_slots(struct optimizer *o, int64_t i, const struct optim_param *p, sail_err *err)
{
    const struct optimizer_options *q = &o->options;
    const int64_t rows = p->n_dim > 1 ? p->n / p->dim[p->n_dim - 1] : 0;
    int rc = SAIL_OK;
    switch (q->kind) {
    case OPTIM_ADAMW:
        rc = add_slot(o, i, "exp_avg", p->n, err);
        if (!rc) rc = add_slot(o, i, "exp_avg_sq", p->n, err);
        return rc || !q->amsgrad ? rc : add_slot(o, i, "max_exp_avg_sq", p->n, err);
    case OPTIM_RMSPROP:
        rc = add_slot(o, i, "square_avg", p->n, err);
        if (!rc && q->momentum > 0) rc = add_slot(o, i, "momentum_buffer", p->n, err);
        if (!rc && q->centered) rc = add_slot(o, i, "grad_avg", p->n, err);
        return rc;
    case OPTIM_SGD: return q->momentum > 0 ? add_slot(o, i, "momentum_buffer", p->n, err) : SAIL_OK;
    case OPTIM_ADAFACTOR:
    case OPTIM_TORCH_ADAFACTOR:
        rc = rows ? add_slot(o, i, "exp_avg_sq_row", rows, err) : add_slot(o, i, "exp_avg_sq", p->n, err);
        if (!rc && rows) rc = add_slot(o, i, "exp_avg_sq_col", p->dim[p->n_dim - 1], err);
        if (!rc && q->beta1 >= 0) rc = add_slot(o, i, "exp_avg", p->n, err);
        return rc;
    }
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
    for (int64_t i = 0; !rc && i < n; i++) rc = add_slots(o, i, &p[i], err);
    if (rc)
        optimizer_free(o);
    else
        *out = o;
    return rc;
}

void optimizer_free(struct optimizer *o)
{
    if (!o) return;
    for (int64_t i = 0; o->slot && i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++) free(o->slot[i][k].data);
    free(o->slot);
    free(o);
}

/* Sums of fixed blocks, added in order: the same bits for any number of threads. */
double optimizer_grad_norm(const struct optim_param *p, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t blocks = (p[i].n + BLOCK - 1) / BLOCK;
        double part[256];
        for (int64_t from = 0; from < blocks; from += 256) {
            const int64_t count = blocks - from < 256 ? blocks - from : 256;
#pragma omp parallel for schedule(static)
            for (int64_t b = 0; b < count; b++) {
                const int64_t start = (from + b) * BLOCK, end = start + BLOCK < p[i].n ? start + BLOCK : p[i].n;
                double sum = 0;
                for (int64_t k = start; k < end; k++) sum += (double)p[i].grad[k] * p[i].grad[k];
                part[b] = sum;
            }
            for (int64_t b = 0; b < count; b++) total += part[b];
        }
    }
    return sqrt(total);
}

void optimizer_clip(const struct optim_param *p, int64_t n, double norm, double max_norm)
{
    const double factor = max_norm / (norm + 1e-6);
    if (!(factor < 1)) return;
    for (int64_t i = 0; i < n; i++) {
#pragma omp parallel for schedule(static)
        for (int64_t k = 0; k < p[i].n; k++) p[i].grad[k] = (float)(p[i].grad[k] * factor);
    }
}

static double decay_of(const struct optimizer_options *q, const struct optim_param *p) { return p->decay ? q->weight_decay : 0; }

/* AdamW (1711.05101), torch's order: decay the weight, update the moments, step. */
static void adamw(const struct optimizer *o, const struct optim_param *p, struct slot *s, double lr)
{
    const struct optimizer_options *q = &o->options;
    const double c1 = 1 - pow(q->beta1, (double)o->steps), c2 = sqrt(1 - pow(q->beta2, (double)o->steps)), decay = 1 - lr * decay_of(q, p);
    float *m = s[0].data, *v = s[1].data, *most = s[2].data; // most: amsgrad only
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < p->n; k++) {
        const double g = p->grad[k], mk = q->beta1 * m[k] + (1 - q->beta1) * g, vk = q->beta2 * v[k] + (1 - q->beta2) * g * g;
        m[k] = (float)mk;
        v[k] = (float)vk;
        if (most && vk > most[k]) most[k] = (float)vk;
        const double under = most ? most[k] : vk;
        p->value[k] = (float)(p->value[k] * decay - lr / c1 * mk / (sqrt(under) / c2 + q->eps));
    }
}

/* torch.RMSprop: eps is added after the root; weight decay goes into the gradient. */
static void rmsprop(const struct optimizer *o, const struct optim_param *p, struct slot *s, double lr)
{
    const struct optimizer_options *q = &o->options;
    float *v = s[0].data, *buffer = q->momentum > 0 ? s[1].data : NULL, *mean = q->centered ? s[q->momentum > 0 ? 2 : 1].data : NULL;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < p->n; k++) {
        const double g = p->grad[k] + decay_of(q, p) * p->value[k], vk = q->alpha * v[k] + (1 - q->alpha) * g * g;
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
        p->value[k] = (float)(p->value[k] - lr * step);
    }
}

static void sgd(const struct optimizer *o, const struct optim_param *p, struct slot *s, double lr)
{
    const struct optimizer_options *q = &o->options;
    float *buffer = q->momentum > 0 ? s[0].data : NULL;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < p->n; k++) {
        double g = p->grad[k] + decay_of(q, p) * p->value[k];
        if (buffer) {
            const double b = o->steps == 1 ? g : q->momentum * buffer[k] + g;
            buffer[k] = (float)b;
            g = q->nesterov ? g + q->momentum * b : b;
        }
        p->value[k] = (float)(p->value[k] - lr * g);
    }
}

static double rms(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += (double)x[k] * x[k];
    return sqrt(sum / (double)n);
}

/* Adafactor (1804.04235) as transformers has it: factored second moment, update clipped by its RMS. The update is built in the gradient's place. */
static void adafactor(const struct optimizer *o, const struct optim_param *p, struct slot *s, double lr)
{
    const struct optimizer_options *q = &o->options;
    const double b2 = 1 - pow((double)o->steps, q->decay_rate);
    const int64_t columns = p->n_dim > 1 ? p->dim[p->n_dim - 1] : p->n, rows = p->n / columns;
    const bool factored = p->n_dim > 1;
    if (q->relative_step) lr = fmin(q->warmup_init ? 1e-6 * (double)o->steps : 1e-2, 1 / sqrt((double)o->steps));
    if (q->scale_parameter) lr *= fmax(q->eps2, rms(p->value, p->n));
    float *u = p->grad;
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
    }
}

/* Adafactor as torch has it: the step is min(lr, 1/sqrt(t)) max(eps2, RMS(p)), eps1 a floor under the second moment's root, and lr alone decays. */
static void torch_adafactor(const struct optimizer *o, const struct optim_param *p, struct slot *s, double lr)
{
    const struct optimizer_options *q = &o->options;
    const double t = (double)o->steps, fresh = pow(t, q->decay_rate), step = fmax(q->eps2, rms(p->value, p->n)) * fmin(lr, 1 / sqrt(t)), floor2 = q->eps1 * q->eps1;
    const double decay = 1 - lr * decay_of(q, p);
    const int64_t columns = p->n_dim > 1 ? p->dim[p->n_dim - 1] : p->n, rows = p->n / columns;
    float *u = p->grad, *row = s[0].data, *column = s[1].data;
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
    for (int64_t k = 0; k < p->n; k++) p->value[k] = (float)(p->value[k] * decay - step / clip * u[k]);
}

void optimizer_step(struct optimizer *o, const struct optim_param *p, int64_t n, double lr)
{
    static void (*const update[])(const struct optimizer *, const struct optim_param *, struct slot *, double) = {adamw, rmsprop, sgd, adafactor, torch_adafactor};
    BUG_ON(n != o->n, "optimizer of %lld parameters got %lld", (long long)o->n, (long long)n);
    o->steps++;
    for (int64_t i = 0; i < n; i++) update[o->options.kind](o, &p[i], o->slot[i], lr);
}

int64_t optimizer_state_count(const struct optimizer *o)
{
    int64_t count = 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int k = 0; k < MAX_SLOTS; k++) count += o->slot[i][k].name != NULL;
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
