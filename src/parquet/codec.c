/* Pages are unpacked whole, to a size that the page's header has said beforehand. */
#include <limits.h>
#include <snappy-c.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "parquet/internal.h"

static bool unpack_snappy(uint8_t *out, size_t n_out, const uint8_t *in, size_t n_in)
{
    size_t n = 0;
    if (snappy_uncompressed_length((const char *)in, n_in, &n) != SNAPPY_OK || n != n_out) return false;
    return snappy_uncompress((const char *)in, n_in, (char *)out, &n) == SNAPPY_OK && n == n_out;
}

/* gzip, or zlib's own wrapping; one member after another. */
static bool unpack_gzip(uint8_t *out, size_t n_out, const uint8_t *in, size_t n_in)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)in, .avail_in = (uInt)n_in, .next_out = out, .avail_out = (uInt)n_out};
    if (n_in > UINT_MAX || n_out > UINT_MAX || inflateInit2(&z, 15 + 32) != Z_OK) return false;
    int rc;
    while ((rc = inflate(&z, Z_FINISH)) == Z_STREAM_END && z.avail_in && inflateReset(&z) == Z_OK) {}
    inflateEnd(&z);
    return rc == Z_STREAM_END && !z.avail_in && !z.avail_out;
}

static bool unpack_zstd(uint8_t *out, size_t n_out, const uint8_t *in, size_t n_in)
{
    const size_t n = ZSTD_decompress(out, n_out, in, n_in);
    return !ZSTD_isError(n) && n == n_out;
}

bool codec_unpack(enum codec codec, uint8_t *out, size_t n_out, const uint8_t *in, size_t n_in)
{
    switch (codec) {
    case CODEC_SNAPPY: return unpack_snappy(out, n_out, in, n_in);
    case CODEC_GZIP: return unpack_gzip(out, n_out, in, n_in);
    case CODEC_ZSTD: return unpack_zstd(out, n_out, in, n_in);
    default: break;
    }
    if (n_in != n_out) return false;
    if (n_out) memcpy(out, in, n_out);
    return true;
}
