/* Optimizers over lists of f32 parameters (f64 arithmetic per element is allowed), torch's forms exactly; clipping by the global norm.
 * State is plain arrays that a checkpoint writes. */
#ifndef SAIL_OPTIM_OPTIMIZER_H
#define SAIL_OPTIM_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "sail.h"

/* Adafactor twice: transformers' form and torch's, which differ in step size, decay and where epsilon goes. */
enum optimizer_kind { OPTIM_ADAMW, OPTIM_RMSPROP, OPTIM_SGD, OPTIM_ADAFACTOR, OPTIM_TORCH_ADAFACTOR };
struct optimizer_options {
    enum optimizer_kind kind;
    double beta1, beta2, eps, weight_decay; /* adamw */
    bool amsgrad;                           /* adamw: the largest second moment so far */
    double alpha;                           /* rmsprop's smoothing */
    double momentum;                        /* rmsprop, sgd */
    bool nesterov, centered;
    double clip_threshold, decay_rate, eps1, eps2; /* both adafactors; beta1 < 0: none */
    bool scale_parameter, relative_step, warmup_init;      /* transformers' adafactor */
};
void optimizer_defaults(struct optimizer_options *o, enum optimizer_kind kind); /* torch's or transformers' */
int optimizer_kind_find(enum optimizer_kind *out, const char *name, sail_err *err);

/* A parameter as the optimizer sees it: the same order at every call and after a resume. */
struct optim_param {
    const char *name;
    float *value, *grad;
    int64_t n;
    int n_dim;
    int64_t dim[4];
    bool decay; /* weight decay applies (matrices) */
};

struct optimizer;
int optimizer_create(struct optimizer **out, const struct optimizer_options *o, const struct optim_param *p, int64_t n, sail_err *err);
void optimizer_free(struct optimizer *o);
/* sqrt of the sum of squares over all gradients, f64, in a fixed order. */
double optimizer_grad_norm(const struct optim_param *p, int64_t n);
/* What torch's clip_grad_norm_ multiplies gradients with: min(1, max_norm / (norm + 1e-6)). */
double optimizer_clip_scale(double norm, double max_norm);
/* The nearest point of the ball: values *= min(1, bound / norm), norm over all parameters, which it returns (of before). */
double optimizer_project(const struct optim_param *p, int64_t n, double bound);
/* Gradients are multiplied by scale on the way, and left zero. */
void optimizer_step(struct optimizer *o, const struct optim_param *p, int64_t n, double lr, double scale);
/* The state as named arrays ("exp_avg.0", ...) and the step count, for checkpoints. */
int64_t optimizer_state_count(const struct optimizer *o);
int64_t optimizer_state_values(const struct optimizer *o); /* of all arrays together */
void optimizer_state_at(const struct optimizer *o, int64_t i, char name[64], float **data, int64_t *n);
int64_t optimizer_steps(const struct optimizer *o);
void optimizer_set_steps(struct optimizer *o, int64_t steps);

#endif
