/* A PEFT folder on a small model: adapter_config.json, and after "\n%%\n" adapter_model.safetensors in the place of one that fits. */
#include "fuzz.h"

#include "backend/backend.h"
#include "base/file.h"
#include "model/model.h"

#define CASE FUZZ_SOURCE_DIR "/tests/golden/cases/lora-llama"

static struct model *model;
static char *fitting;
static size_t n_fitting;

static void open_once(void)
{
    sail_err err = {0};
    if (model) return;
    backend_threads(1);
    const struct model_options o = {.compute = DTYPE_F32};
    BUG_ON(model_open(&model, CASE, &o, &err), "%s", err.message);
    BUG_ON(file_read(CASE "/adapter/adapter_model.safetensors", (size_t)1 << 24, &fitting, &n_fitting, &err), "%s", err.message);
    fuzz_file("adapter_model.safetensors", fitting, n_fitting);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool replaced;
    open_once();
    const uint8_t *rest;
    size_t n_rest;
    const size_t n = fuzz_part(data, size, &rest, &n_rest);
    fuzz_file("adapter_config.json", data, n);
    if (rest || replaced) fuzz_file("adapter_model.safetensors", rest ? (const void *)rest : fitting, rest ? n_rest : n_fitting);
    replaced = rest != NULL;
    struct adapter *a;
    sail_err err = {0};
    adapter_is_reward(fuzz_folder());
    int rc = adapter_open(&a, model, fuzz_folder(), false, &err);
    fuzz_check_refusal(rc, &err);
    if (!rc) adapter_close(a);
    return 0;
}
