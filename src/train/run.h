/* A training run: everything that a step reads and writes. open.c makes it, step.c moves it by one optimizer step, loop.c
 * drives it, checkpoint.c puts it on disk and brings it back. */
#ifndef SAIL_TRAIN_RUN_H
#define SAIL_TRAIN_RUN_H

#include "batch/batch.h"
#include "config/config.h"
#include "data/dataset.h"
#include "data/text_pipeline.h"
#include "model/model.h"
#include "objective/objective.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"
#include "report/run_writer.h"
#include "sample/sampler.h"
#include "train/preset.h"
#include "train/rewarder.h"

/* Which share of the rows takes which route: sail.md 2.5. */
struct mixture {
    double dp, pp, pr;
};
static inline double mixture_offline(struct mixture m) { return 1.0 - m.dp - m.pp - m.pr; }

/* Reference log-probs of data-set rows: computed once, kept, saved with a checkpoint. NaN: not yet. */
struct reference_cache {
    double *logp; /* (n rows, 2): chosen, rejected */
    int64_t n;
};

/* Counts since the start of the run; part of a checkpoint. */
struct run_counts {
    int64_t trained_tokens, sampled_tokens, labels, ties, unlabelled;
};

/* The answers of the newest sampling and their verdicts: what its own step trains on, and with --replay-steps those after it. */
struct sampled_prompt {
    int64_t row; /* of the data or prompts */
    enum route route;
    uint64_t key; /* of its random numbers and of the labeler's request */
    double p;     /* verdict on the two answers as a pair, NaN: none */
    double beats[2]; /* --pairing opponent: P(first, second beat the third); tournament: [0] P(best beats worst) */
    int best, worst; /* --pairing tournament: of its answers */
    bool shared;  /* the second sampler applies to it: --logit-weights, --pairing tilted */
};
struct sampled_answer {
    int32_t n;
    enum finish finish;
    double logp, drawn, reward; /* drawn: under what it was drawn from */
    bool repeats;               /* beyond --max-repetition */
};
struct sampled {
    int64_t born;                  /* the step that sampled */
    int64_t n, k;                  /* prompts, answers of each */
    int64_t n_new;                 /* prompts answered now; those behind them come from earlier iterates, with their verdicts */
    struct sampled_prompt *prompt; /* (batch) */
    struct sampled_answer *answer; /* (batch, k) */
    double *duel;                  /* --pairing duels: (batch, k (k - 1) / 2): P(i beats j), i < j */
    int32_t *ids;                  /* (batch, k, max_new_tokens) */
    struct token_run *runs;        /* --max-repetition: (max_new_tokens), to work in */
};

/* What an answer is drawn from: draws.c. */
struct draw {
    double policy, reference; /* weights of their logits */
    double temperature;       /* over the whole vocabulary; 0: --temperature, --top-k, --top-p */
};
enum { MAX_ANSWERS = 64 }; /* of a prompt: --num-samples */
struct draws {
    int n; /* 1: one for all answers */
    struct draw of[MAX_ANSWERS];
};

/* How the reference follows the policy: reference.c. */
struct reference_rule {
    const char *name;
    bool moves, blends; /* blends: a share --ref-decay of the old reference stays */
    int64_t steps;      /* optimizer steps between moves unless --ref-steps says otherwise */
};
const struct reference_rule *reference_rule_find(const char *name);

/* Trained parameters, then optimizer state, as one vector: point.c. */
struct point {
    float *value;
    int64_t steps;
};
struct two_level; /* two_level.c */
struct archive;   /* archive.c */

