/* YAML as a run's config, as a study, and as the values of a rule file. */
#include "fuzz.h"

#include <jansson.h>

#include "config/study.h"
#include "label/yaml_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("study.yaml", data, size);
    sail_err err = {0};
    sail_config *c;
    BUG_ON(sail_config_create(&c, "align", &err), "%s", err.message);
    sail_config_load(c, path, &err);
    sail_config_free(c);
    struct study *s;
    if (!study_open(&s, path, &err)) study_free(s);
    json_t *j;
    if (!yaml_json_read(path, &j, &err)) json_decref(j);
    return 0;
}
