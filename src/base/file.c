#define _GNU_SOURCE
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/err.h"
#include "base/mem.h"

static int fail(sail_err *err, const char *what, const char *path) { return err_set(err, SAIL_FAILED, "%s: %s: %s", path, what, strerror(errno)); }

/* Opens a regular file for reading and says how long it is. */
static int open_regular(const char *path, int *fd, size_t *len, sail_err *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a pipe without a writer must not hang
    if (*fd < 0) return fail(err, "cannot open", path);
    if (fstat(*fd, &st) || !S_ISREG(st.st_mode)) {
        close(*fd);
        return err_set(err, SAIL_FAILED, "%s: expected a regular file", path);
    }
    *len = (size_t)st.st_size;
    return SAIL_OK;
}

int file_read(const char *path, size_t max, char **data, size_t *len, sail_err *err)
{
    int fd, rc = open_regular(path, &fd, len, err);
    *data = NULL;
    if (rc) return rc;
    if (*len > max) {
        close(fd);
        return err_set(err, SAIL_FAILED, "%s: %zu bytes: expected at most %zu", path, *len, max);
    }
    char *p = malloc(*len + 1);
    size_t got = 0;
    while (p && got < *len) {
        ssize_t n = read(fd, p + got, *len - got);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        got += (size_t)n;
    }
    close(fd);
    if (!p) return err_memory(err, *len + 1);
    if (got < *len) {
        free(p);
        return err_set(err, SAIL_FAILED, "%s: read %zu of %zu bytes", path, got, *len);
    }
    p[*len] = '\0';
    *data = p;
    return SAIL_OK;
}

int file_read_gz(const char *path, size_t max, char **data, size_t *len, sail_err *err)
{
    int fd, rc = open_regular(path, &fd, len, err);
    *data = NULL;
    if (rc) return rc;
    gzFile z = gzdopen(fd, "rb"); // a file that is not gzip is read as it is
    if (!z) {
        close(fd);
        return err_memory(err, 0);
    }
    struct buf b;
    buf_init(&b, max);
    char piece[65536];
    int n;
    while ((n = gzread(z, piece, sizeof piece)) > 0 && buf_append(&b, piece, (size_t)n)) {}
    int code = 0;
    const char *why = gzerror(z, &code);
    if (n < 0 || code == Z_BUF_ERROR)
        rc = err_set(err, SAIL_FAILED, "%s: damaged gzip data: %s", path, why && *why ? why : "it ends early");
    else if (b.failed)
        rc = err_set(err, SAIL_FAILED, "%s: more than %zu bytes", path, max);
    gzclose(z);
    if (!rc && !b.data && !buf_puts(&b, "")) rc = err_memory(err, 1);
    if (rc) {
        buf_release(&b);
        return rc;
    }
    *data = b.data;
    *len = b.len;
    return SAIL_OK;
}

int file_map_open(struct file_map *m, const char *path, sail_err *err)
{
    *m = (struct file_map){0};
    int fd, rc = open_regular(path, &fd, &m->len, err);
    if (rc) return rc;
    void *p = m->len ? mmap(NULL, m->len, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    close(fd);
    if (p == MAP_FAILED) return fail(err, "cannot map", path);
    m->data = p;
    return SAIL_OK;
}

void file_map_close(struct file_map *m)
{
    if (m->data) munmap((void *)(uintptr_t)m->data, m->len);
    *m = (struct file_map){0};
}

void file_map_drop(const void *data, size_t len)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)data + page - 1) & ~(page - 1), to = ((uintptr_t)data + len) & ~(page - 1);
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

