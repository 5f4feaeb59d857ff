/* Tile registers as all products use them: eight of 16 rows of 64 bytes. */
#ifndef SAIL_BACKEND_CPU_TILES_H
#define SAIL_BACKEND_CPU_TILES_H

#include <stdint.h>

static const struct __attribute__((packed)) {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

#endif
