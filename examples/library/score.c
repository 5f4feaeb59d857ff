/* The log-probs of a file's completions, from a C program: what `sail score` does, through libsail.
 *   cc score.c $(pkg-config --cflags --libs sail) -o score && ./score MODEL ROWS.jsonl OUT.jsonl */
#include <sail.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: score MODEL ROWS.jsonl OUT.jsonl\n");
        return 2;
    }
    sail_err err;
    sail_config *config;
    int rc = sail_config_create(&config, "score", &err);
    if (!rc) rc = sail_config_set(config, "model", argv[1], &err);
    if (!rc) rc = sail_config_set(config, "data", argv[2], &err);
    if (!rc) rc = sail_config_set(config, "out", argv[3], &err);
    if (!rc) rc = sail_run(config, &err);
    if (rc) fprintf(stderr, "score: %s\n", err.message);
    sail_config_free(config);
    return sail_exit_code(rc);
}
