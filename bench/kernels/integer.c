/* SPDX-License-Identifier: MIT
 * Integer work: arithmetic, branches, hashing, calls. */
#include "kernels.h"
#include <stdbool.h>

/* ---- quicksort of 4096 random numbers -------------------------------------------- */

#define SORT_N 4096
static uint32_t sort_data[SORT_N];

static void sort_range(uint32_t *a, long lo, long hi)
{
    while (lo < hi) {
        uint32_t pivot = a[(lo + hi) / 2];
        long i = lo, j = hi;
        while (i <= j) {
            while (a[i] < pivot)
                i++;
            while (a[j] > pivot)
                j--;
            if (i <= j) {
                uint32_t t = a[i];
                a[i++] = a[j];
                a[j--] = t;
            }
        }
        sort_range(a, lo, j);
        lo = i;
    }
}

static uint64_t kernel_sort(uint64_t n)
{
    uint64_t sum = 0, s = 88172645463325252ull;
    while (n--) {
        for (unsigned i = 0; i < SORT_N; i++)
            sort_data[i] = (uint32_t)next_random(&s);
        sort_range(sort_data, 0, SORT_N - 1);
        sum = mix(sum, sort_data[SORT_N / 2]);
    }
    return sum;
}

/* ---- CRC-32 of 64 KiB by table ------------------------------------------------------ */

#define CRC_N 65536
static uint8_t crc_data[CRC_N];
static uint32_t crc_table[256];

static void setup_crc(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;
        for (int k = 0; k < 8; k++)
            v = v & 1 ? 0xedb88320u ^ (v >> 1) : v >> 1;
        crc_table[i] = v;
    }
    for (unsigned i = 0; i < CRC_N; i++)
        crc_data[i] = (uint8_t)(i * 7 + (i >> 5));
}

static uint64_t kernel_crc(uint64_t n)
{
    uint32_t crc = 0;
    while (n--)
        for (unsigned i = 0; i < CRC_N; i++)
            crc = crc_table[(crc ^ crc_data[i]) & 0xff] ^ (crc >> 8);
    return crc;
}

/* ---- a scanner of numbers, words and strings ------------------------------------------ */

static uint64_t kernel_state(uint64_t n)
{
    uint64_t counts[5] = {0}, s = 1;
    unsigned state = 0;
    while (n--) {
        for (unsigned i = 0; i < 32768; i++) {
            unsigned ch = (unsigned)next_random(&s) & 127;
            switch (state) {
            case 0: state = ch >= '0' && ch <= '9' ? 1 : ch >= 'a' ? 2 : ch == '"' ? 3 : 0; break;
            case 1: state = ch == '.' ? 4 : ch >= '0' && ch <= '9' ? 1 : 0; break;
            case 2: state = ch >= 'a' || ch == '_' ? 2 : 0; break;
            case 3: state = ch == '"' ? 0 : 3; break;
            default: state = ch >= '0' && ch <= '9' ? 4 : ch == 'e' ? 1 : 0; break;
            }
            counts[state]++;
        }
    }
    return counts[0] + 3 * counts[1] + 5 * counts[2] + 7 * counts[3] + 11 * counts[4];
}

/* ---- a stack machine: sums i * i ^ 5 for i below 250 -------------------------------------- */

enum { I_PUSH, I_LOAD, I_STORE, I_ADD, I_MUL, I_XOR, I_LESS, I_JUMP_IF, I_HALT };
static const uint8_t program[] = {
    I_PUSH, 0, I_STORE, 0,       I_PUSH, 0,         I_STORE, 1,      /* i = sum = 0 */
    I_LOAD, 0, I_LOAD,  0,       I_MUL,  I_PUSH,    5,       I_XOR,  /* 8: i * i ^ 5 */
    I_LOAD, 1, I_ADD,   I_STORE, 1,                                  /* sum += */
    I_LOAD, 0, I_PUSH,  1,       I_ADD,  I_STORE,   0,               /* i++ */
    I_LOAD, 0, I_PUSH,  250,     I_LESS, I_JUMP_IF, 8,       I_HALT, /* i < 250: again */
};

