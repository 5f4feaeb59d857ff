#include <pthread.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"

struct block {
    void *data;
    size_t bytes;
};
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct block *own;

static void release(void *p)
{
    struct block *b = p;
    for (int i = 0; i < SCRATCH_COUNT; i++) free(b[i].data);
    free(b);
}

static void make_key(void)
{
    BUG_ON(pthread_key_create(&key, release), "no thread-specific storage left");
}

void *scratch(enum scratch_slot slot, size_t bytes)
{
    if (!own) {
        pthread_once(&once, make_key);
        own = calloc(SCRATCH_COUNT, sizeof *own);
        BUG_ON(!own || pthread_setspecific(key, own), "out of memory for a thread's scratch");
    }
    struct block *b = &own[slot];
    if (bytes > b->bytes || !b->data) {
        free(b->data);
        b->bytes = (bytes + bytes / 4 + 4095) & ~(size_t)4095;
        b->data = aligned_alloc(4096, b->bytes ? b->bytes : (b->bytes = 4096));
        BUG_ON(!b->data, "out of memory: %zu bytes of scratch", b->bytes);
    }
    return b->data;
}