struct run;
/* Which answers of a prompt meet: pairing.c. */
struct pairing {
    const char *name;
    /* Pairs (i, j) among k answers into out (room for k (k - 1) / 2); reward, in label temperatures, NULL: nobody judged. u: uniform in [0, 1). */
    int (*choose)(int k, const double *reward, double u, int (*out)[2]);
    bool needs_reward, skews; /* skews: a chosen pair is no fair draw of two answers */
    bool all;                 /* every pair: room for them */
    /* The labeler's part where a pair is not judged by itself: ask about the answers of prompt i from row `first` on, and what came of it. NULL: labels.c's own. */
    int (*ask)(struct run *r, int64_t i, int64_t first, sail_err *err);
    struct pair (*pair)(const struct run *r, int64_t i, int64_t first, const int *of);
    double (*weight)(int k, const double *reward); /* of a pair beside a random one; such a pairing is a second sampler. NULL: 1 */
};
const struct pairing *pairing_find(const char *name);
/* opponent.c */
int opponent_ask(struct run *r, int64_t i, int64_t first, sail_err *err);
struct pair opponent_pair(const struct run *r, int64_t i, int64_t first, const int *of);
int opponent_check(const struct run *r, sail_err *err);
/* duels.c */
int duels_ask(struct run *r, int64_t i, int64_t first, sail_err *err);
struct pair duels_pair(const struct run *r, int64_t i, int64_t first, const int *of);
int duels_check(const struct run *r, sail_err *err); /* and a tournament's */
/* tournament.c: of k answers those that the judge puts first and last, and P(best beats worst); NaN: a meeting had no verdict, or all is one. meet: P(x beats y). */
typedef int meet_function(void *context, int x, int y, double *p, sail_err *err);
int tournament_play(int k, meet_function *meet, void *context, int *best, int *worst, double *p, sail_err *err);
int tournament_ask(struct run *r, int64_t i, int64_t first, sail_err *err);
struct pair tournament_pair(const struct run *r, int64_t i, int64_t first, const int *of);
/* tilt.c */
int tilt_choose(int k, const double *reward, double u, int (*out)[2]);
double tilt_weight(int k, const double *reward);
/* Takes unlabelled pairs, and rows that no pair is left of, out of the table; with `reference` the reference's answers stay. */
void batch_keep_paired(struct batch *b, bool reference);

/* Seconds of the phases of one step. */
struct step_timing {
    double data, sample, label, reference, forward, backward, optimizer, total; /* data: taking the step's rows; where all is scored first, that is forward, and backward has a forward of its own */
    double io;      /* writing the metrics, after the step: not in total */
    int64_t tokens; /* prompt + completion of the trained sequences */
};

/* What one step measured; the loop turns it into metrics. */
struct step_result {
    struct objective_stats stats;
    double scale, grad_norm, learning_rate;
    double length_coef; /* what a character cost in the implicit reward; NaN without it */
    double param_norm; /* before --param-bound projected it; NaN without */
    double kl, score, score_margin, eos_share, answer_length, repeats; /* over sampled rows; NaN without any (repeats: without --max-repetition) */
    double reward_loss, reward_accuracy, reward_margin, judged; /* of a reward model that the run trains; judged: the labeler's mean reward of the answers that it learns from */
    double drift_mean, drift_max;                             /* |sampled - scored| per token */
    double blend_kl;                                          /* KL(what was drawn from || policy) over blended answers; NaN without any */
    double logp_chosen, logp_rejected;
    int64_t n_pair, n_weighted; /* n_weighted: pairs of answers that the policy as it is did not draw */
    struct step_timing timing;
};

struct run {
    sail_config *config; /* resolved */
    struct method method;
    const struct preset *preset; /* method.preset */
    const struct objective *objective;
    struct objective_params params;
    struct mixture mixture;
    bool pairs;          /* rows come in pairs */
    bool unpaired, mismatched; /* rows come one by one, each desirable or not; beside each a mismatched one */
    bool imitates;       /* rows are answers to be written as they are: sft */
    bool groups;         /* rows are the judged answers of prompts */
    bool needs_reference, shifts; /* shifts: the objective reads the column shift */
    bool reward;         /* a reward model is trained: the column logp holds scores */
    const struct reference_rule *reference_rule;

    struct text_pipeline text;
    struct dataset *data, *prompts, *eval, *eval_prompts; /* prompts: what online rows and samples start from */
    double data_s;                         /* seconds that reading and tokenizing them took */
    int64_t longest;                       /* most tokens of a sequence: --max-length within the model's context */
    struct rewarder *rewarder;             /* NULL: no route asks for one */
    struct rewarder *fitted;               /* labels what the run learns from in the other's place; NULL: that one does */

    struct self_judge *self_judge;         /* NULL: not asked for */

    struct model *model, *reference_model; /* reference_model: only when it is another file or the policy is trained in full */
    struct adapter *adapter, *reference_adapter;
    struct policy policy, reference;
    struct policy init; /* what the policy was at first: where the objective ties it to that beside a reference that moves */
    struct adapter *init_adapter;
    struct reference_cache cache, eval_cache;
    int64_t reference_rows; /* that it has scored so far */

    struct pull {
        struct predictions of; /* the reference's, for the slice that is trained on */
        float *weight, *kl;    /* (tokens of a batch) */
    } pull;

