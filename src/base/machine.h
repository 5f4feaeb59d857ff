/* What a measured figure was measured on. */
#ifndef SAIL_BASE_MACHINE_H
#define SAIL_BASE_MACHINE_H

struct machine {
    char processor[128]; /* as the system names it; "unknown" where it does not */
    long cores;
    double memory_mib;
};
struct machine machine_facts(void);

#endif
