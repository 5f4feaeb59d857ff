/* Who writes the verdicts of language-model judges: a folder's model, or the policy or reference of the run. Opened once, however many judges write with it. */
#ifndef SAIL_TRAIN_AUTHOR_H
#define SAIL_TRAIN_AUTHOR_H

#include "config/config.h"
#include "data/text_pipeline.h"
#include "model/model.h"
#include "sample/sampler.h"

/* The policies of the run that asks, as they are at the time of asking; NULL where nothing is trained. */
struct run_policies {
    const struct policy *policy, *reference;
};
struct author {
    const struct policy *policy;
    const struct text_pipeline *text;
    struct sampler *sampler; /* not the run's: that one's answers may be the ones being judged */

    char *name; /* as in --judge-model */
    struct model *own; /* NULL: the run's */
    struct text_pipeline own_text;
    struct policy self; /* {own} */
    struct author *next;
};
struct authors {
    struct author *first;
};
/* The author that --judge-model names, from those that are open already where it is one of them. text: of the run's own model, borrowed. */
int author_find(struct author **out, struct authors *all, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err);
void authors_close(struct authors *all);

#endif
