/* TensorBoard event files: scalars, append-only. */
#ifndef SAIL_REPORT_TENSORBOARD_H
#define SAIL_REPORT_TENSORBOARD_H

#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"
#include "sail.h"

uint32_t crc32c(const void *data, size_t n);
/* One record of the file: length, its checksum, data, its checksum. */
void tensorboard_record(struct buf *out, const void *event, size_t n);
void tensorboard_version(struct buf *out, double wall_time);                                       /* the first record of a file */
void tensorboard_start(struct buf *out, double wall_time, int64_t step);                           /* SessionLog START: what older files say of this step and later ones is purged */
void tensorboard_scalar(struct buf *out, double wall_time, int64_t step, const char *tag, float x);

#endif
