/* A model's config.json, and after "\n%%\n" its generation_config.json. */
#include "fuzz.h"

#include "model/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *rest;
    size_t n_rest;
    const size_t n = fuzz_part(data, size, &rest, &n_rest);
    json_t *config = json_loadb((const char *)data, n, 0, NULL), *generation = rest ? json_loadb((const char *)rest, n_rest, 0, NULL) : NULL;
    struct model_config c;
    sail_err err = {0};
    if (json_is_object(config)) { // as weights_open gives it
        int rc = model_config_read(&c, config, generation, "config.json", &err);
        fuzz_check_refusal(rc, &err);
        BUG_ON(!rc && (c.n_head % c.n_kv || c.head_dim < 2 || c.n_layer < 1), "sizes that cannot be");
        model_config_release(&c);
    }
    json_decref(config);
    json_decref(generation);
    return 0;
}
