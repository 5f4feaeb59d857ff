#include "train/preset.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "config/command.h"
#include "train/rewarder.h"

static const struct preset presets[] = {
    {"sft", "dataset", "dataset", "sft", "none", "", "-"},
    {"reward", "dataset", "dataset", "reward", "none", "", "Bradley-Terry"},
    {"dpo", "dataset", "dataset", "dpo", "init", "beta=0.1", "arXiv 2305.18290"},
    {"ipo", "dataset", "dataset", "ipo", "init", "beta=0.1", "arXiv 2310.12036"},
    {"ipo-mean", "dataset", "dataset", "ipo-mean", "init", "beta=0.1", "arXiv 2310.12036"},
    {"slic", "dataset", "dataset", "slic", "none", "delta=1 lambda=0.1", "arXiv 2305.10425"},
    {"hinge", "dataset", "dataset", "hinge", "init", "beta=0.1", "arXiv 2309.06657"},
    {"cdpo", "dataset", "dataset", "cdpo", "init", "beta=0.1 eps=0.1", "Mitchell 2023"},
    {"robust", "dataset", "dataset", "robust", "init", "beta=0.1 eps=0.1", "arXiv 2403.00409"},
    {"r-dpo", "dataset", "dataset", "r-dpo", "init", "beta=0.1 alpha=0.01", "arXiv 2403.19159"},
    {"dpop", "dataset", "dataset", "dpop", "init", "beta=0.3 lambda=50", "arXiv 2402.13228"},
    {"wpo", "dataset", "dataset", "dpo", "init", "beta=0.1 wpo=true", "arXiv 2406.11827"},
    {"ld-dpo", "dataset", "dataset", "dpo", "init", "beta=0.1 ld_alpha=0.5", "arXiv 2409.06411"},
    {"aot", "dataset", "dataset", "aot", "init", "beta=0.1", "arXiv 2406.05882"},
    {"simpo", "dataset", "dataset", "simpo", "none", "beta=2 gamma=0.5", "arXiv 2405.14734"},
    {"cpo", "dataset", "dataset", "cpo", "none", "beta=0.1 alpha=1", "arXiv 2401.08417"},
    {"orpo", "dataset", "dataset", "orpo", "none", "lambda=0.1", "arXiv 2403.07691"},
    {"exo-pair", "dataset", "dataset", "exo-pair", "init", "beta=0.1 eps=0.001", "arXiv 2402.00856"},
    {"nca-pair", "dataset", "dataset", "nca-pair", "init", "beta=0.1", "arXiv 2402.05369"},
    {"bco-pair", "dataset", "dataset", "bco-pair", "init", "beta=0.1", "arXiv 2404.04656"},
    {"sppo-hard", "dataset", "dataset", "sppo-hard", "init", "beta=0.001", "arXiv 2405.00675"},
    {"apo-zero", "dataset", "dataset", "apo-zero", "init", "beta=0.1", "arXiv 2408.06266"},
    {"apo-down", "dataset", "dataset", "apo-down", "init", "beta=0.1", "arXiv 2408.06266"},
    {"kto", "dataset", "dataset", "kto", "init", "beta=0.1", "arXiv 2402.01306"},
    {"apo-zero-unpaired", "dataset", "dataset", "apo-zero-unpaired", "init", "beta=0.1", "arXiv 2408.06266"},
    {"bco-unpaired", "dataset", "dataset", "bco-unpaired", "init", "beta=0.1", "arXiv 2404.04656"},
    {"aot-unpaired", "dataset", "dataset", "aot-unpaired", "init", "beta=0.1", "arXiv 2406.05882"},
    {"sft-mean", "dataset", "dataset", "sft-mean", "none", "", "arXiv 2404.19733"},
    {"sft-sum", "dataset", "dataset", "sft-sum", "none", "", "arXiv 2405.16436"},
    {"bco-pair-shift", "dataset", "dataset", "bco-pair-shift", "init", "beta=0.1", "arXiv 2404.04656"},
    {"rpo", "dataset", "dataset", "dpo,sft-sum", "init", "beta=0.01 method_weights=1,5e-5", "arXiv 2405.16436"},
    {"irpo", "dataset", "dataset", "dpo,sft-mean", "init", "beta=0.1 method_weights=1,1", "arXiv 2404.19733"},
    {"mpo", "dataset", "dataset", "dpo,bco-pair-shift,sft-mean", "init", "beta=0.1 method_weights=0.8,0.2,1", "arXiv 2411.10442"},
    {"tr-dpo-soft", "dataset", "dataset", "dpo", "ema", "beta=0.1 ref_rule=ema ref_decay=0.4 ref_steps=1", "arXiv 2404.09656"},
    {"tr-dpo-hard", "dataset", "dataset", "dpo", "periodic", "beta=0.1 ref_rule=periodic ref_steps=512", "arXiv 2404.09656"},
    {"discopop", "dataset", "dataset", "discopop", "init", "beta=0.1 tau=0.05", "arXiv 2406.08414"},
    {"sigmoid-norm", "dataset", "dataset", "sigmoid-norm", "init", "beta=0.1", "arXiv 2411.15124"},
    {"online-dpo", "policy", "reward", "sail", "init", "beta=0.1 mix_pr=1 gamma=0", "arXiv 2402.04792"},
    {"reinforce", "policy", "reward", "reinforce", "init", "beta=0.05 mix_pr=1 num_samples=4 baseline=batch", "arXiv 2402.14740"},
    {"rloo", "policy", "reward", "reinforce", "init", "beta=0.05 mix_pr=1 num_samples=4 baseline=loo", "arXiv 2402.14740"},
    {"grpo", "policy", "reward", "grpo", "none", "mix_pr=1 num_samples=8", "arXiv 2402.03300"},
    {"grpo-kl", "policy", "reward", "grpo-kl", "init", "beta=0.04 mix_pr=1 num_samples=8", "arXiv 2402.03300"},
    {"itercomp", "gallery, policy", "reward, refitted", "dpo", "init", "beta=0.1 mix_pr=1 round_steps=200 max_steps=600", "arXiv 2410.07171"},
    {"two-level", "policy", "reward", "two-level", "init", "beta=0.1 mix_pr=1 penalty=0.5", "arXiv 2410.15610"},
    {"online-ipo", "policy", "reward", "ipo", "init", "beta=1 mix_pr=1 pr_label=soft", "arXiv 2403.08635"},
    {"online-slic", "policy", "reward", "hinge", "init", "beta=0.002 mix_pr=1", "arXiv 2402.04792"},
    {"xpo", "policy + reference", "reward", "xpo", "init", "beta=0.1 alpha=1e-5 mix_pr=1 num_samples=1 ref_samples=1", "arXiv 2405.21046"},
    {"selm", "dataset + reference", "reward", "selm", "init", "beta=0.01 alpha=0.001 mix_pr=1 num_samples=0 ref_samples=1 ref_greedy=true data_answers=2", "arXiv 2405.19332"},
    {"ipo-md", "mixture", "reward", "ipo", "init", "beta=1 mix_pr=1 pr_label=soft logit_weights=0.875:0.125", "arXiv 2403.08635"},
    {"nash-md", "policy + mixture", "reward", "nash-md", "init", "beta=0.008 mix_pr=1 pr_label=soft logit_weights=1:0,0.875:0.125", "arXiv 2312.00886"},
    {"nash-md-togo", "policy + mixture", "reward", "nash-md-togo", "init", "beta=0.008 mix_pr=1 pr_label=soft logit_weights=1:0,0.875:0.125", "arXiv 2312.00886"},
    {"egpo", "policy", "reward", "egpo", "init", "beta=0.1 mix_pr=1 pr_label=soft num_samples=3 pairing=opponent temperature=2 top_k=10 logit_weights=1:0,1:0,1:0@1 extragradient=true", "arXiv 2503.08942"},
    {"egpo-mean", "policy", "reward", "egpo-mean", "init", "beta=0.1 mix_pr=1 pr_label=soft num_samples=3 pairing=opponent temperature=2 top_k=10 logit_weights=1:0,1:0,1:0@1 extragradient=true", "arXiv 2503.08942"},
    {"dpo-mix-r", "policy", "reward", "dpo", "init", "beta=0.1 mix_pr=1 pr_label=soft num_samples=4 pairing=tilted sampler_share=0.5", "arXiv 2409.19605"},
    {"dpo-mix-p", "policy + mixture", "reward", "dpo", "init", "beta=0.1 mix_pr=1 pr_label=soft temperature=0.7 logit_weights=1.5:-0.5,0.5:0.5 logit_support=0.99 sampler_share=0.5", "arXiv 2409.19605"},
    {"sppo", "reference", "reward", "sppo", "periodic", "beta=0.001 mix_pr=1 num_samples=0 ref_samples=5 ref_rule=periodic temperature=0.7 top_p=0.9", "arXiv 2405.00675"},
    {"dno", "dataset + reference", "reward", "dpo", "periodic", "beta=0.1 mix_pr=1 num_samples=0 ref_samples=5 data_answers=1 ref_rule=periodic pairing=all pair_margin=2 pair_margin_own=1 pair_floor=5 max_repetition=0.2 replay_iterates=0.3,0.15 temperature=0.7 top_p=0.95", "arXiv 2404.03715"},
    {"dice", "dataset + reference", "dataset + self", "dpo", "periodic", "beta=0.1 mix_pr=0.5 num_samples=0 ref_samples=16 temperature=0.9 ref_rule=periodic ref_steps=300 implicit_reward=true length_coef=auto finished_only=true", "arXiv 2406.09760"},
    {"self-rewarding", "reference", "judge", "dpo", "periodic", "beta=0.1 mix_pr=1 num_samples=0 ref_samples=4 ref_rule=periodic temperature=0.7 top_p=0.9 judge_model=reference judge_samples=3 judge_temperature=0.7 judge_top_p=0.9", "arXiv 2401.10020"},
    {"aime", "policy", "evaluators", "dpo", "init", "beta=0.1 mix_pr=1 evaluators=aime judge_model=reference judge_new_tokens=600", "arXiv 2410.03131"},
    {"inpo", "reference", "reward", "inpo", "periodic", "beta=0.0075 tau=0.0025 mix_pr=1 num_samples=0 ref_samples=8 ref_rule=periodic", "arXiv 2407.00617"},
    {"osp", "policy", "self", "dpo", "init", "beta=0.1 mix_pr=1 num_samples=4 pairing=duels pr_label=soft self_judge=true", "arXiv 2405.14103"},
    {"pfpo", "policy", "majority", "dpo,sft-mean", "init", "beta=0.1 method_weights=1,0.2 mix_pr=1 num_samples=8 top_p=0.9 pairing=all final_answer=majority majority_share=0.5", "arXiv 2411.16345"},
    {"pdpo", "policy", "majority", "dpo,sft-mean", "init", "beta=0.1 method_weights=1,0.2 mix_pr=1 num_samples=10 top_p=0.9 pairing=all final_answer=majority majority_share=0.5 prefix_endings=3 pair_margin=1 pair_floor=1", "arXiv 2411.16345"},
    {"iterative-dpo", "policy", "reward", "sail", "init", "beta=0.1 mix_pr=1 gamma=0 num_samples=4 pairing=best-worst", "arXiv 2405.07863"},
    {"sail-dp", "dataset", "dataset + self", "sail", "init", "beta=0.1 mix_dp=0.4 rho=0.2", "arXiv 2406.15567"},
    {"sail-pp", "dataset + policy", "dataset + self", "sail", "init", "beta=0.1 mix_pp=0.3 pi=0.2", "arXiv 2406.15567"},
    {"sail-pr", "dataset + policy", "dataset + reward", "sail", "init", "beta=0.1 mix_pr=0.3 gamma=0.3", "arXiv 2406.15567"},
    {"sail-revkl", "dataset + policy + reference", "dataset + reward", "sail", "init", "beta=0.1 mix_pr=0.3 gamma=0.3 revkl_coef=0.001", "arXiv 2606.31524"},
    {"sail-listwise", "policy", "reward", "listwise", "init", "beta=0.1 mix_pr=1 gamma=1 num_samples=4 robust_rho=0.05", "arXiv 2602.20457"},
    {"sail-mix", "dataset + policy", "dataset + self + reward", "sail", "init", "beta=0.1 mix_dp=0.2 mix_pp=0.15 mix_pr=0.15 rho=0.2 pi=0.2 gamma=0.3", "arXiv 2406.15567"},
};
enum { N_PRESET = sizeof presets / sizeof *presets };

