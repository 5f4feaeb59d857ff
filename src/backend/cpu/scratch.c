#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"

struct scratch_block {
    void *data;
    size_t bytes;
};

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static _Thread_local struct scratch_block *own;

static void own_free(void *p)
{
    struct scratch_block *block = p;
    for (int i = 0; i < SCRATCH_COUNT; i++) free(block[i].data);
    free(block);
}

static void key_create(void) { BUG_ON(pthread_key_create(&key, own_free), "no thread-specific storage left"); }

void *block_alloc(size_t bytes)
{
    const size_t huge = (size_t)2 << 20;
    size_t align = bytes >= huge ? huge : 64;
    void *p;
    mem_count_allocation();
    if (posix_memalign(&p, align, bytes ? bytes : align)) return NULL;
    if (align == huge) madvise(p, bytes, MADV_HUGEPAGE); // fewer page faults, fewer TLB misses
    return p;
}

void *scratch(enum scratch_slot slot, size_t bytes)
{
    if (!own) {
        pthread_once(&key_once, key_create);
        own = calloc(SCRATCH_COUNT, sizeof *own);
        BUG_ON(!own || pthread_setspecific(key, own), "out of memory for a thread's scratch");
    }
    struct scratch_block *b = &own[slot];
    if (bytes > b->bytes || !b->data) {
        free(b->data);
        b->bytes = bytes + bytes / 4; // rows of growing number do not reallocate each time
        b->data = block_alloc(b->bytes);
        BUG_ON(!b->data, "out of memory: %zu bytes of scratch", b->bytes);
    }
    return b->data;
}
