/* SPDX-License-Identifier: MIT
 * A byte-wise LZ packer of our own and its unpacker. A token below 128 is followed
 * by token + 1 literal bytes; one from 128 on by a distance of two bytes, and stands
 * for token - 128 + LZ_MIN bytes found that far back. */
#include "kernels.h"

#define LZ_N    32768
#define LZ_MIN  4
#define LZ_MAX  (127 + LZ_MIN)
#define LZ_HASH 4096

static uint8_t lz_text[LZ_N], lz_packed[LZ_N + LZ_N / 64], lz_unpacked[LZ_N];
static uint16_t lz_last[LZ_HASH];
static unsigned lz_packed_len;

static uint32_t word_at(const uint8_t *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

static uint8_t *put_literals(uint8_t *out, const uint8_t *from, unsigned len)
{
    while (len) {
        unsigned part = len < 128 ? len : 128;
        *out++ = (uint8_t)(part - 1);
        for (unsigned i = 0; i < part; i++)
            *out++ = *from++;
        len -= part;
    }
    return out;
}

static unsigned lz_pack(void)
{
    uint8_t *out = lz_packed;
    unsigned pos = 0, literals = 0;
    for (unsigned i = 0; i < LZ_HASH; i++)
        lz_last[i] = 0;
    while (pos + LZ_MIN <= LZ_N) {
        uint32_t word = word_at(lz_text + pos);
        unsigned hash = word * 2654435761u >> 20;
        unsigned back = lz_last[hash];
        lz_last[hash] = (uint16_t)pos;
        if (back >= pos || word_at(lz_text + back) != word) {
            pos++;
            continue;
        }
        unsigned len = LZ_MIN;
        while (len < LZ_MAX && pos + len < LZ_N && lz_text[back + len] == lz_text[pos + len])
            len++;
        out = put_literals(out, lz_text + literals, pos - literals);
        *out++ = (uint8_t)(128 + len - LZ_MIN);
        *out++ = (uint8_t)(pos - back);
        *out++ = (uint8_t)((pos - back) >> 8);
        pos += len;
        literals = pos;
    }
    out = put_literals(out, lz_text + literals, LZ_N - literals);
    return (unsigned)(out - lz_packed);
}

static unsigned lz_unpack(void)
{
    const uint8_t *in = lz_packed, *end = lz_packed + lz_packed_len;
    uint8_t *out = lz_unpacked;
    while (in < end) {
        unsigned token = *in++;
        if (token < 128) {
            for (unsigned i = 0; i <= token; i++)
                *out++ = *in++;
        } else {
            const uint8_t *from = out - (in[0] | in[1] << 8);
            in += 2;
            for (unsigned i = 0; i < token - 128 + LZ_MIN; i++)
                *out++ = *from++;
        }
    }
    return (unsigned)(out - lz_unpacked);
}

/* Words of a small language, of which some follow each other often. */
static void setup_lz(void)
{
    static const char words[16][9] = {"page ",  "table ",  "guest ", "register ", "the ", "of ",
                                      "walks ", "into ",   "a ",     "memory ",   "and ", "fault\n",
                                      "entry ", "writes ", "reads ", "0x"};
    uint64_t s = 2718;
    unsigned word = 0;
    for (unsigned at = 0; at < LZ_N;) {
        uint64_t r = next_random(&s);
        word = r & 0x300 ? (unsigned)(r & 15) : (word * 5 + 3) & 15;
        for (const char *c = words[word]; at < LZ_N && c < words[word] + 9 && *c; c++)
            lz_text[at++] = (uint8_t)*c;
        if (word == 15)
            for (unsigned i = 0; i < 6 && at < LZ_N; i++)
                lz_text[at++] = (uint8_t)("0123456789abcdef"[next_random(&s) & 15]);
    }
    lz_packed_len = lz_pack();
}

static uint64_t kernel_lz_pack(uint64_t n)
{
    uint64_t sum = 0;
    while (n--) {
        lz_text[n % LZ_N] ^= 1;
        lz_packed_len = lz_pack();
        sum = mix(sum, lz_packed_len);
    }
    return sum;
}

static uint64_t kernel_lz_unpack(uint64_t n)
{
    uint64_t sum = 0;
    while (n--) {
        unsigned len = lz_unpack();
        sum = mix(sum, len + lz_unpacked[n % LZ_N]);
    }
    return sum;
}

/* ---- words counted in the same text -------------------------------------------------- */

static uint64_t kernel_words(uint64_t n)
{
    static const char wanted[8] = "writes ";
    uint64_t words = 0, found = 0;
    while (n--) {
        unsigned in_word = 0;
        for (unsigned i = 0; i < LZ_N; i++) {
            unsigned letter = lz_text[i] > ' ';
            words += letter & ~in_word;
            in_word = letter;
            unsigned k = 0;
            while (wanted[k] && i + k < LZ_N && lz_text[i + k] == (uint8_t)wanted[k])
                k++;
            found += !wanted[k];
        }
    }
    return mix(words, found);
}

const struct kernel compress_kernels[] = {
    {"lz-pack", "integer", setup_lz, kernel_lz_pack, 3, 0xda00c8a8919582c7},
    {"lz-unpack", "integer", setup_lz, kernel_lz_unpack, 3, 0xa6f19bfa79843263},
    {"words", "integer", setup_lz, kernel_words, 3, 0x21399088ce6bd9aa},
    {0},
};