    struct optimizer *optimizer;
    struct point start; /* --extragradient: of the step under way */
    struct archive *archive;     /* NULL: every prompt is answered anew */
    struct two_level *two_level; /* NULL: the objective trains no reward model */
    uint64_t stream; /* added to the step in what is drawn: looking ahead has random numbers of its own */
    struct schedule schedule;
    struct optim_param *param;
    int64_t n_param;

    struct sampler *sampler, *reference_sampler; /* reference_sampler: only when the reference is another model */
    struct sampler_options sampling;
    struct draws draws;

    struct batch batch;
    struct pair *slice_pair; /* room for the pairs of a micro-batch */
    const struct pairing *pairing;
    struct sampled sampled;
    int32_t *ids;            /* the step's sequences, one after the other */
    int64_t n_ids, ids_capacity;
    struct prompt *online;   /* (batch) prompts to sample from in this step */
    struct prompt *drawn_prompt; /* (batch) those of them whose answers are drawn alike */
    int64_t *anchor_order;   /* the permutation in which prompts are met for KL(reference || policy) */
    int64_t anchor_order_epoch;
    int64_t *drawn;          /* (batch) unpaired data rows of this step */
    int64_t *order;          /* the epoch's permutation of the data */
    int64_t order_epoch;
    int64_t *prompt_order;
    int64_t prompt_order_epoch;

    int64_t step, total_steps; /* optimizer steps done, and to do in all */
    struct run_counts counts;
    struct running_mean shift; /* bco: of the implicit rewards, part of a checkpoint */
    double best;               /* of --keep-best */
    struct run_writer *writer;
};

int run_open(struct run **out, const sail_config *config, sail_err *err);
int run_label_by(struct run *r, const sail_config *labeler, sail_err *err); /* what the run learns from is labelled by these options; its own labeler goes on scoring samples and evaluations */
/* What can be refused without opening anything; resolves the method's defaults into the config. */
int run_check(sail_config *config, sail_err *err);
int run_refuse(const struct run *r, sail_err *err); /* contradictions between the method and its options */
bool run_scores_sampler(const struct run *r); /* the update holds the gradient of the sampler itself, a score term */
void run_close(struct run *r);
int run_dry(const struct run *r, FILE *out, sail_err *err); /* the resolved method and the memory plan */

/* rollout.c: fills the batch's rows for the current step: data-set rows with their pairs, and sampled answers, those of prompt i from row
 * `first online row + i k` on. */
int rollout_fill(struct run *r, struct step_result *result, sail_err *err);
int64_t rollout_add_row(struct run *r, const int32_t *prompt, int64_t n_prompt, const int32_t *completion, int64_t n_tok, int64_t prompt_id, int64_t group);
/* The row of a data set that the g-th visit of the run meets: a new permutation every epoch. */
int64_t rollout_visit(int64_t *order, int64_t *order_epoch, int64_t n, int64_t g, uint64_t seed, uint64_t salt);
/* groups.c: what group objectives cannot learn from is refused; rows without a reward, and groups with fewer than two, leave the table (returns how many rows). */
int groups_check(const struct run *r, sail_err *err);
int64_t groups_keep_judged(struct batch *b);
int64_t groups_count(const struct batch *b);
/* candidates.c: the answers of a prompt, those of the policy first, then the reference's, then the data row's. */
int64_t candidates_count(const struct run *r);
enum source candidates_source(const struct run *r, const struct sampled_prompt *prompt, int64_t k); /* of its k-th answer */
int candidates_check(const struct run *r, sail_err *err);
int candidates_sample(struct run *r, sail_err *err);
void candidates_store(struct run *r, int64_t i, int64_t k, const struct answer *y); /* y becomes the k-th answer of prompt i */
/* anchor.c: fresh answers of the reference for KL(reference || policy), whole rows without a pair; counts the reference's answers in the batch. */
bool anchors_wanted(const struct run *r);
int anchors_fill(struct run *r, struct step_result *result, sail_err *err);
/* Answers of the reference; the memory belongs to its sampler. stream: keeps their random numbers apart from other draws'. */
int reference_draw(struct run *r, const struct prompt *prompt, int64_t n, struct sampler_options o, uint64_t stream, struct answer **answers, sail_err *err);
int reference_reserve(struct run *r, int64_t longest, sail_err *err); /* room for every step's, the longest prompt of so many tokens */
bool run_keep_sampling(void *r, int64_t done, int64_t tokens); /* progress; always true: an interrupt waits for the end of the step */
/* draws.c: --logit-weights; what a run cannot draw from is refused; the policy's answers (--num-samples) to the step's prompts, blended or not. */
int draws_parse(struct draws *d, const char *text, sail_err *err);
int draws_check(const struct run *r, bool scores_sampler, sail_err *err);
bool draws_share(const struct run *r, int64_t step, int64_t row);
struct draw draw_of(const struct run *r, const struct sampled_prompt *prompt, int64_t k);
enum source draw_source(struct draw d);
int draws_sample(struct run *r, sail_err *err);
int draws_reserve(struct run *r, int64_t longest, sail_err *err); /* the sampler's room for every step's prompts, the longest of so many tokens */
/* pull.c: model_backward of a slice after model_forward, and of the whole batch; with the KL over the whole vocabulary where it is asked for, whose value joins the loss. */
bool pull_wanted(const struct run *r);
int pull_open(struct run *r, sail_err *err);
int pull_backward(struct run *r, const struct batch *slice, struct step_result *result, sail_err *err);
int pull_accumulate(struct run *r, struct step_result *result, sail_err *err);
void pull_close(struct run *r);
/* reference.c: refuses rules that the run cannot follow; after a step, moves the reference when it is time. */
int reference_check(const struct run *r, sail_err *err);
void reference_follow(struct run *r);
void reference_forget(struct run *r); /* what rows score under it: it is computed again */
int64_t reference_steps(const struct run *r); /* between two moves */
/* Adds one data-set row (sft) or pair to the batch. */
void rollout_add_dataset(struct run *r, const struct dataset *d, int64_t row, enum route route);
/* Adds n unpaired data-set rows to the batch, each with its mismatched row behind it where the method asks for one. */
void rollout_add_unpaired(struct run *r, const struct dataset *d, const int64_t *rows, int64_t n);
/* unpaired.c: refuses data that an unpaired method can't learn from. */
int unpaired_check(const struct run *r, const struct dataset *d, sail_err *err);
int64_t unpaired_longest(const struct run *r); /* tokens of the longest mismatched row */
void batch_drop_mismatched(struct batch *b);   /* once the objective has read them */
/* replay.c: steps since the answers of the current step were sampled; weights of a slice's pairs that an older policy drew, or this one at another temperature, from their log-probs. result NULL: not
 * counted. */
