/* Data sets: files of rows in TRL's formats, to token ids. The format is detected; mistakes name file and line (in arrays and Parquet: row). */
#ifndef SAIL_DATA_DATASET_H
#define SAIL_DATA_DATASET_H

#include <jansson.h>

#include "data/columns.h"
#include "data/files.h"
#include "sail.h"
#include "template/template.h"
#include "tok/tokenizer.h"

enum data_kind {
    DATA_PROMPTS,    /* {"prompt"} */
    DATA_COMPLETION, /* {"prompt","completion"} (and {"text"} / {"messages"}: empty prompt, all of it completion) */
    DATA_PREFERENCE, /* {"prompt","chosen","rejected"}, or implicit */
    DATA_UNPAIRED,   /* {"prompt","completion","label"} */
};

/* A token list of a row: offset into the data set's id pool. */
struct span {
    int64_t start;
    int32_t n;
};
struct example {
    struct span prompt, completion, chosen, rejected;
    bool label;         /* unpaired */
    double p;           /* P(chosen wins), default 1 */
    double margin;      /* default 0 */
    char route[12];     /* "offline", "dp", "pp", "pr": `sail grad` rows */
    int32_t file;       /* of the data set's files */
    int64_t line;       /* 1-based, for messages: line, or row of an array or Parquet file */
    int64_t text;       /* offset into the text pool: the prompt as text (rendered), NUL-terminated; -1: rows of ids */
};

struct dataset_options {
    const struct tokenizer *tokenizer;   /* NULL: rows of ids only */
    const struct chat_template *template; /* NULL: conversational rows are refused */
    int32_t eos;          /* appended once to text completions that lack it; -1: none */
    int32_t turn_end;     /* what the template ends a turn with, for conversational rows; -1: use eos */
    int64_t max_length, max_prompt_length; /* 0: no limit. The prompt keeps its end, the completion its start */
    int64_t max_rows;     /* 0: all */
    bool assistant_only;    /* of conversational rows the loss counts what the template's {% generation %} blocks write, nothing else */
    bool want_prompts_only; /* preference files are read as their prompts */
    struct columns columns;
};
struct dataset {
    char *path; /* as the user said it */
    struct data_files files;
    enum data_kind kind;
    bool conversational;
    struct example *example;
    int64_t n;
    int32_t *ids; /* the pool */
    unsigned char *counted; /* beside it: whether the loss counts the token of a completion; NULL: it counts all */
    char *text;
    json_t **row; /* (n) the original rows, for labelers and templates */
    int64_t n_truncated_prompts, n_truncated_completions, n_truncated_tokens;
};
/* Whole files. Errors: "train.jsonl:12: 'chosen[0].content': expected a string or a list of parts, got a number". */
int dataset_open(struct dataset **out, const char *path, const struct dataset_options *o, sail_err *err);
void dataset_free(struct dataset *d);
/* The rows are not of the kind that is `expected`: names the first one, or says that there is none. Returns code. */
int dataset_refuse(const struct dataset *d, int code, const char *expected, sail_err *err);
static inline const char *dataset_file(const struct dataset *d, const struct example *e) { return d->files.path[e->file]; }
static inline const int32_t *dataset_ids(const struct dataset *d, struct span s) { return d->ids + s.start; }
static inline const unsigned char *dataset_counted(const struct dataset *d, struct span s) { return d->counted ? d->counted + s.start : NULL; }

/* unpaired.c: each preference row becomes two unpaired ones, chosen (label true) then rejected. */
int dataset_unpair(struct dataset *d, sail_err *err);
/* Takes out the rows whose label is false, how many in *dropped: what is to be imitated. None is left: refused. */
int dataset_keep_desirable(struct dataset *d, int64_t *dropped, sail_err *err);
/* Of rows[0..n): the row after the i-th, cyclically, that has another prompt; -1: none has. */
int64_t dataset_mismatch(const struct dataset *d, const int64_t *rows, int64_t n, int64_t i);

#endif