static uint64_t kernel_interp(uint64_t n)
{
    uint64_t acc = 0;
    while (n--) {
        uint64_t stack[16], var[2] = {0, 0};
        const uint8_t *pc = program;
        unsigned sp = 0;
        for (bool run = true; run;) {
            switch (*pc++) {
            case I_PUSH: stack[sp++] = *pc++; break;
            case I_LOAD: stack[sp++] = var[*pc++]; break;
            case I_STORE: var[*pc++] = stack[--sp]; break;
            case I_ADD: sp--, stack[sp - 1] += stack[sp]; break;
            case I_MUL: sp--, stack[sp - 1] *= stack[sp]; break;
            case I_XOR: sp--, stack[sp - 1] ^= stack[sp]; break;
            case I_LESS: sp--, stack[sp - 1] = stack[sp - 1] < stack[sp]; break;
            case I_JUMP_IF: pc = stack[--sp] ? program + *pc : pc + 1; break;
            default: run = false; break;
            }
        }
        acc += var[1];
    }
    return acc;
}

/* ---- SHA-256 of 4 KiB (FIPS 180-4, without the padding block) ------------------------------ */

static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define SHA_N 4096
static uint8_t sha_data[SHA_N];
static uint32_t sha_h[8];

static void setup_sha(void)
{
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (unsigned i = 0; i < 8; i++)
        sha_h[i] = first[i];
    for (unsigned i = 0; i < SHA_N; i++)
        sha_data[i] = (uint8_t)(i * 13);
}

static uint32_t ror(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}

static void sha_block(const uint8_t *p)
{
    uint32_t w[64], v[8];
    for (unsigned i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    for (unsigned i = 0; i < 8; i++)
        v[i] = sha_h[i];
    for (unsigned i = 0; i < 64; i++) {
        uint32_t s1 = ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_k[i] + w[i];
        uint32_t s0 = ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + t1;
        v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++)
        sha_h[i] += v[i];
}

static uint64_t kernel_sha(uint64_t n)
{
    while (n--)
        for (unsigned i = 0; i < SHA_N; i += 64)
            sha_block(sha_data + i);
    return (uint64_t)sha_h[0] << 32 | sha_h[7];
}

/* ---- a hash table with open addressing: 4096 keys in, 8192 looked up ------------------------- */

#define HASH_SLOTS 8192
static struct {
    uint64_t key, value;
} hash_table[HASH_SLOTS];

static unsigned hash_find(uint64_t key)
{
    unsigned i = (unsigned)(key * 0x9e3779b97f4a7c15ull >> 51);
    while (hash_table[i].key && hash_table[i].key != key)
        i = (i + 1) % HASH_SLOTS;
    return i;
}

static uint64_t kernel_hash(uint64_t n)
{
    uint64_t sum = 0, s = 12345;
    while (n--) {
        for (unsigned i = 0; i < HASH_SLOTS; i++)
            hash_table[i].key = 0;
        uint64_t first = s;
        for (unsigned i = 0; i < HASH_SLOTS / 2; i++) {
            uint64_t key = next_random(&s);
            unsigned slot = hash_find(key);
            hash_table[slot].key = key;
            hash_table[slot].value = i;
        }
        for (unsigned i = 0; i < HASH_SLOTS; i++) {
            unsigned slot = hash_find(next_random(&first));
            if (hash_table[slot].key)
                sum = mix(sum, hash_table[slot].value);
        }
    }
    return sum;
}

/* ---- the sieve of Eratosthenes to 32768 -------------------- */

#define SIEVE_N 32768
static bool composite[SIEVE_N];

static uint64_t kernel_sieve(uint64_t n)
{
    uint64_t sum = 0;
    while (n--) {
        for (unsigned i = 0; i < SIEVE_N; i++)
            composite[i] = false;
        for (unsigned i = 2; i < SIEVE_N; i++) {
            if (composite[i])
                continue;
            sum += i;
            for (unsigned k = i * i; k < SIEVE_N && i < 182; k += i)
                composite[k] = true;
        }
    }
    return sum;
}

/* ---- long numbers: 32 words times 32 words
 * -------------------------------------------------------- */

#define BIG_N 32
static uint64_t big_a[BIG_N], big_b[BIG_N], big_r[2 * BIG_N];

static void setup_bignum(void)
{
    uint64_t s = 77;
    for (unsigned i = 0; i < BIG_N; i++) {
        big_a[i] = next_random(&s);
        big_b[i] = next_random(&s);
    }
}

static uint64_t kernel_bignum(uint64_t n)
{
    while (n--) {
        for (unsigned i = 0; i < 2 * BIG_N; i++)
            big_r[i] = 0;
        for (unsigned i = 0; i < BIG_N; i++) {
            uint64_t carry = 0;
            for (unsigned k = 0; k < BIG_N; k++) {
                unsigned __int128 t = (unsigned __int128)big_a[i] * big_b[k] + big_r[i + k] + carry;
                big_r[i + k] = (uint64_t)t;
                carry = (uint64_t)(t >> 64);
            }
            big_r[i + BIG_N] = carry;
        }
        for (unsigned i = 0; i < BIG_N; i++)
            big_a[i] ^= big_r[BIG_N + i];
    }
    return big_r[3] ^ big_r[2 * BIG_N - 1];
}

/* ---- calls and returns
 * ---------------------------------------------------------------------------- */

/* Two functions, or the compiler would put several calls into one. */
static uint64_t fib_other(uint64_t n);

__attribute__((noinline)) static uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib_other(n - 1) + fib_other(n - 2);
}

