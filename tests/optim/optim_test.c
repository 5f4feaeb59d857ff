/* Optimizers, clipping and schedules against torch and transformers (tests/golden/optim.json, float64). Parameters and state are f32 here, so that five
 * steps may differ by a few roundings of the parameter: 2e-6 of its size. */
#include "test.h"

#include <jansson.h>

#include "optim/optimizer.h"
#include "optim/schedule.h"

static json_t *golden;

static int flatten(json_t *v, float *out)
{
    if (!json_is_array(v)) return out[0] = (float)json_number_value(v), 1;
    int n = 0;
    size_t i;
    json_t *x;
    json_array_foreach(v, i, x) n += flatten(x, out + n);
    return n;
}

static double option(json_t *o, const char *key, double fallback)
{
    json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : json_is_true(v) ? 1 : json_is_false(v) ? 0 : fallback;
}

static bool make_options(struct optimizer_options *o, const char *name, json_t *all)
{
    json_t *betas = json_object_get(all, "betas"), *eps = json_object_get(all, "eps");
    if (!strcmp(name, "torch.AdamW")) {
        optimizer_defaults(o, OPTIM_ADAMW);
        o->amsgrad = option(all, "amsgrad", 0) != 0;
        o->beta1 = json_number_value(json_array_get(betas, 0));
        o->beta2 = json_number_value(json_array_get(betas, 1));
        o->eps = json_number_value(eps);
    } else if (!strcmp(name, "torch.RMSprop")) {
        optimizer_defaults(o, OPTIM_RMSPROP);
        o->alpha = option(all, "alpha", 0);
        o->eps = json_number_value(eps);
        o->centered = option(all, "centered", 0) != 0;
    } else if (!strcmp(name, "torch.SGD")) {
        optimizer_defaults(o, OPTIM_SGD);
        o->nesterov = option(all, "nesterov", 0) != 0;
    } else if (!strcmp(name, "transformers.Adafactor")) {
        optimizer_defaults(o, OPTIM_ADAFACTOR);
        o->beta1 = option(all, "beta1", -1);
        o->scale_parameter = option(all, "scale_parameter", 0) != 0;
        o->relative_step = option(all, "relative_step", 0) != 0;
    } else if (!strcmp(name, "torch.Adafactor")) {
        optimizer_defaults(o, OPTIM_TORCH_ADAFACTOR);
        o->decay_rate = option(all, "beta2_decay", 0);
        o->clip_threshold = option(all, "d", 0);
        o->eps1 = json_number_value(json_array_get(eps, 0));
        o->eps2 = json_number_value(json_array_get(eps, 1));
    } else {
        return false;
    }
    o->momentum = option(all, "momentum", 0);
    o->weight_decay = option(all, "weight_decay", 0);
    return true;
}

static void optimizers_equal_torch(void **state)
{
    (void)state;
    json_t *entry, *step;
    size_t i, k;
    int checked = 0;
    json_array_foreach(json_object_get(golden, "optimizers"), i, entry)
    {
        struct optimizer_options o;
        json_t *all = json_object_get(entry, "all_options");
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (!make_options(&o, name, all)) fail_msg("optimizer %s is not known", name);
        checked++;
        float value[2][12], grad[2][12];
        json_t *start = json_object_get(golden, "start");
        flatten(json_object_get(start, "matrix"), value[0]);
        flatten(json_object_get(start, "vector"), value[1]);
        const struct optim_param p[2] = {{"matrix", value[0], grad[0], 12, 2, {3, 4}, true}, {"vector", value[1], grad[1], 5, 1, {5}, true}};
        struct optimizer *optimizer;
        assert_ok(optimizer_create(&optimizer, &o, p, 2, err));
        json_array_foreach(json_object_get(entry, "steps"), k, step)
        {
            json_t *g = json_array_get(json_object_get(golden, "grads"), k);
            float want[12];
            flatten(json_object_get(g, "matrix"), grad[0]);
            flatten(json_object_get(g, "vector"), grad[1]);
            optimizer_step(optimizer, p, 2, option(all, "lr", 0), 1);
            for (int e = 0; e < 12; e++) assert_true(grad[0][e] == 0);
            flatten(json_object_get(step, "matrix"), want);
            for (int e = 0; e < 12; e++)
                if (fabs(value[0][e] - want[e]) > 2e-6 * fmax(1, fabs(want[e]))) fail_msg("%s (entry %zu) step %zu: matrix[%d] = %.9g, wanted %.9g", name, i, k, e, value[0][e], want[e]);
            flatten(json_object_get(step, "vector"), want);
            for (int e = 0; e < 5; e++)
                if (fabs(value[1][e] - want[e]) > 2e-6 * fmax(1, fabs(want[e]))) fail_msg("%s (entry %zu) step %zu: vector[%d] = %.9g, wanted %.9g", name, i, k, e, value[1][e], want[e]);
        }
        optimizer_free(optimizer);
    }
    assert_int_equal(checked, 14);
}