/* The folder that a path is in; free() it. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !slash ? mem_strdup(".") : slash == path ? mem_strdup("/") : mem_printf("%.*s", (int)(slash - path), path);
}

static int sync_path(const char *path, sail_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(err, "cannot open to sync", path);
    int rc = fsync(fd) && errno != EINVAL ? fail(err, "cannot sync", path) : SAIL_OK;
    close(fd);
    return rc;
}

static int sync_parent(const char *path, sail_err *err)
{
    char *parent = parent_of(path);
    int rc = sync_path(parent, err);
    free(parent);
    return rc;
}

static bool written_directly(const char *path) { return !strcmp(path, "-") || !strncmp(path, "/dev/", 5); }

int file_writer_open(struct file_writer *w, const char *path, sail_err *err)
{
    *w = (struct file_writer){.path = mem_strdup(path)};
    if (written_directly(path)) {
        w->f = !strcmp(path, "-") ? stdout : fopen(path, "wb");
    } else {
        w->temporary = mem_printf("%s.tmp-%ld", path, (long)getpid());
        errno = EISDIR;
        w->f = path_is_dir(path) ? NULL : fopen(w->temporary, "wb");
    }
    if (w->f) return SAIL_OK;
    int rc = fail(err, "cannot create", path);
    free(w->temporary);
    free(w->path);
    *w = (struct file_writer){0};
    return rc;
}

int file_writer_write(struct file_writer *w, const void *data, size_t len, sail_err *err)
{
    if (!len || fwrite(data, 1, len, w->f) == len) return SAIL_OK;
    w->failed = true;
    return fail(err, "cannot write", w->path);
}

static void writer_end(struct file_writer *w)
{
    if (w->f && w->f != stdout) fclose(w->f);
    free(w->temporary);
    free(w->path);
    *w = (struct file_writer){0};
}

int file_writer_commit(struct file_writer *w, sail_err *err)
{
    int rc = SAIL_OK;
    if (w->failed || fflush(w->f) || ferror(w->f)) rc = fail(err, "cannot write", w->path);
    if (!rc && w->temporary) {
        if (fsync(fileno(w->f)))
            rc = fail(err, "cannot sync", w->temporary);
        else if (rename(w->temporary, w->path))
            rc = fail(err, "cannot replace", w->path);
        else
            rc = sync_parent(w->path, err);
    }
    if (rc && w->temporary) unlink(w->temporary);
    writer_end(w);
    return rc;
}

void file_writer_abandon(struct file_writer *w)
{
    if (w->temporary) unlink(w->temporary);
    writer_end(w);
}

int file_replace(const char *path, const void *data, size_t len, sail_err *err)
{
    struct file_writer w;
    int rc = file_writer_open(&w, path, err);
    if (rc) return rc;
    if ((rc = file_writer_write(&w, data, len, err))) {
        file_writer_abandon(&w);
        return rc;
    }
    return file_writer_commit(&w, err);
}

bool path_exists(const char *path) { return access(path, F_OK) == 0; }

bool path_is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

char *path_join(const char *folder, const char *name)
{
    const size_t n = strlen(folder);
    return mem_printf(n && folder[n - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
}

int dir_create(const char *path, sail_err *err)
{
    char *p = mem_strdup(path);
    int rc = SAIL_OK;
    for (char *s = p + 1; !rc && *p; s++) {
        if (*s && *s != '/') continue;
        const char was = *s;
        *s = '\0';
        if (mkdir(p, 0777) && errno != EEXIST) rc = fail(err, "cannot create folder", p);
        *s = was;
        if (!was) break;
    }
    free(p);
    if (!rc && !path_is_dir(path)) rc = err_set(err, SAIL_FAILED, "%s: expected a folder, there is a file", path);
    return rc;
}

int dir_remove(const char *path, sail_err *err)
{
    struct stat st;
    if (lstat(path, &st)) return errno == ENOENT ? SAIL_OK : fail(err, "cannot look at", path);
    if (!S_ISDIR(st.st_mode)) return unlink(path) ? fail(err, "cannot remove", path) : SAIL_OK; // a link goes, what it leads to stays
    DIR *d = opendir(path);
    if (!d) return fail(err, "cannot remove", path);
    int rc = SAIL_OK;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *inner = path_join(path, e->d_name);
        rc = dir_remove(inner, err);
        free(inner);
    }
    closedir(d);
    if (!rc && rmdir(path)) rc = fail(err, "cannot remove", path);
    return rc;
}

/* fsync of every file in a folder, its subfolders, and the folder. */
static int sync_tree(const char *path, sail_err *err)
{
    DIR *d = opendir(path);
    if (!d) return fail(err, "cannot open to sync", path);
    int rc = SAIL_OK;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        char *inner = path_join(path, e->d_name);
        rc = path_is_dir(inner) ? sync_tree(inner, err) : sync_path(inner, err);
        free(inner);
    }
    closedir(d);
    return rc ? rc : sync_path(path, err);
}

/* The path without slashes at its end, so that its neighbours can be named; free() it. */
static char *trimmed(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    return mem_printf("%.*s", (int)n, path);
}

static void dir_writer_release(struct dir_writer *w)
{
    free(w->path);
    free(w->temporary);
    *w = (struct dir_writer){0};
}

int dir_writer_open(struct dir_writer *w, const char *path, sail_err *err)
{
    w->path = trimmed(path);
    w->temporary = mem_printf("%s.tmp-%ld", w->path, (long)getpid());
    int rc = dir_remove(w->temporary, err);
    if (!rc) rc = dir_create(w->temporary, err);
    if (rc) dir_writer_release(w);
    return rc;
}

/* Puts the new folder in the old one's place, and the old one at `temporary`: in one step where the file system can. */
static int exchange(const char *temporary, const char *path, sail_err *err)
{
    if (!renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE)) return SAIL_OK;
    char *old = mem_printf("%s.old-%ld", path, (long)getpid());
    int rc = SAIL_OK;
    if (rename(path, old)) {
        rc = fail(err, "cannot replace", path);
    } else if (rename(temporary, path)) {
        rc = fail(err, "cannot replace", path);
        rename(old, path);
    } else if (rename(old, temporary)) {
        rc = fail(err, "cannot put aside", old);
    }
    free(old);
    return rc;
}

int dir_writer_commit(struct dir_writer *w, sail_err *err)
{
    struct stat st;
    const bool replaces = !lstat(w->path, &st);
    int rc = sync_tree(w->temporary, err);
    if (!rc && replaces)
        rc = exchange(w->temporary, w->path, err);
    else if (!rc && rename(w->temporary, w->path))
        rc = fail(err, "cannot put in place", w->path);
    if (rc) {
        dir_writer_abandon(w);
        return rc;
    }
    rc = sync_parent(w->path, err); // until that worked, the old folder stays beside the new one
    if (!rc && replaces) rc = dir_remove(w->temporary, err);
    dir_writer_release(w);
    return rc;
}

void dir_writer_abandon(struct dir_writer *w)
{
    if (w->temporary) dir_remove(w->temporary, NULL);
    dir_writer_release(w);
}
