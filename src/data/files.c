#include "data/files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

enum { MAX_FILES = 100000 };

struct shard {
    char *name;
    char *split;       /* its name without what counts shards: "train-00000-of-00002.parquet", "train_1.jsonl": train */
    bool is_split;     /* a name for a split, not just any file's */
    int64_t index, of; /* of a counted shard; of 0: not counted */
};
struct folder {
    const char *path;
    struct shard *shard;
    size_t n, capacity;
    bool has_arrow;
};

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n > m && !strcmp(s + n - m, end);
}

/* Length of the name before a data file's ending; 0: it is none. */
static size_t stem_length(const char *name)
{
    static const char *const ending[] = {".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet"};
    static const char *const about[] = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"}; // what libraries leave beside the data
    for (size_t i = 0; i < sizeof about / sizeof *about; i++)
        if (!strcmp(name, about[i])) return 0;
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        if (ends_with(name, ending[i])) return strlen(name) - strlen(ending[i]);
    return 0;
}

/* "NAME-00001-of-00003": the length of NAME, 0 when the name is not of that kind. */
static size_t parse_count(const char *stem, int64_t *index, int64_t *of)
{
    const size_t n = strlen(stem);
    size_t i = n;
    while (i && isdigit((unsigned char)stem[i - 1])) i--;
    if (i == n || n - i > 9 || i < 5 || strncmp(stem + i - 4, "-of-", 4)) return 0;
    size_t j = i - 4;
    const size_t end = j;
    while (j && isdigit((unsigned char)stem[j - 1])) j--;
    if (j == end || end - j > 9 || j < 2 || stem[j - 1] != '-') return 0;
    *index = strtoll(stem + j, NULL, 10);
    *of = strtoll(stem + i, NULL, 10);
    return j - 1;
}

static bool begins_like_a_split(const char *stem)
{
    static const char *const word[] = {"train", "training", "test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev"};
    size_t n = 0;
    while (isalpha((unsigned char)stem[n])) n++;
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (strlen(word[i]) == n && !strncmp(word[i], stem, n)) return true;
    return false;
}

static void name_split(struct shard *s, size_t stem)
{
    s->split = mem_printf("%.*s", (int)stem, s->name);
    size_t n = parse_count(s->split, &s->index, &s->of);
    s->is_split = n > 0;
    if (!n) { // train_1.jsonl, train-part-2.jsonl
        n = stem;
        while (n && isdigit((unsigned char)s->split[n - 1])) n--;
        while (n && n < stem && strchr("-_.", s->split[n - 1])) n--;
        if (!n) n = stem;
        s->is_split = begins_like_a_split(s->split);
    }
    s->split[n] = '\0';
}

/* By split; counted shards in their order, others by name. */
static int in_order(const void *a, const void *b)
{
    const struct shard *x = a, *y = b;
    const int by_split = strcmp(x->split, y->split);
    if (by_split) return by_split;
    if (x->of != y->of) return x->of < y->of ? -1 : 1;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void folder_release(struct folder *f)
{
    for (size_t i = 0; i < f->n; i++) {
        free(f->shard[i].name);
        free(f->shard[i].split);
    }
    free(f->shard);
    *f = (struct folder){0};
}

static int folder_read(struct folder *f, const char *path, sail_err *err)
{
    *f = (struct folder){.path = path};
    DIR *d = opendir(path);
    if (!d) return err_set(err, SAIL_FAILED, "%s: cannot read the folder: %s", path, strerror(errno));
    int rc = SAIL_OK;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        const size_t stem = stem_length(e->d_name);
        char *inner = path_join(path, e->d_name);
        f->has_arrow |= ends_with(e->d_name, ".arrow");
        if (e->d_name[0] != '.' && stem && !path_is_dir(inner)) {
            rc = f->n < MAX_FILES ? mem_grow(&f->shard, f->n, &f->capacity, sizeof *f->shard, err) : err_set(err, SAIL_FAILED, "%s: more than %d files", path, MAX_FILES);
            if (!rc) {
                f->shard[f->n] = (struct shard){.name = mem_strdup(e->d_name)};
                name_split(&f->shard[f->n++], stem);
            }
        }
        free(inner);
    }
    closedir(d);
    if (f->n) qsort(f->shard, f->n, sizeof *f->shard, in_order);
    if (rc) folder_release(f);
    return rc;
}

/* ---------------------------------------------------------------- splits */

/* "test, train", each once. */
static char *list_splits(const struct folder *f)
{
    struct buf b;
    buf_init(&b, 4096);
    for (size_t i = 0; i < f->n; i++)
        if (!i || strcmp(f->shard[i - 1].split, f->shard[i].split)) buf_printf(&b, "%s%s", b.len ? ", " : "", f->shard[i].split);
    char *text = mem_strdup(b.data ? b.data : "none");
    buf_release(&b);
    return text;
}

/* The whole folder is one data set: shards without names of splits, or of a single split. */
static int check_one_split(const struct folder *f, const char *name, sail_err *err)
{
    for (size_t i = 1; i < f->n; i++) {
        const struct shard *a = &f->shard[0], *b = &f->shard[i];
        if (a->is_split == b->is_split && (!a->is_split || !strcmp(a->split, b->split))) continue;
        char *splits = list_splits(f);
        int rc = err_set(err, SAIL_USAGE, "%s: the folder holds more than one split (%s): say which, %s:%s", name, splits, name, b->is_split ? b->split : a->split);
        free(splits);
        return rc;
    }
    return SAIL_OK;
}