static void clipping_equals_torch(void **state)
{
    (void)state;
    json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(golden, "clip"), i, entry)
    {
        float grad[2][12], want[12];
        json_t *in = json_object_get(entry, "input");
        flatten(json_object_get(in, "matrix"), grad[0]);
        flatten(json_object_get(in, "vector"), grad[1]);
        const struct optim_param p[2] = {{"matrix", NULL, grad[0], 12, 2, {3, 4}, true}, {"vector", NULL, grad[1], 5, 1, {5}, true}};
        const double norm = optimizer_grad_norm(p, 2);
        assert_near(norm, json_number_value(json_object_get(entry, "norm")), 0, 1e-6);
        const double scale = optimizer_clip_scale(norm, json_number_value(json_object_get(entry, "max_norm")));
        flatten(json_object_get(json_object_get(entry, "clipped"), "matrix"), want);
        for (int e = 0; e < 12; e++) assert_near(grad[0][e] * scale, want[e], 1e-7, 1e-6);
    }
    assert_true(i >= 3);
}

static void schedules_equal_transformers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum schedule_kind kind;
    } kinds[] = {{"linear", SCHEDULE_LINEAR}, {"cosine", SCHEDULE_COSINE}, {"constant", SCHEDULE_CONSTANT}, {"constant_with_warmup", SCHEDULE_CONSTANT}, {"inverse_sqrt", SCHEDULE_INVERSE_SQRT}, {"cosine_with_min_lr", SCHEDULE_COSINE}};
    json_t *entry, *value;
    size_t i, k;
    int checked = 0;
    json_array_foreach(json_object_get(golden, "schedules"), i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        json_t *options = json_object_get(entry, "options");
        for (size_t s = 0; s < sizeof kinds / sizeof *kinds; s++) {
            if (strcmp(name, kinds[s].name)) continue;
            checked++;
            const struct schedule schedule = {.kind = kinds[s].kind, .warmup = (int64_t)option(entry, "warmup", 0), .cycles = option(options, "num_cycles", 0.5),
                                              .min_rate = option(options, "min_lr_rate", 0), .timescale = (int64_t)option(options, "timescale", 0)};
            json_array_foreach(json_object_get(entry, "values"), k, value)
            {
                double got = option(entry, "lr", 0) * schedule_factor(&schedule, (int64_t)k, (int64_t)option(entry, "total", 0));
                assert_near(got, json_number_value(value), 1e-15, 1e-12);
            }
        }
    }
    assert_int_equal(checked, 10);
}

/* Outside the ball: onto its surface, directions kept; inside: untouched. */
static void projection_is_the_nearest_point(void **state)
{
    (void)state;
    float a[3] = {3, 0, -4}, b[2] = {12, 0}, grad[3] = {0};
    const struct optim_param p[2] = {{"a", a, grad, 3, 1, {3}, true}, {"b", b, grad, 2, 1, {2}, true}};
    assert_near(optimizer_project(p, 2, 13.5), 13, 1e-12, 0);
    assert_true(a[0] == 3 && a[2] == -4 && b[0] == 12);
    assert_near(optimizer_project(p, 2, 6.5), 13, 1e-12, 0);
    assert_true(a[0] == 1.5f && a[1] == 0 && a[2] == -2 && b[0] == 6 && b[1] == 0);
    assert_near(optimizer_project(p, 2, 1e9), 6.5, 1e-12, 0);
}

int main(void)
{
    golden = json_load_file(repo_path("tests/golden/optim.json"), 0, NULL);
    if (!golden) return fprintf(stderr, "tests/golden/optim.json is missing\n"), 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(optimizers_equal_torch), cmocka_unit_test(clipping_equals_torch), cmocka_unit_test(projection_is_the_nearest_point), cmocka_unit_test(schedules_equal_transformers)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    json_decref(golden);
    return failed;
}