int64_t replay_age(const struct run *r);
void replay_weigh(const struct run *r, struct batch *slice, struct step_result *result);
/* The answers as numbers for a checkpoint: size of the vector, to it and back. */
int64_t replay_size(const struct run *r);
bool replay_whole(double x, double low, double high); /* a whole number from low to high, as those that a checkpoint holds must be */
void replay_pack(const struct run *r, double *out);
int replay_unpack(struct run *r, const double *in, sail_err *err);
/* labels.c: rewards of sampled rows and their pairs; ties and missing verdicts are counted and dropped. */
/* Asks the labeler about some answers of prompt i: reward (n), and for two of them P(first beats second) where that is how it judges, else NaN. */
int labels_ask(struct run *r, int64_t i, int64_t first, const int *which, int n, double *reward, double *p, sail_err *err);
/* The same about answers that are no rows: q without key, prompt_text and row, which are those of prompt i. */
int labels_ask_texts(struct run *r, int64_t i, struct reward_request q, double *reward, double *p, sail_err *err);
double labels_uniform(const struct run *r, int64_t i, int64_t index); /* in [0, 1), of prompt i of the step */
struct pair labels_verdict(const struct run *r, int64_t i, int64_t first, const int *of, double p); /* from p = P(of[0] beats of[1]), by --pr-label */
int labels_fill(struct run *r, struct step_result *result, sail_err *err);
/* scorer.c: log ref of a slice of the batch, in the same packing as the policy's forward so that h is exactly 0 at the start. */
int reference_score(struct run *r, struct batch *slice, struct reference_cache *cache, sail_err *err);
struct sequences batch_sequences(const struct batch *b);
/* The same for a forward of the policy, which fills what the run's weights need besides log-probs. */
struct sequences policy_sequences(const struct run *r, const struct batch *b);
/* Rows of the next micro-batch from row `from`: whole groups within the token budget and --micro-batch. */
int64_t micro_rows(const struct run *r, const struct batch *b, int64_t from);

/* implicit.c: rewards of the n answers from row `first` on, from the policy itself; then, all prompts asked, the cost of their lengths is taken off and told in *coef. */
int implicit_check(const struct run *r, sail_err *err);
int implicit_ask(struct run *r, int64_t first, int n, double *reward, sail_err *err);
int implicit_correct(struct run *r, double *coef, sail_err *err);

