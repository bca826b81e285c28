/* SPDX-License-Identifier: MIT
 * Programs that write code: as a compiler at run time does, and with data beside it. */
#include "kernels.h"

uint8_t code_buffer[CODE_BYTES] __attribute__((aligned(4096)));

#define LINE 64

typedef uint64_t code_fn(uint64_t arg);

static code_fn *code_at(uint64_t offset)
{
    return (code_fn *)(uintptr_t)(code_buffer + offset);
}

static uint8_t *put8(uint8_t *at, uint8_t v)
{
    *at = v;
    return at + 1;
}

static uint8_t *put32(uint8_t *at, uint32_t v)
{
    __builtin_memcpy(at, &v, 4);
    return at + 4;
}

/* lea rax, [rdi + value]; ret */
static void put_add(uint8_t *at, uint32_t value)
{
    at = put8(put8(put8(at, 0x48), 0x8d), 0x87);
    put8(put32(at, value), 0xc3);
}

/* A round: an instruction's constant is changed, the function called, 16 times. */
static uint64_t kernel_patch(uint64_t n)
{
    uint64_t sum = 0;
    put_add(code_buffer, 0);
    while (n--)
        for (uint32_t i = 0; i < 16; i++) {
            put32(code_buffer + 3, (uint32_t)(n & 0xff) + i);
            __asm__ volatile("" ::: "memory");
            sum = mix(sum, code_at(0)(sum));
        }
    return sum;
}

/* A round: a new function of 64 instructions is written to the next place of a
 * 64 KiB buffer, and called ten times. */
static uint64_t kernel_generate(uint64_t n)
{
    uint64_t sum = 0, s = 5;
    while (n--) {
        uint64_t place = n % (CODE_BYTES / 512) * 512;
        uint8_t *at = code_buffer + place;
        at = put8(put8(put8(at, 0x48), 0x89), 0xf8); /* mov rax, rdi */
        for (unsigned i = 0; i < 62; i++) {
            uint32_t r = (uint32_t)next_random(&s);
            at = put8(at, 0x48);
            at = put8(at, r & 1 ? 0x05 : 0x35); /* add or xor rax, imm32 */
            at = put32(at, r >> 2);
        }
        put8(at, 0xc3);
        __asm__ volatile("" ::: "memory");
        for (unsigned i = 0; i < 10; i++)
            sum = mix(sum, code_at(place)(sum));
    }
    return sum;
}

/* A function whose loop stores to another line of its own page:
 *   again: add [rip + data], rdi; dec edi; jnz again; mov rax, [rip + data]; ret */
static void setup_beside(void)
{
    const uint32_t data = 4 * LINE;
    uint8_t *at = code_buffer, *head = at;
    at = put8(put8(put8(at, 0x48), 0x01), 0x3d);
    at = put32(at, data - (uint32_t)(at + 4 - code_buffer));
    at = put8(put8(at, 0xff), 0xcf);
    at = put8(at, 0x75);
    at = put8(at, (uint8_t)(head - (at + 1)));
    at = put8(put8(put8(at, 0x48), 0x8b), 0x05);
    at = put32(at, data - (uint32_t)(at + 4 - code_buffer));
    put8(at, 0xc3);
    for (unsigned i = 0; i < 8; i++)
        code_buffer[data + i] = 0;
}

/* A round is 256 such stores. */
static uint64_t kernel_beside(uint64_t n)
{
    uint64_t sum = 0;
    while (n--)
        sum = mix(sum, code_at(0)(256));
    return sum;
}

const struct kernel code_kernels[] = {
    {"code-patch", "code", 0, kernel_patch, 3, 0x454021e56fcc8fcf},
    {"code-gen", "code", 0, kernel_generate, 3, 0xd28cf82fba6c2c12},
    {"store-beside", "beside", setup_beside, kernel_beside, 3, 0x7038bcf528cdeb11},
    {0},
};
