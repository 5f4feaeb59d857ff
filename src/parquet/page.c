/* Pages: header, unpacking, levels, and the dictionary that comes first. */
#include <stdlib.h>
#include <zlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "parquet/internal.h"

/* A page is in memory whole. What a compressed page may grow to is bounded, so that a small file can't ask for all memory. */
enum { PAGE_ANY_SIZE = 1 << 26, PAGE_MOST_GROWTH = 1100 };
enum page_type { PAGE_DATA = 0, PAGE_INDEX = 1, PAGE_DICTIONARY = 2, PAGE_DATA_V2 = 3 };

struct page_header {
    int64_t type, unpacked, packed, crc, n_value, encoding, def_encoding, rep_encoding, def_bytes, rep_bytes;
    bool has_crc, compressed;
};

/* The headers of the three kinds are fields 5, 7 and 8 of the page header; all begin with the number of values. */
static void read_kind(struct thrift *t, struct page_header *h, int32_t kind)
{
    int64_t *const number[3][7] = {{[1] = &h->n_value, [2] = &h->encoding, [3] = &h->def_encoding, [4] = &h->rep_encoding},
                                   {[1] = &h->n_value, [2] = &h->encoding},
                                   {[1] = &h->n_value, [4] = &h->encoding, [5] = &h->def_bytes, [6] = &h->rep_bytes}};
    const int row = kind == 5 ? 0 : kind - 6;
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id < 7 && number[row][f.id])
            *number[row][f.id] = thrift_int(t, &f);
        else if (kind == 8 && f.id == 7)
            h->compressed = thrift_bool(t, &f);
        else
            thrift_skip(t, &f);
    }
}

static int read_header(struct column *c, struct page_header *h, sail_err *err)
{
    struct thrift t = {.at = c->at, .end = c->end};
    *h = (struct page_header){.type = -1, .unpacked = -1, .packed = -1, .n_value = -1, .encoding = -1, .compressed = true};
    h->def_encoding = h->rep_encoding = ENCODING_RLE;
    for (struct thrift_field f = {0}; thrift_next(&t, &f);) {
        if (f.id == 1)
            h->type = thrift_int(&t, &f);
        else if (f.id == 2)
            h->unpacked = thrift_int(&t, &f);
        else if (f.id == 3)
            h->packed = thrift_int(&t, &f);
        else if (f.id == 4) {
            h->crc = thrift_int(&t, &f);
            h->has_crc = true;
        } else if ((f.id == 5 || f.id == 7 || f.id == 8) && thrift_struct(&t, &f))
            read_kind(&t, h, f.id);
        else
            thrift_skip(&t, &f);
    }
    if (t.failed) return column_refuse(c, err, "damaged page header: %s", t.failed);
    c->at = t.at;
    if (h->packed < 0 || h->unpacked < 0 || h->unpacked > INT32_MAX || h->packed > c->end - c->at)
        return column_refuse(c, err, "a page of %lld bytes (%lld unpacked) where %lld bytes of the column are left", (long long)h->packed, (long long)h->unpacked,
                             (long long)(c->end - c->at));
    if (h->has_crc && (uint32_t)crc32(0, c->at, (uInt)h->packed) != (uint32_t)h->crc) return column_refuse(c, err, "a page's bytes are not those that were written (CRC)");
    if (h->type != PAGE_INDEX && (h->n_value < 0 || h->n_value > INT32_MAX)) return column_refuse(c, err, "a page of %lld values", (long long)h->n_value);
    return SAIL_OK;
}

