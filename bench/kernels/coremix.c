/* SPDX-License-Identifier: MIT
 * The core mix: in one round a linked list is searched, reversed and sorted two
 * ways, small integer matrices are multiplied, a state machine classifies the
 * fields of a text, and a CRC-16 goes over what each of them gives. The work is the
 * sort that small processors' benchmarks have; the program is our own. */
#include "kernels.h"

static uint16_t crc16(uint16_t crc, uint32_t v, unsigned bytes)
{
    for (; bytes--; v >>= 8) {
        crc ^= (uint16_t)(v & 0xff);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0xa001 : crc >> 1);
    }
    return crc;
}

/* ---- a list ------------------------------------------------------------------------- */

#define ITEMS 64

struct item {
    struct item *next;
    int16_t key, serial;
};

static struct item items[ITEMS];
static struct item *list;

typedef int order_fn(const struct item *a, const struct item *b);

static int by_key(const struct item *a, const struct item *b)
{
    return a->key != b->key ? a->key - b->key : a->serial - b->serial;
}

static int by_serial(const struct item *a, const struct item *b)
{
    return a->serial - b->serial;
}

static void list_make(void)
{
    uint64_t s = 1234567;
    list = 0;
    for (int i = 0; i < ITEMS; i++) {
        items[i].key = (int16_t)(next_random(&s) & 0xff);
        items[i].serial = (int16_t)i;
        items[i].next = list;
        list = &items[i];
    }
}

static struct item *list_reverse(struct item *at)
{
    struct item *done = 0;
    while (at) {
        struct item *next = at->next;
        at->next = done;
        done = at;
        at = next;
    }
    return done;
}

static struct item *list_find(struct item *at, int16_t key)
{
    while (at && at->key != key)
        at = at->next;
    return at;
}

static struct item *merge(struct item *a, struct item *b, order_fn *order)
{
    struct item *head = 0, **tail = &head;
    while (a && b) {
        struct item **from = order(a, b) <= 0 ? &a : &b;
        *tail = *from;
        tail = &(*from)->next;
        *from = *tail;
    }
    *tail = a ? a : b;
    return head;
}

static struct item *list_sort(struct item *at, order_fn *order)
{
    struct item *half = at, *end = at;
    if (!at || !at->next)
        return at;
    while (end->next && end->next->next) {
        half = half->next;
        end = end->next->next;
    }
    end = half->next;
    half->next = 0;
    return merge(list_sort(at, order), list_sort(end, order), order);
}

static uint16_t list_round(uint16_t crc)
{
    unsigned found = 0;
    for (int16_t key = 0; key < 32; key++) {
        struct item *hit = list_find(list, (int16_t)(key * 8 + (crc & 7)));
        found = found * 3 + (hit ? (unsigned)hit->serial : 255u);
        list = list_reverse(list);
    }
    list = list_sort(list, by_key);
    for (struct item *at = list; at; at = at->next)
        crc = crc16(crc, (uint32_t)at->serial, 1);
    list->key ^= (int16_t)(crc & 0x7f);
    list = list_sort(list, by_serial);
    return crc16(crc, found, 4);
}

/* ---- matrices ------------------------------------------------------------------------ */

#define DIM 10
static int16_t mat_a[DIM][DIM], mat_b[DIM][DIM];
static int32_t mat_c[DIM][DIM];

static void matrix_make(void)
{
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++) {
            mat_a[i][j] = (int16_t)(i * 31 + j * 17 + 1);
            mat_b[i][j] = (int16_t)(i * 7 - j * 11 + 3);
        }
}

static uint16_t matrix_round(uint16_t crc)
{
    int16_t by = (int16_t)(crc & 15);
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++)
            mat_a[i][j] = (int16_t)(mat_a[i][j] + by);
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++) {
            int32_t sum = 0;
            for (int k = 0; k < DIM; k++)
                sum += (int32_t)mat_a[i][k] * mat_b[k][j];
            mat_c[i][j] = sum;
        }
    /* The running total starts again wherever it passes a limit. */
    int32_t total = 0, last = 0, over = 0;
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++) {
            total += mat_c[i][j] >> 4 & 0x7ff;
            if (total > 0x1000) {
                over += 10;
                total = 0;
            } else {
                over += mat_c[i][j] > last;
            }
            last = mat_c[i][j];
        }
    for (int i = 0; i < DIM; i++)
        for (int j = 0; j < DIM; j++)
            mat_a[i][j] = (int16_t)(mat_a[i][j] - by);
    return crc16(crc, (uint32_t)(over + total), 4);
}

/* ---- a state machine -------------------------------------------------------------------- */

enum state { START, SIGN, DIGITS, POINT, FRACTION, EXPONENT, EXP_SIGN, EXP_DIGITS, BAD, STATES };

static char fields[] = "5012,-874.5,+122,0x1f,.5e-3,7e+12,abc,1.1.1,-,35.54400,1e,"
                       "-.1234,T0.3e,99999,+0.64340,6.0e8,--2,12e3,4.8,0,,-7.5e-02,33,";
#define FIELDS_LEN (sizeof fields - 1)

static enum state step(enum state state, char c)
{
    int digit = c >= '0' && c <= '9';
    int sign = c == '+' || c == '-';
    switch (state) {
    case START: return digit ? DIGITS : sign ? SIGN : c == '.' ? POINT : BAD;
    case SIGN: return digit ? DIGITS : c == '.' ? POINT : BAD;
    case DIGITS: return digit ? DIGITS : c == '.' ? FRACTION : c == 'e' ? EXPONENT : BAD;
    case POINT: return digit ? FRACTION : BAD;
    case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : BAD;
    case EXPONENT: return digit ? EXP_DIGITS : sign ? EXP_SIGN : BAD;
    case EXP_SIGN:
    case EXP_DIGITS: return digit ? EXP_DIGITS : BAD;
    default: return BAD;
    }
}

static uint16_t fields_round(uint16_t crc)
{
    uint32_t ended[STATES], moves[STATES];
    for (int i = 0; i < STATES; i++)
        ended[i] = moves[i] = 0;
    for (int pass = 0; pass < 2; pass++) {
        enum state state = START;
        for (unsigned i = 0; i < FIELDS_LEN; i++) {
            if (fields[i] == ',') {
                ended[state]++;
                state = START;
                continue;
            }
            enum state next = step(state, fields[i]);
            moves[next] += next != state;
            state = next;
        }
        /* Some bytes are spoilt for the second pass, and put back by it. */
        for (unsigned i = crc & 7; i < FIELDS_LEN; i += 11)
            if (fields[i] != ',')
                fields[i] ^= 1;
        if (pass)
            break;
    }
    for (unsigned i = 0; i < STATES; i++)
        crc = crc16(crc, ended[i] << 8 ^ moves[i], 2);
    return crc;
}

static void setup_mix(void)
{
    list_make();
    matrix_make();
}

static uint64_t kernel_mix(uint64_t n)
{
    uint16_t crc = 0;
    while (n--) {
        crc = list_round(crc);
        crc = matrix_round(crc);
        crc = fields_round(crc);
    }
    return crc;
}

const struct kernel coremix_kernels[] = {
    {"core-mix", "mix", setup_mix, kernel_mix, 3, 0x1ae2},
    {0},
};
