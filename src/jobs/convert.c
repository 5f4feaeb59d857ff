/* sail convert: a model folder or GGUF file to a Hugging Face folder or a GGUF file, with an adapter merged when asked. */
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "jobs/jobs.h"
#include "model/model.h"

static int saved_type(const char *name)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {{"f32", DTYPE_F32}, {"bf16", DTYPE_BF16}, {"f16", DTYPE_F16}, {"q8_0", SAVE_Q8_0}};
    for (size_t i = 0; name && i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name)) return types[i].type;
    return SAVE_AS_IS;
}

int job_convert(const sail_config *c, sail_err *err)
{
    struct model *m = NULL;
    struct adapter *a = NULL;
    const struct model_options o = {.compute = DTYPE_F32, .reward_head = c->merge && adapter_is_reward(c->merge)};
    int rc = config_require(c, OPTION_model, err);
    if (!rc) rc = config_require(c, OPTION_out, err);
    const size_t n = rc ? 0 : strlen(c->out);
    const bool gguf = n > 5 && !strcmp(c->out + n - 5, ".gguf");
    if (!rc && !gguf && saved_type(c->dtype) == SAVE_Q8_0) rc = err_set(err, SAIL_USAGE, "--dtype q8_0: blocks of 8-bit numbers are for GGUF: give --out FILE.gguf");
    if (!rc && path_exists(c->out)) rc = err_set(err, SAIL_USAGE, "--out %s exists already", c->out);
    if (!rc) rc = model_open(&m, c->model, &o, err);
    if (!rc && c->merge) rc = adapter_open(&a, m, c->merge, false, err);
    const struct save_options save = {.dtype = saved_type(c->dtype), .shard_bytes = (uint64_t)(c->max_shard_gb * 1e9)};
    if (!rc) rc = (gguf ? model_save_gguf : model_save)((struct policy){m, a}, c->out, &save, err);
    adapter_close(a);
    model_close(m);
    return rc;
}
