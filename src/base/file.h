/* Files: whole reads with a cap, read-only maps, durable replacement (write, fsync, rename, fsync of the folder). */
#ifndef SAIL_BASE_FILE_H
#define SAIL_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "sail.h"

/* Reads a whole regular file of at most max bytes; *data is NUL-terminated (the NUL is not counted); free() it. */
int file_read(const char *path, size_t max, char **data, size_t *len, sail_err *err);

/* As file_read, and a gzip file is unpacked on the way (max counts unpacked bytes). */
int file_read_gz(const char *path, size_t max, char **data, size_t *len, sail_err *err);

struct file_map {
    const unsigned char *data;
    size_t len;
};
int file_map_open(struct file_map *m, const char *path, sail_err *err);
void file_map_close(struct file_map *m);
/* Tells the kernel that the pages of [data, data+len) are not needed now (they come back from the file). */
void file_map_drop(const void *data, size_t len);

/* Replaces path durably: path.tmp-PID in the same folder, fsync, rename, fsync of the folder. */
int file_replace(const char *path, const void *data, size_t len, sail_err *err);

/* The same for output that is written piece by piece. Every write is checked; commit makes it durable and visible,
 * abandon removes the temporary. A path of "-" or "/dev/..." is written directly. */
struct file_writer {
    FILE *f;
    char *path, *temporary;
    bool failed;
};
int file_writer_open(struct file_writer *w, const char *path, sail_err *err);
int file_writer_write(struct file_writer *w, const void *data, size_t len, sail_err *err);
int file_writer_commit(struct file_writer *w, sail_err *err);
void file_writer_abandon(struct file_writer *w);

/* A folder of files that appears whole or not at all: fill `temporary`, then commit (fsync each file and the folder,
 * rename, fsync the parent). An existing target is replaced. */
struct dir_writer {
    char *path, *temporary;
};
int dir_writer_open(struct dir_writer *w, const char *path, sail_err *err);
int dir_writer_commit(struct dir_writer *w, sail_err *err);
void dir_writer_abandon(struct dir_writer *w);

int dir_create(const char *path, sail_err *err); /* with parents; an existing folder is fine */
int dir_remove(const char *path, sail_err *err); /* with everything in it; absent is fine */
bool path_exists(const char *path);
bool path_is_dir(const char *path);
char *path_join(const char *folder, const char *name); /* free() it */

#endif