/* prefixes.c: --prefix-endings: the step's answers become beginnings of themselves, judged. */
int prefixes_check(const struct run *r, bool scores_sampler, sail_err *err);
int prefixes_judge(struct run *r, sail_err *err);
/* Tokens *cut that stay of n, chosen by u in [0, 1) among the places in the first 0.7; 0: there is none. room: (n). */
int prefix_cut(const struct tokenizer *tokenizer, bool lines, const int32_t *ids, int32_t n, double u, int32_t *room, int32_t *cut, sail_err *err);

/* self_judge.c: P(first of two answers beats the second) as the policy says when it is asked; NaN where the question is too long for it. */
int self_judge_check(const struct run *r, sail_err *err);
int self_judge_open(struct self_judge **out, const sail_config *c, const struct text_pipeline *text, sail_err *err);
int self_judge_ask(const struct self_judge *j, struct policy policy, const struct reward_request *q, double *p, sail_err *err);
void self_judge_close(struct self_judge *j);

/* point.c: keeps the point that the run is at, goes back to one that was kept, changes places with it. value: free() it. */
int64_t point_count(const struct run *r);
int point_open(struct run *r, struct point *at, sail_err *err);
void point_keep(struct run *r, struct point *at);
void point_return(struct run *r, struct point *at);
void point_exchange(struct run *r, struct point *at);

/* archive.c: --replay-iterates. Whether row j of the step takes answers of an earlier iterate; they become the sampled prompt behind the last; prompt i with its verdicts is kept for later ones. */
int archive_check(const struct run *r, bool scores_sampler, sail_err *err);
int archive_open(struct run *r, sail_err *err);
bool archive_takes(struct run *r, int64_t j);
void archive_recall(struct run *r, int64_t j);
int archive_keep(struct run *r, int64_t i, sail_err *err);
int archive_write(const struct run *r, const char *folder, sail_err *err); /* into a checkpoint, and back */
int archive_read(struct run *r, const char *folder, sail_err *err);
void archive_close(struct archive *a);

/* two_level.c: the reward model that the run trains, and its second policy. A step of the second policy, on verdicts; scores of the answers by the reward model, whose gradient they add to; the
 * reward model's own step, once the first policy has taken its. */
int two_level_check(const struct run *r, sail_err *err);
int two_level_open(struct run *r, sail_err *err);
void two_level_enter(struct run *r, bool second);
int two_level_score(struct run *r, sail_err *err);
int two_level_learn(struct run *r, struct step_result *result, sail_err *err);
int two_level_write(const struct run *r, const char *folder, sail_err *err); /* into a checkpoint, and back */
int two_level_read(struct run *r, const char *folder, sail_err *err);
void two_level_resume(struct run *r); /* once the run's step is known */
int two_level_save(const struct run *r, sail_err *err); /* OUT/reward: the reward model's adapter */
struct model_memory two_level_memory(const struct run *r, size_t *trained, size_t *state);
void two_level_close(struct two_level *t);

/* open.c */
struct lora_options run_lora(const sail_config *c);
int run_open_optimizer(struct optimizer **out, struct optim_param **param, int64_t *n_param, struct policy p, const sail_config *c, sail_err *err);

/* step.c: one optimizer step. SAIL_FAILED with "not finite" leaves the parameters as they were. */
void step_measure(struct run *r, struct step_result *result); /* of a step whose rows are scored and whose objective ran */
int run_step(struct run *r, struct step_result *result, sail_err *err);
int step_refuse(const struct run *r, const char *whose, double loss, double norm, sail_err *err); /* says that a loss or a gradient is not finite */

/* validate.c: the objective on held-out rows, without gradients. */
int run_validate(struct run *r, double *loss, struct metric *metric, int *n_metric, sail_err *err);

/* checkpoint.c */
int checkpoint_save(struct run *r, sail_err *err);
int64_t checkpoint_newest(const struct run *r); /* its step, -1: none */
int checkpoint_load_newest(struct run *r, bool *found, sail_err *err);
int final_save(struct run *r, sail_err *err);
int policy_save(const struct run *r, const char *path, sail_err *err); /* the policy as it is: an adapter's or a model's folder */

/* loop.c: what a step measured, into metrics.jsonl and timing.jsonl; sets timing.io. */
int run_record(struct run *r, struct step_result *result, sail_err *err);
/* Runs to step `until` and leaves a checkpoint there, or to the end, or to an interrupt (then saves and says how to go on). */
int run_loop(struct run *r, int64_t until, sail_err *err);

#endif
