/* Runs that are asked to stop: in a step's labels, in an evaluation, before the first step. The step is finished, saved, and the message says how to go on; what is
 * gone on with has the bytes of a run that nobody stopped. The labeler is this program: it reads requests, and asks at the wanted one. */
#include "cli/events.h"

#include <jansson.h>
#include <signal.h>

/* "labeler COUNT_FILE N": the reward is the answer's length modulo 5; at the N-th request of all processes that share the file, SIGINT goes to the run. */
static int labeler(const char *count_file, int when)
{
    char line[65536];
    while (fgets(line, sizeof line, stdin)) {
        FILE *f = fopen(count_file, "a+");
        fputc('x', f);
        fclose(f);
        struct stat st;
        stat(count_file, &st);
        if (st.st_size == when) kill(getppid(), SIGINT);
        json_t *q = json_loads(line, 0, NULL), *r = json_array(), *text;
        size_t i;
        json_array_foreach(json_object_get(q, "completions"), i, text) json_array_append_new(r, json_integer((json_int_t)(json_string_length(text) % 5)));
        char *id = json_dumps(json_object_get(q, "id"), JSON_ENCODE_ANY), *rewards = json_dumps(r, 0);
        printf("{\"id\": %s, \"rewards\": %s}\n", id, rewards);
        fflush(stdout);
        free(id);
        free(rewards);
        json_decref(r);
        json_decref(q);
    }
    return 0;
}

static char self[4096];

/* 4 steps of 2 prompts; one request for each of 2 held-out prompts before the first step and after steps 2 and 4, and for 4 samples at steps 0 to 4. */
static int run_until(const char *out, int when, bool resume)
{
    if (!resume) shell("rm -rf %s/%s %s/%s.count", folder, out, folder, out);
    return run_sail("align --model %s --prompts %s/prompts.jsonl --eval-prompts %s/two.jsonl --eval-steps 2 --method online-dpo --batch 2 --max-steps 4 --max-new-tokens 8 --max-length 64 --dtype f32 "
                    "--lora-r 2 --lr 1e-3 --seed 9 --quiet --labeler-command '%s labeler %s/%s.count %d' --out %s/%s %s", model, folder, folder, self, folder, out, resume ? 0 : when, folder, out,
                    resume ? "--resume" : "");
}

static void stopped_runs_are_saved_and_go_on(void **state)
{
    (void)state;
    assert_int_equal(run_until("straight", 0, false), 0);
    assert_events_are_metrics("straight");
    assert_true(crc32c("123456789", 9) == 0xE3069283u); // RFC 3720's check value
    char path[2200];
    struct stat st;
    snprintf(path, sizeof path, "%s/straight.count", folder);
    assert_int_equal(stat(path, &st), 0);
    int stopped = 0;
    for (int when = 1; when <= st.st_size; when++) {
        if (run_until("cut", when, false) == 0) continue; // asked in the last step: the run is over
        stopped++;
        int step = 0;
        const char *said = strstr(output, "interrupted after step ");
        if (!said || sscanf(said, "interrupted after step %d of 4", &step) != 1 || !strstr(said, "go on with `sail align --out") || !strstr(said, "--resume`")) fail_msg("asked at request %d, said: %s", when, output);
        snprintf(path, sizeof path, "%s/cut/checkpoints/step-%d/params.safetensors", folder, step);
        if (path_exists(path) != (step > 0)) fail_msg("asked at request %d, step %d is %ssaved", when, step, step ? "not " : "");
        snprintf(path, sizeof path, "%s/cut/final", folder);
        assert_false(path_exists(path));
        // The command line of a labeler is an option like others: the same one goes on.
        shell("sed -i 's/cut.count %d/cut.count 0/' %s/cut/config.yaml", when, folder);
        if (run_until("cut", when, true)) fail_msg("asked at request %d, going on failed: %s", when, output);
        assert_same_file("straight", "cut", "metrics.jsonl");
        assert_same_file("straight", "cut", "samples.jsonl");
        assert_same_file("straight", "cut", "final/adapter_model.safetensors");
        assert_events_are_metrics("cut");
    }
    assert_true(stopped > 10); // the first of them before there was anything to save: the run starts over
}

static int prepare(void **state)
{
    (void)state;
    if (make_pairs("interrupt", 6)) return -1;
    shell("head -n 2 %s/prompts.jsonl > %s/two.jsonl", folder, folder);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "labeler")) return labeler(argv[2], atoi(argv[3]));
    if (!realpath(argv[0], self)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(stopped_runs_are_saved_and_go_on)};
    return cmocka_run_group_tests(tests, prepare, remove_folder);
}