const struct preset *preset_at(int i) { return i >= 0 && i < N_PRESET ? &presets[i] : NULL; }

const struct preset *preset_find(const char *given, sail_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "%s", given);
    for (char *p = name; *p; p++)
        if (*p == '_') *p = '-';
    const char *names[N_PRESET];
    for (int i = 0; i < N_PRESET; i++) {
        names[i] = presets[i].name;
        if (!strcmp(name, names[i])) return &presets[i];
    }
    const char *near = nearest_name(name, names, N_PRESET);
    err_set(err, SAIL_USAGE, "unknown method '%s'%s%s%s (`sail methods` lists them)", given, near ? ": did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

/* The value of `key` in defaults like "beta=0.1 tau=0.05", its length in *n; NULL: not there. */
static const char *default_of(const char *defaults, const char *key, size_t n_key, size_t *n)
{
    for (const char *at = defaults; *at; at += strcspn(at, " "), at += *at == ' ') {
        if (strncmp(at, key, n_key) || at[n_key] != '=') continue;
        *n = strcspn(at + n_key + 1, " ");
        return at + n_key + 1;
    }
    return NULL;
}

/* Takes over the defaults of one more row. */
static int merge_defaults(struct method *m, const struct preset *p, const sail_config *config, sail_err *err)
{
    for (const char *at = p->defaults; *at; at += strcspn(at, " "), at += *at == ' ') {
        char key[64];
        const size_t n_key = strcspn(at, "="), n = strcspn(at, " ");
        size_t n_old;
        snprintf(key, sizeof key, "%.*s", (int)n_key, at);
        const char *old = default_of(m->defaults, at, n_key, &n_old);
        if (!old)
            snprintf(m->defaults + strlen(m->defaults), sizeof m->defaults - strlen(m->defaults), "%s%.*s", *m->defaults ? " " : "", (int)n, at);
        else if ((n_old != n - n_key - 1 || strncmp(old, at + n_key + 1, n_old)) && !config_said(config, key))
            return err_set(err, SAIL_USAGE, "--method %s: %s wants %.*s, the methods before it %s=%.*s: give --%s", config->method, p->name, (int)n, at, key, (int)n_old, old, key);
    }
    return SAIL_OK;
}

/* One more row of the sum. */
static int add_method(struct method *m, const struct preset *p, const sail_config *config, sail_err *err)
{
    if (strcmp(p->sampler, "dataset") || strcmp(p->labeler, "dataset"))
        return err_set(err, SAIL_USAGE, "--method %s: a sum is of methods that learn from the data alone, and %s does not: leave it out", config->method, p->name);
    if (strchr(p->objective, ',')) return err_set(err, SAIL_USAGE, "--method %s: %s is a sum itself (%s): name its terms, with --method-weights", config->method, p->name, p->objective);
    if (strstr(p->defaults, "ref_rule=")) return err_set(err, SAIL_USAGE, "--method %s: %s says how the reference moves: name dpo and give --ref-rule", config->method, p->name);
    snprintf(m->objective + strlen(m->objective), sizeof m->objective - strlen(m->objective), "%s%s", *m->objective ? "," : "", p->objective);
    if (!strcmp(p->reference, "init")) m->sum.reference = "init";
    return merge_defaults(m, p, config, err);
}

int method_find(struct method *m, const sail_config *config, sail_err *err)
{
    *m = (struct method){.sum = {.sampler = "dataset", .labeler = "dataset", .reference = "none", .paper = "-"}};
    if (!strchr(config->method, ',')) return (m->preset = preset_find(config->method, err)) ? SAIL_OK : SAIL_USAGE;
    if (strlen(config->method) >= sizeof m->name) return err_set(err, SAIL_USAGE, "--method: a list of more than %zu letters", sizeof m->name - 1);
    char copy[sizeof m->name], *rest = copy;
    strcpy(copy, config->method);
    strcpy(m->name, config->method);
    for (char *name; (name = strsep(&rest, ","));) {
        const struct preset *p = preset_find(name, err);
        int rc = p ? add_method(m, p, config, err) : SAIL_USAGE;
        if (rc) return rc;
    }
    m->sum.name = m->name;
    m->sum.objective = m->objective;
    m->sum.defaults = m->defaults;
    m->preset = &m->sum;
    return SAIL_OK;
}

int preset_apply(const struct preset *p, sail_config *config, sail_err *err)
{
    char *copy = mem_strdup(p->defaults), *save = NULL;
    int rc = SAIL_OK;
    for (char *word = strtok_r(copy, " ", &save); !rc && word; word = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(word, '=');
        *equals = '\0';
        const bool judge = !strcmp(word, "judge_model") || !strcmp(word, "evaluators");
        if (judge && rewarder_given(config) > (config->judge_model || config->evaluators)) continue; // another labeler takes its place
        rc = config_default(config, word, equals + 1, err);
    }
    free(copy);
    return rc;
}
