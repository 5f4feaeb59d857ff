/* The policy as its own reward model (DICE, 2406.09760): r(y) = log pi_ref(y) - log pi_base(y) - alpha |y|. pi_ref is the policy that the iterate started from, trained
 * by DPO before; pi_base is the model without its adapter, from which DPO started; |y| counts characters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "label/labeler.h"
#include "train/run.h"

enum { SHORTEST = 4, LONGEST = 6699 }; /* characters of an answer that is judged, as in the authors' code */

static bool fits_itself(const sail_config *c) { return !strcmp(c->length_coef, "auto"); }

int implicit_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (!c->implicit_reward)
        return strcmp(c->length_coef, "0") ? err_set(err, SAIL_USAGE, "--length-coef corrects the implicit reward: give --implicit-reward, or drop it") : SAIL_OK;
    char *end;
    const double coef = strtod(c->length_coef, &end);
    if (!fits_itself(c) && (end == c->length_coef || *end || !(coef >= 0 && coef <= 1e6))) return err_set(err, SAIL_USAGE, "--length-coef %s: expected auto or a number from 0 to 1e6", c->length_coef);
    if (r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--implicit-reward labels sampled answers, and method %s has none: --mix-pr above 0", r->preset->name);
    if (!r->needs_reference) return err_set(err, SAIL_USAGE, "--implicit-reward: method %s has no reference, which is what judges: choose one that has", r->preset->name);
    if (c->full || !c->adapter)
        return err_set(err, SAIL_USAGE, "--implicit-reward compares a policy trained by DPO with the model it came from: give that policy as --adapter on --model, without --full");
    if (c->ref && strcmp(c->ref, "init")) return err_set(err, SAIL_USAGE, "--implicit-reward: with --ref %s the reference is not the trained policy and could not judge: drop --ref", c->ref);
    if (r->pairing->ask) return err_set(err, SAIL_USAGE, "--implicit-reward gives every answer a reward of its own: --pairing best-worst, random, all or tilted");
    return SAIL_OK;
}

int implicit_ask(struct run *r, int64_t first, int n, double *reward, sail_err *err)
{
    const struct batch *b = &r->batch;
    double base[MAX_ANSWERS];
    const struct sequences s = {.n = n, .ids = &b->ids[first], .n_prompt = &b->n_prompt[first], .n_tok = &b->n_tok[first], .group = &b->group[first]};
    r->counts.labels += n;
    int rc = model_score(r->reference, &s, reward, NULL, err);
    if (!rc) rc = model_score((struct policy){.model = r->model}, &s, base, NULL, err);
    for (int k = 0; !rc && k < n; k++) reward[k] -= base[k];
    return rc;
}

static int characters(const struct run *r, const struct sampled_answer *y, const int32_t *ids, double *n, sail_err *err)
{
    struct buf text;
    buf_init(&text, 0);
    int rc = tokenizer_decode(r->text.tokenizer, ids, (size_t)y->n, true, &text, err);
    *n = 0;
    for (size_t i = 0; !rc && i < text.len; i++) *n += ((unsigned char)text.data[i] & 0xC0) != 0x80;
    buf_release(&text);
    return rc;
}

/* Lengths of the answers of prompt i; those that are too short or too long to judge lose their reward, and all of them where fewer than half keep it. */
static int measure(struct run *r, int64_t i, double *reward, double *length, sail_err *err)
{
    const struct sampled *d = &r->sampled;
    int64_t judged = 0;
    for (int64_t k = 0; k < d->k; k++) {
        const int64_t a = i * d->k + k;
        int rc = characters(r, &d->answer[a], d->ids + a * r->config->max_new_tokens, &length[k], err);
        if (rc) return rc;
        reward[k] = d->prompt[i].route != ROUTE_PR || length[k] < SHORTEST || length[k] > LONGEST ? NAN : d->answer[a].reward;
        judged += !isnan(reward[k]);
    }
    for (int64_t k = 0; 2 * judged < d->k && k < d->k; k++) reward[k] = NAN;
    return SAIL_OK;
}

int implicit_correct(struct run *r, double *coef, sail_err *err)
{
    const struct sampled *d = &r->sampled;
    double *reward = NULL;
    const size_t n = (size_t)(d->n * d->k);
    if (!n) return SAIL_OK;
    int rc = mem_alloc(&reward, 2 * n, sizeof *reward, err);
    double *length = reward + n;
    for (int64_t i = 0; !rc && i < d->n; i++) rc = measure(r, i, reward + i * d->k, length + i * d->k, err);
    if (!rc) *coef = fits_itself(r->config) ? label_length_coef(d->n, (int)d->k, reward, length) : strtod(r->config->length_coef, NULL);
    for (size_t a = 0; !rc && a < n; a++) d->answer[a].reward = reward[a] - *coef * length[a];
    free(reward);
    return rc;
}
