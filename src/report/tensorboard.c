/* Event protobufs by hand: 1 wall_time (double), 2 step (varint), 3 file_version (string), 5 summary { 1 value { 1 tag, 2 simple_value } }, 7 session_log { 1 status }. */
#include "report/tensorboard.h"

#include <string.h>

uint32_t crc32c(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t c = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0);
    }
    return c ^ 0xFFFFFFFFu;
}

static void put_u32(struct buf *b, uint32_t v)
{
    for (int i = 0; i < 4; i++) buf_putc(b, (char)(v >> (8 * i)));
}

static uint32_t masked(const void *data, size_t n)
{
    const uint32_t c = crc32c(data, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

void tensorboard_record(struct buf *out, const void *event, size_t n)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)n >> (8 * i));
    buf_append(out, length, 8);
    put_u32(out, masked(length, 8));
    buf_append(out, event, n);
    put_u32(out, masked(event, n));
}

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) buf_putc(b, (char)(v | 0x80));
    buf_putc(b, (char)v);
}

static void put_bytes(struct buf *b, int field, const void *data, size_t n)
{
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, n);
    buf_append(b, data, n);
}

static void put_time(struct buf *b, double wall_time)
{
    uint64_t bits;
    memcpy(&bits, &wall_time, 8);
    put_varint(b, 1 << 3 | 1);
    for (int i = 0; i < 8; i++) buf_putc(b, (char)(bits >> (8 * i)));
}

static void put_step(struct buf *b, int64_t step)
{
    put_varint(b, 2 << 3);
    put_varint(b, (uint64_t)step);
}

static void finish(struct buf *out, struct buf *event)
{
    tensorboard_record(out, event->data, event->len);
    buf_release(event);
}

void tensorboard_version(struct buf *out, double wall_time)
{
    struct buf e;
    buf_init(&e, 0);
    put_time(&e, wall_time);
    put_bytes(&e, 3, "brain.Event:2", 13);
    finish(out, &e);
}

void tensorboard_start(struct buf *out, double wall_time, int64_t step)
{
    struct buf e;
    buf_init(&e, 0);
    put_time(&e, wall_time);
    put_step(&e, step);
    put_bytes(&e, 7, "\x08\x01", 2);
    finish(out, &e);
}

void tensorboard_scalar(struct buf *out, double wall_time, int64_t step, const char *tag, float x)
{
    struct buf e, value, summary;
    buf_init(&e, 0);
    buf_init(&value, 0);
    buf_init(&summary, 0);
    uint32_t bits;
    memcpy(&bits, &x, 4);
    put_bytes(&value, 1, tag, strlen(tag));
    put_varint(&value, 2 << 3 | 5);
    put_u32(&value, bits);
    put_bytes(&summary, 1, value.data, value.len);
    put_time(&e, wall_time);
    put_step(&e, step);
    put_bytes(&e, 5, summary.data, summary.len);
    buf_release(&value);
    buf_release(&summary);
    finish(out, &e);
}