/* The page's bytes from *at on, unpacked into c->page when they are packed; *at and *end move there. */
static int unpack(struct column *c, const uint8_t **at, const uint8_t **end, size_t unpacked, sail_err *err)
{
    const size_t packed = (size_t)(*end - *at);
    free(c->page);
    c->page = NULL;
    if (c->chunk.codec == CODEC_NONE) return packed == unpacked ? SAIL_OK : column_refuse(c, err, "an unpacked page has %zu bytes, but says %zu", packed, unpacked);
    if (!packed && !unpacked) return SAIL_OK;
    if (unpacked > PAGE_ANY_SIZE && unpacked / PAGE_MOST_GROWTH > packed) return column_refuse(c, err, "a page of %zu bytes says that it unpacks to %zu", packed, unpacked);
    int rc = mem_alloc(&c->page, unpacked, 1, err);
    if (rc) return rc;
    if (!codec_unpack(c->chunk.codec, c->page, unpacked, *at, packed)) return column_refuse(c, err, "damaged %s data", codec_name(c->chunk.codec));
    *at = c->page;
    *end = c->page + unpacked;
    return SAIL_OK;
}

/* ---------------------------------------------------------------- dictionary */

static void drop_dictionary(struct column *c)
{
    for (size_t i = 0; i < c->n_dictionary; i++) json_decref(c->dictionary[i]);
    free(c->dictionary);
    c->dictionary = NULL;
    c->n_dictionary = 0;
}

static int read_dictionary(struct column *c, const struct page_header *h, const uint8_t *at, const uint8_t *end, sail_err *err)
{
    if (c->dictionary || c->left != c->chunk.n_value) return column_refuse(c, err, "a dictionary that does not come first");
    if (h->encoding != ENCODING_PLAIN && h->encoding != ENCODING_PLAIN_DICTIONARY)
        return column_refuse(c, err, "the dictionary's encoding is %s: expected PLAIN", encoding_name(h->encoding));
    if (c->leaf->kind == VALUE_BOOL) return column_refuse(c, err, "a dictionary of booleans");
    int rc = unpack(c, &at, &end, (size_t)h->unpacked, err);
    if (rc) return rc;
    if (h->n_value > (end - at) / 4) return column_refuse(c, err, "a dictionary of %lld values in %lld bytes", (long long)h->n_value, (long long)(end - at));
    if ((rc = mem_alloc(&c->dictionary, (size_t)h->n_value, sizeof *c->dictionary, err))) return rc;
    c->value = at;
    c->value_end = end;
    while (!rc && c->n_dictionary < (size_t)h->n_value) {
        rc = plain_next(c, &c->dictionary[c->n_dictionary], err);
        if (!rc) c->n_dictionary++;
    }
    c->value = c->value_end = NULL;
    return rc;
}

/* ---------------------------------------------------------------- levels and values */

static int bits_for(int max)
{
    int width = 0;
    while (max >> width) width++;
    return width;
}

/* Version 1: a length, then the runs; nothing at all when there is but one level. */
static int levels_v1(const struct column *c, struct hybrid *h, int max, int64_t encoding, const uint8_t **at, const uint8_t *end, sail_err *err)
{
    *h = (struct hybrid){.width = bits_for(max)};
    if (!max) return SAIL_OK;
    if (encoding != ENCODING_RLE) return column_refuse(c, err, "levels with the encoding %s: expected RLE", encoding_name(encoding));
    const int64_t room = end - *at, n = room < 4 ? INT64_MAX : (int64_t)((*at)[0] | (*at)[1] << 8 | (*at)[2] << 16 | (uint32_t)(*at)[3] << 24);
    if (room < 4 || n > room - 4) return column_refuse(c, err, "levels that are longer than their page");
    h->at = *at + 4;
    *at = h->end = h->at + n;
    return SAIL_OK;
}

static int levels_v2(struct column *c, const struct page_header *h, const uint8_t **at, const uint8_t *end, sail_err *err)
{
    if (h->rep_bytes < 0 || h->def_bytes < 0 || h->rep_bytes > end - *at || h->def_bytes > end - *at - h->rep_bytes || h->rep_bytes + h->def_bytes > h->unpacked)
        return column_refuse(c, err, "levels of %lld and %lld bytes in a page of %lld", (long long)h->rep_bytes, (long long)h->def_bytes, (long long)(end - *at));
    c->rep = (struct hybrid){.at = *at, .end = *at + h->rep_bytes, .width = bits_for(c->leaf->max_rep)};
    c->def = (struct hybrid){.at = c->rep.end, .end = c->rep.end + h->def_bytes, .width = bits_for(c->leaf->max_def)};
    *at = c->def.end;
    return SAIL_OK;
}

