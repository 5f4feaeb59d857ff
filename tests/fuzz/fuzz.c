/* Files of a fuzz target; and the program's maps as heap blocks, so that a byte read behind a file's end is seen. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

static char folder[64];

static void remove_folder(void) { dir_remove(folder, NULL); }

const char *fuzz_folder(void)
{
    if (folder[0]) return folder;
    snprintf(folder, sizeof folder, "%s/sail-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    BUG_ON(!mkdtemp(folder), "cannot make %s", folder);
    atexit(remove_folder);
    return folder;
}

const char *fuzz_file(const char *name, const void *data, size_t n)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    BUG_ON(fd < 0 || (n && write(fd, data, n) != (ssize_t)n), "cannot write %s", path);
    close(fd);
    return path;
}

size_t fuzz_part(const uint8_t *data, size_t size, const uint8_t **rest, size_t *rest_size)
{
    const uint8_t *cut = memmem(data, size, "\n%%\n", 4);
    *rest = cut ? cut + 4 : NULL;
    *rest_size = cut ? size - (size_t)(*rest - data) : 0;
    return cut ? (size_t)(cut - data) : size;
}

void fuzz_touch(const void *data, size_t n)
{
    static volatile unsigned char sum;
    const unsigned char *byte = data;
    for (size_t i = 0; i < n; i++) sum = (unsigned char)(sum + byte[i]);
}

/* In the place of base/file.c's (the linker's --wrap). */
int __wrap_file_map_open(struct file_map *m, const char *path, sail_err *err);
void __wrap_file_map_close(struct file_map *m);
void __wrap_file_map_drop(const void *data, size_t len);

int __wrap_file_map_open(struct file_map *m, const char *path, sail_err *err)
{
    char *data;
    *m = (struct file_map){0};
    int rc = file_read(path, (size_t)1 << 30, &data, &m->len, err);
    if (rc) return rc;
    char *exact = malloc(m->len); // file_read's own block has a NUL behind the data
    if (m->len) memcpy(exact, data, m->len);
    free(data);
    m->data = (const unsigned char *)exact;
    return SAIL_OK;
}

void __wrap_file_map_close(struct file_map *m)
{
    free((void *)(uintptr_t)m->data);
    *m = (struct file_map){0};
}

void __wrap_file_map_drop(const void *data, size_t len)
{
    (void)data;
    (void)len;
}
