/* YAML as a run's config, as a study, and as a rule file, whose rules are then asked. */
#include "fuzz.h"

#include "config/study.h"
#include "label/labeler.h"

static void ask_rules(const char *path)
{
    struct labeler *l;
    sail_err err = {0};
    int rc = labeler_rule_open(&l, path, &err);
    fuzz_check_refusal(rc, &err);
    if (rc) return;
    static const char *const completions[2] = {"Once upon a time, a time! {\"a\": 1} The end.", ""};
    static const bool finished[2] = {true, false};
    double reward[2];
    struct label_answer answer = {.reward = reward};
    const struct label_request q = {.id = "0", .prompt = "Tell me", .completions = completions, .finished = finished, .n = 2};
    rc = labeler_ask(l, &q, &answer, &err);
    fuzz_check_refusal(rc, &err);
    labeler_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file("study.yaml", data, size);
    sail_err err = {0};
    sail_config *c;
    struct study *s;
    BUG_ON(sail_config_create(&c, "align", &err), "%s", err.message);
    int rc = sail_config_load(c, path, &err);
    fuzz_check_refusal(rc, &err);
    sail_config_free(c);
    rc = study_open(&s, path, &err);
    fuzz_check_refusal(rc, &err);
    if (!rc) study_free(s);
    ask_rules(path);
    return 0;
}