static int start_values(struct column *c, const struct page_header *h, const uint8_t *at, const uint8_t *end, sail_err *err)
{
    c->value = at;
    c->value_end = end;
    c->bit = 0;
    c->encoding = (enum encoding)h->encoding;
    switch (h->encoding) {
    case ENCODING_PLAIN: return SAIL_OK;
    case ENCODING_PLAIN_DICTIONARY:
    case ENCODING_RLE_DICTIONARY:
        if (!c->dictionary) return column_refuse(c, err, "values by number and no dictionary");
        c->encoding = ENCODING_RLE_DICTIONARY;
        if (at == end) return SAIL_OK; // nothing but nulls
        if (*at > 32) return column_refuse(c, err, "numbers of %d bits into the dictionary: expected at most 32", (int)*at);
        c->index = (struct hybrid){.at = at + 1, .end = end, .width = *at};
        return SAIL_OK;
    case ENCODING_RLE:
        if (c->leaf->kind != VALUE_BOOL) break;
        return levels_v1(c, &c->index, 1, ENCODING_RLE, &c->value, end, err);
    default: break;
    }
    return column_refuse(c, err, "the encoding %s is not read here", encoding_name(h->encoding));
}

static int start_page(struct column *c, const struct page_header *h, const uint8_t *at, const uint8_t *end, sail_err *err)
{
    int rc;
    if (h->n_value > c->left) return column_refuse(c, err, "a page of %lld values where %lld are left", (long long)h->n_value, (long long)c->left);
    c->index = (struct hybrid){0};
    if (h->type == PAGE_DATA_V2) {
        if ((rc = levels_v2(c, h, &at, end, err))) return rc;
        const enum codec codec = c->chunk.codec;
        if (!h->compressed) c->chunk.codec = CODEC_NONE;
        rc = unpack(c, &at, &end, (size_t)(h->unpacked - h->rep_bytes - h->def_bytes), err);
        c->chunk.codec = codec;
    } else {
        rc = unpack(c, &at, &end, (size_t)h->unpacked, err);
        if (!rc) rc = levels_v1(c, &c->rep, c->leaf->max_rep, h->rep_encoding, &at, end, err);
        if (!rc) rc = levels_v1(c, &c->def, c->leaf->max_def, h->def_encoding, &at, end, err);
    }
    if (!rc) rc = start_values(c, h, at, end, err);
    if (rc) return rc;
    c->page_left = h->n_value;
    c->left -= h->n_value;
    return SAIL_OK;
}

int page_next(struct column *c, sail_err *err)
{
    while (!c->page_left) {
        if (!c->left) return column_refuse(c, err, "its %lld values are fewer than its rows take", (long long)c->chunk.n_value);
        if (c->at >= c->end) return column_refuse(c, err, "its pages end with %lld of %lld values missing", (long long)c->left, (long long)c->chunk.n_value);
        struct page_header h;
        int rc = read_header(c, &h, err);
        if (rc) return rc;
        const uint8_t *at = c->at, *end = c->at + h.packed;
        c->at = end;
        if (h.type == PAGE_DICTIONARY)
            rc = read_dictionary(c, &h, at, end, err);
        else if (h.type == PAGE_DATA || h.type == PAGE_DATA_V2)
            rc = start_page(c, &h, at, end, err);
        else if (h.type != PAGE_INDEX)
            rc = column_refuse(c, err, "a page of the unknown type %lld", (long long)h.type);
        if (rc) return rc;
    }
    return SAIL_OK;
}

void column_release(struct column *c)
{
    drop_dictionary(c);
    free(c->page);
    *c = (struct column){0};
}
