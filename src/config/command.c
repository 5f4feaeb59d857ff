#include "config/command.h"

#include <string.h>

static const char bench_output[] =
    "  train      steps of --method on --data (labelers, samplers and all), as `sail align` takes them: ms of data, sample, label, score, forward,\n"
    "             backward, optimizer and io; seconds until the first step; what reading and tokenizing take of a step\n"
    "  score      log-probs of the rows of --data, --batch pairs at a time: ms of data and score\n"
    "  generate   --batch answers at once to --prompts, or to prompts of --prompt-length made-up tokens: ms of prefill and decode, each beside the\n"
    "             processor's peak, decoding beside the memory's speed too\n"
    "  tokenize   the lines of --text-file, on one core\n"
    "\n"
    "--steps of them are timed after one or two to warm up. The first three print pairs/s (generate: none) and tokens/s, useful GFLOP/s (shared\n"
    "prompts once, no padding, nothing computed again) and their share of the peak that the same process measures, the most memory held,\n"
    "allocations a step, and the machine. --json: one line with these keys, among others: pairs_per_s, tokens_per_s, s_per_step, ms_per_step,\n"
    "useful_gflops, peak_gflops, share_of_peak, gflop_per_step, peak_rss_mib, allocations_per_step, machine.\n\n";

static const struct command_row commands[] = {
    {CMD_ALIGN, "align", "align a model online or offline (DPO, SAIL, ...)", "sail align --model DIR --data F.jsonl --out RUN [--method NAME]", false, NULL},
    {CMD_SFT, "sft", "supervised fine-tuning on completions", "sail sft --model DIR --data F.jsonl --out RUN", false, NULL},
    {CMD_REWARD, "reward", "train a reward model on preference pairs", "sail reward --model DIR --data PAIRS.jsonl --out RUN [--eval-data HELD.jsonl]", false, NULL},
    {CMD_EVAL, "eval", "reward, win rate, KL, perplexity of a model", "sail eval --model DIR --data F.jsonl [--prompts P.jsonl]", false, NULL},
    {CMD_LABEL, "label", "preference pairs from sampled answers and a labeler", "sail label --model DIR --prompts P.jsonl --data ANSWERS.jsonl --reward-rule F --out PAIRS.jsonl", false, NULL},
    {CMD_GENERATE, "generate", "sample answers", "sail generate --model DIR --prompts P.jsonl --out O.jsonl", false, NULL},
    {CMD_SCORE, "score", "log-probs of given completions, or rewards", "sail score --model DIR --data F.jsonl --out O.jsonl", false, NULL},
    {CMD_GRAD, "grad", "the gradient of one batch, as safetensors", "sail grad --model DIR --data F.jsonl --method NAME --out G.safetensors", false, NULL},
    {CMD_TOKENIZE, "tokenize", "text to ids and back", "sail tokenize --model DIR (--text-file F | --json-file F)", false, NULL},
    {CMD_TEMPLATE, "template", "render chats with the model's template", "sail template --model DIR --messages F.jsonl", false, NULL},
    {CMD_INSPECT, "inspect", "what a model is and what it needs", "sail inspect DIR|FILE.gguf [--json]", true, NULL},
    {CMD_CONVERT, "convert", "between Hugging Face folders and GGUF files; merge an adapter", "sail convert --model DIR_OR_GGUF --out DIR|FILE.gguf [--merge ADAPTER]", false, NULL},
    {CMD_COMPARE, "compare", "methods x seeds on equal terms, one page", "sail compare --config study.yaml --out DIR", false, NULL},
    {CMD_METHODS, "methods", "the table of methods", "sail methods [--json]", false, NULL},
    {CMD_REPORT, "report", "write a run's report.html again", "sail report RUN", true, NULL},
    {CMD_BENCH, "bench", "speed on this machine", "sail bench train|score|generate|tokenize --model DIR ...", true, bench_output},
};

const struct command_row *command_at(int i)
{
    return i >= 0 && i < (int)(sizeof commands / sizeof *commands) ? &commands[i] : NULL;
}

const struct command_row *command_find(const char *name)
{
    for (int i = 0; command_at(i); i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    return NULL;
}

/* Levenshtein distance, rows of at most 64 letters. */
static int edit_distance(const char *a, const char *b)
{
    int na = (int)strlen(a), nb = (int)strlen(b), row[65];
    if (na > 64 || nb > 64) return 64;
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best) best = above + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
            diagonal = above;
        }
    }
    return row[nb];
}

const char *nearest_name(const char *typed, const char *const *names, int n)
{
    int best = (int)strlen(typed) / 3 + 2; // a letter or two, more in long names
    const char *found = NULL;
    for (int i = 0; i < n; i++) {
        int d = edit_distance(typed, names[i]);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}