static void keep_split(struct folder *f, const char *split)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        struct shard s = f->shard[i];
        if (!strcmp(s.split, split)) {
            f->shard[kept++] = s;
            continue;
        }
        free(s.name);
        free(s.split);
    }
    f->n = kept;
}

/* Counted shards must all be there: a download that stopped is not a smaller data set. */
static int check_complete(const struct folder *f, sail_err *err)
{
    int64_t next = 0;
    for (size_t i = 0; i < f->n; i++) {
        const struct shard *s = &f->shard[i], *after = i + 1 < f->n ? s + 1 : NULL;
        if (!s->of) continue;
        if (s->index != next++) return err_set(err, SAIL_FAILED, "%s: %s: expected shard %lld of %lld here", f->path, s->name, (long long)next - 1, (long long)s->of);
        if (after && after->of == s->of && !strcmp(after->split, s->split)) continue;
        if (next != s->of)
            return err_set(err, SAIL_FAILED, "%s: shards %lld to %lld of %lld are missing after %s", f->path, (long long)next, (long long)s->of - 1, (long long)s->of, s->name);
        next = 0;
    }
    return SAIL_OK;
}

static int take_files(struct data_files *out, const struct folder *f, sail_err *err)
{
    int rc = check_complete(f, err);
    if (!rc) rc = mem_alloc(&out->path, f->n, sizeof *out->path, err);
    for (size_t i = 0; !rc && i < f->n; i++) out->path[out->n++] = path_join(f->path, f->shard[i].name);
    return rc;
}

/* *found: the folder has such files. */
static int try_folder(struct data_files *out, const char *path, const char *name, const char *split, bool *found, sail_err *err)
{
    struct folder f;
    *found = false;
    if (!path_is_dir(path)) return SAIL_OK;
    int rc = folder_read(&f, path, err);
    if (rc) return rc;
    if (split) keep_split(&f, split);
    *found = f.n > 0;
    if (*found) rc = split ? SAIL_OK : check_one_split(&f, name, err);
    if (*found && !rc) rc = take_files(out, &f, err);
    folder_release(&f);
    return rc;
}

static int refuse_folder(const char *folder, const char *split, sail_err *err)
{
    struct folder f;
    int rc = folder_read(&f, folder, err);
    if (rc) return rc;
    if (split) {
        char *splits = list_splits(&f);
        rc = err_set(err, SAIL_USAGE, "%s: there is no split '%s': neither such files (found: %s) nor a folder of that name", folder, split, splits);
        free(splits);
    } else {
        rc = err_set(err, SAIL_USAGE, "%s: the folder holds no data files: expected *.jsonl, *.json or *.parquet%s", folder,
                     f.has_arrow ? "; .arrow files are not read (datasets: to_parquet or to_json)" : ", or DIR:split where the splits are folders");
    }
    folder_release(&f);
    return rc;
}

/* As hubs lay data out: files in the folder or in its data/, or folders named by the split in either. */
static int find_in_folder(struct data_files *out, const char *folder, const char *name, const char *split, sail_err *err)
{
    char *data = path_join(folder, "data"), *own = path_join(folder, split ? split : ""), *in_data = path_join(data, split ? split : "");
    bool found;
    int rc = try_folder(out, folder, name, split, &found, err);
    if (!rc && !found) rc = try_folder(out, data, name, split, &found, err);
    if (!rc && !found && split) rc = try_folder(out, own, name, NULL, &found, err);
    if (!rc && !found && split) rc = try_folder(out, in_data, name, NULL, &found, err);
    if (!rc && !found) rc = refuse_folder(folder, split, err);
    free(data);
    free(own);
    free(in_data);
    return rc;
}

int data_files_find(struct data_files *out, const char *name, sail_err *err)
{
    *out = (struct data_files){0};
    const char *colon = strrchr(name, ':');
    char *folder = colon ? mem_printf("%.*s", (int)(colon - name), name) : mem_strdup(name);
    int rc;
    if (path_is_dir(name)) {
        rc = find_in_folder(out, name, name, NULL, err);
    } else if (!path_exists(name) && colon && path_is_dir(folder)) {
        rc = colon[1] && !strchr(colon, '/') ? find_in_folder(out, folder, name, colon + 1, err) : err_set(err, SAIL_USAGE, "%s: expected the name of a split after ':'", name);
    } else if (!path_exists(name) && colon && path_exists(folder)) {
        rc = err_set(err, SAIL_USAGE, "%s: %s is a file: only a folder has splits", name, folder);
    } else { // a file; one that is not there is refused where it is opened
        rc = mem_alloc(&out->path, 1, sizeof *out->path, err);
        if (!rc) out->path[out->n++] = mem_strdup(name);
    }
    free(folder);
    if (rc) data_files_release(out);
    return rc;
}

void data_files_release(struct data_files *f)
{
    for (int32_t i = 0; i < f->n; i++) free(f->path[i]);
    free(f->path);
    *f = (struct data_files){0};
}
