/* Score heads of reward models: a language model that gets one. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "model/internal.h"

bool score_head_replaces(const struct model *m, const char *name)
{
    if (!m->fresh_head) return false;
    char head[NAME_SIZE];
    snprintf(head, sizeof head, "%s.weight", m->config.family->head);
    return !strcmp(name, head) || !strcmp(name, "lm_head.weight");
}

/* transformers reads the score at the last token that is not padding: a padding id that also ends answers would move it one token back. */
static bool pads_well(const struct model *m)
{
    for (int i = 0; i < m->config.n_eos; i++)
        if (m->config.pad == m->config.eos[i]) return false;
    return m->config.pad >= 0;
}

int score_head_config(const struct model *m, json_t *config, sail_err *err)
{
    static const char *const ends[] = {"ForCausalLM", "LMHeadModel"};
    const char *from = m->config.architecture, *end = NULL;
    for (size_t i = 0; !end && i < sizeof ends / sizeof *ends; i++) end = strstr(from, ends[i]);
    if (!end) return err_set(err, SAIL_FAILED, "%s: architecture '%s' has no ...ForSequenceClassification twin: expected ...ForCausalLM", m->path, from);
    // Gemma3ForSequenceClassification is the class with images; the text model's has a name of its own.
    const char *text = !strcmp(m->config.family->model_type, "gemma3_text") ? "Text" : "";
    char *name = mem_printf("%.*s%sForSequenceClassification", (int)(end - from), from, text);
    json_object_set_new(config, "architectures", json_pack("[s]", name));
    json_object_set_new(config, "id2label", json_pack("{ss}", "0", "LABEL_0"));
    json_object_set_new(config, "label2id", json_pack("{si}", "LABEL_0", 0));
    if (!pads_well(m)) json_object_set_new(config, "pad_token_id", json_null());
    free(name);
    return SAIL_OK;
}

bool adapter_is_reward(const char *folder)
{
    char *path = path_join(folder, "adapter_config.json"), *text = NULL;
    size_t n = 0;
    json_t *j = file_read(path, (size_t)1 << 24, &text, &n, NULL) ? NULL : json_loadb(text, n, 0, NULL);
    const char *task = json_string_value(json_object_get(j, "task_type"));
    const bool reward = task && !strcmp(task, "SEQ_CLS");
    json_decref(j);
    free(text);
    free(path);
    return reward;
}
