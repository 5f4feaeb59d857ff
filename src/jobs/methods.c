/* sail methods: every preset with its parts. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "jobs/jobs.h"
#include "objective/objective.h"
#include "train/preset.h"

static void put(struct buf *b, const char *key, const char *value, bool last)
{
    buf_printf(b, "\"%s\": ", key);
    buf_json_string(b, value, strlen(value));
    buf_puts(b, last ? "}" : ", ");
}

int job_methods(const sail_config *config, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    if (config->json) {
        buf_puts(&b, "[");
        for (int i = 0; preset_at(i); i++) {
            const struct preset *p = preset_at(i);
            buf_puts(&b, i ? ",\n {" : "\n {");
            put(&b, "name", p->name, false);
            put(&b, "sampler", p->sampler, false);
            put(&b, "labeler", p->labeler, false);
            put(&b, "objective", p->objective, false);
            put(&b, "loss", objective_find(p->objective)->equation, false);
            put(&b, "reference", p->reference, false);
            put(&b, "defaults", p->defaults, false);
            put(&b, "paper", p->paper, true);
        }
        buf_puts(&b, "\n]\n");
    } else {
        buf_printf(&b, "%-17s %-28s %-24s %-28s %-8s %-18s %s\n", "method", "sampler", "labeler", "objective", "ref", "paper", "defaults");
        for (int i = 0; preset_at(i); i++) {
            const struct preset *p = preset_at(i);
            buf_printf(&b, "%-17s %-28s %-24s %-28s %-8s %-18s %s\n", p->name, p->sampler, p->labeler, p->objective, p->reference, p->paper, p->defaults);
        }
    }
    int rc = b.failed ? err_memory(err, b.len) : SAIL_OK;
    if (!rc) fputs(b.data, stdout);
    buf_release(&b);
    return rc;
}
