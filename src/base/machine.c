#include "base/machine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What follows "key\t: " in the first line of /proc/cpuinfo with it; left alone where there is none. */
static void read_processor(char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[512];
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, "model name", 10)) continue;
        const char *colon = strchr(line, ':');
        if (!colon) continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(colon, "\n"), colon);
        break;
    }
    fclose(f);
}

struct machine machine_facts(void)
{
    struct machine m = {.processor = "unknown", .cores = sysconf(_SC_NPROCESSORS_ONLN)};
    read_processor(m.processor, sizeof m.processor);
    m.memory_mib = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
    return m;
}
