/* Runs a fuzz target over its corpus, without libFuzzer: part of `make test`. */
#include <dirent.h>

#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

int main(int argc, char **argv)
{
    size_t n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        for (struct dirent *e; d && (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            char *path = path_join(argv[i], e->d_name), *data;
            size_t len;
            sail_err err = {0};
            if (file_read(path, (size_t)1 << 26, &data, &len, &err)) {
                fprintf(stderr, "%s\n", err.message);
                return 1;
            }
            fprintf(stderr, "%s\n", path); // the last one names what a crash is about
            uint8_t *exact = malloc(len);
            if (len) memcpy(exact, data, len);
            free(data);
            LLVMFuzzerTestOneInput(exact, len);
            free(exact);
            free(path);
            n++;
        }
        if (d) closedir(d);
    }
    printf("%zu inputs\n", n);
    return n ? 0 : 1; // an empty corpus checks nothing
}