__attribute__((noinline)) static uint64_t fib_other(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t kernel_calls(uint64_t n)
{
    uint64_t sum = 0;
    while (n--)
        sum = mix(sum, fib(18));
    return sum;
}

/* ---- calls through pointers: shapes of four kinds
 * ---------------------------------------------------- */

struct shape {
    uint64_t (*area)(const struct shape *);
    uint32_t w, h;
};

static uint64_t area_box(const struct shape *s)
{
    return (uint64_t)s->w * s->h;
}

static uint64_t area_triangle(const struct shape *s)
{
    return (uint64_t)s->w * s->h / 2;
}

static uint64_t area_frame(const struct shape *s)
{
    return 2ull * (s->w + s->h) - 4;
}

static uint64_t area_disc(const struct shape *s)
{
    return (uint64_t)s->w * s->w * 22 >> 3;
}

#define SHAPES 1024
static struct shape shapes[SHAPES];

static void setup_virtual(void)
{
    uint64_t (*const areas[4])(const struct shape *) = {area_box, area_triangle, area_frame,
                                                        area_disc};
    uint64_t s = 4711;
    for (unsigned i = 0; i < SHAPES; i++) {
        shapes[i].area = areas[next_random(&s) % 4];
        shapes[i].w = (uint32_t)next_random(&s) % 1000;
        shapes[i].h = (uint32_t)next_random(&s) % 1000;
    }
}

static uint64_t kernel_virtual(uint64_t n)
{
    uint64_t sum = 0;
    while (n--)
        for (unsigned i = 0; i < SHAPES; i++)
            sum += shapes[i].area(&shapes[i]);
    return sum;
}

/* ---- a binary tree: 1024 numbers in, 4096 looked up
 * ---------------------------------------------------- */

#define TREE_N 1024
static struct node {
    struct node *child[2];
    uint32_t key;
} nodes[TREE_N];

static uint64_t kernel_tree(uint64_t n)
{
    uint64_t sum = 0, s = 31415;
    while (n--) {
        struct node *root = nodes;
        for (unsigned i = 0; i < TREE_N; i++) {
            struct node *new = &nodes[i], **at = &root;
            new->key = (uint32_t)next_random(&s);
            new->child[0] = new->child[1] = 0;
            while (i && *at)
                at = &(*at)->child[new->key > (*at)->key];
            *at = new;
        }
        for (unsigned i = 0; i < 4 * TREE_N; i++) {
            uint32_t key = i % 2 ? nodes[i / 4].key : i * 1048583u;
            const struct node *at = root;
            unsigned depth = 0;
            for (; at && at->key != key; depth++)
                at = at->child[key > at->key];
            sum += depth + !!at;
        }
    }
    return sum;
}

const struct kernel integer_kernels[] = {
    {"sort", "integer", 0, kernel_sort, 3, 0xd5b8a5232c4dfb3d},
    {"crc32", "integer", setup_crc, kernel_crc, 3, 0x8bb0ce19},
    {"state", "integer", 0, kernel_state, 3, 0x62b28},
    {"interp", "integer", 0, kernel_interp, 3, 0xed0357},
    {"sha256", "integer", setup_sha, kernel_sha, 3, 0x312721c0b5b26187},
    {"hash", "integer", 0, kernel_hash, 3, 0x74aa916b789ee5ca},
    {"sieve", "integer", 0, kernel_sieve, 3, 0x9aa85b1},
    {"bignum", "integer", setup_bignum, kernel_bignum, 3, 0xe68b8af7d5cefd15},
    {"calls", "integer", 0, kernel_calls, 3, 0xe3eec2bcffb52f45},
    {"virtual", "integer", setup_virtual, kernel_virtual, 3, 0x34eda22f},
    {"tree", "integer", 0, kernel_tree, 3, 0x23952},
    {0},
};
