/* FNV-1a of bytes, 64 bits. */
#ifndef SAIL_BASE_HASH_H
#define SAIL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START 14695981039346656037u

/* Goes on from h, HASH_START at first. */
static inline uint64_t hash_add(uint64_t h, const void *bytes, size_t n)
{
    for (const unsigned char *at = bytes, *end = at + n; at < end; at++) h = (h ^ *at) * 1099511628211u;
    return h;
}

#endif
