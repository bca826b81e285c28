/* SPDX-License-Identifier: MIT
 * Guest memory by linear address. */
#include "linear.h"

#define ATTR_L   0x200u /* of struct vc_segment: 64-bit code */
#define ATTR_DB  0x400u
#define EFER_LMA 0x400ull
#define CR0_PE   1ull
#define FLAT_END (1ull << 32)

void lin_of(struct lin *l, struct vc_cpu *cpu, const struct vc_sregs *s)
{
    bool code64 = s->efer & EFER_LMA && s->cs.attr & ATTR_L;
    *l = (struct lin){.cpu = cpu, .word = code64 ? 8 : s->cs.attr & ATTR_DB ? 4 : 2};
    if (s->cr0 & CR0_PE && (s->ss.attr >> 5 & 3) == 3)
        l->user = VC_ACC_USER;
    if (!code64) {
        l->ds = s->ds.base;
        l->ss = s->ss.base;
        l->cs = s->cs.base;
    }
}

/* Offsets and linear addresses of other than 64-bit code have 32 bits, SDM 3.3.1. */
uint64_t lin_addr(const struct lin *l, uint64_t base, uint64_t offset)
{
    return l->word == 8 ? offset : (uint32_t)(base + (uint32_t)offset);
}

/* How many bytes from `at` lie in its page, at most left. */
static uint64_t in_page(uint64_t at, uint64_t left)
{
    return min_u64(PAGE_SIZE_4K - at % PAGE_SIZE_4K, left);
}

/* The page's address in guest-physical RAM that may be used so. */
static bool page(const struct lin *l, uint64_t at, uint32_t access, uint64_t *gpa)
{
    const struct vc_cpu *cpu = l->cpu;
    struct mem *mem = &cpu->vm->mem;
    if (cpu->vm->be->translate(cpu->bcpu, at, access | l->user, gpa))
        return false;
    uint32_t prot = access & VC_ACC_WRITE ? VC_MEM_WRITE : VC_MEM_READ;
    unsigned slot = mem_pin(mem);
    const struct mem_region *r = mem_find(mem, *gpa);
    bool ok = r && r->prot & prot;
    mem_unpin(mem, slot);
    return ok;
}

static bool fits(const struct lin *l, uint64_t at, uint64_t len)
{
    return at + len >= at && (l->word == 8 || at + len <= FLAT_END);
}

bool lin_check(const struct lin *l, uint64_t at, uint64_t len, uint32_t access)
{
    uint64_t gpa;
    if (!fits(l, at, len))
        return false;
    for (uint64_t n; len; at += n, len -= n) {
        n = in_page(at, len);
        if (!page(l, at, access, &gpa))
            return false;
    }
    return true;
}

bool lin_read(const struct lin *l, uint64_t at, void *buf, uint64_t len)
{
    uint8_t *to = buf;
    uint64_t gpa;
    if (!fits(l, at, len))
        return false;
    for (uint64_t n; len; at += n, len -= n, to += n) {
        n = in_page(at, len);
        if (!page(l, at, VC_ACC_READ, &gpa) || !mem_copy_out(&l->cpu->vm->mem, gpa, to, n))
            return false;
    }
    return true;
}

bool lin_write(const struct lin *l, uint64_t at, const void *buf, uint64_t len)
{
    const uint8_t *from = buf;
    uint64_t gpa;
    if (!lin_check(l, at, len, VC_ACC_WRITE))
        return false;
    for (uint64_t n; len; at += n, len -= n, from += n) {
        n = in_page(at, len);
        if (!page(l, at, VC_ACC_WRITE, &gpa) || !mem_copy_in(&l->cpu->vm->mem, gpa, from, n))
            return false;
    }
    return true;
}

int lin_string(const struct lin *l, uint64_t at, char *buf, size_t max, size_t *len)
{
    for (size_t done = 0; done < max;) {
        uint64_t n = in_page(at + done, max - done);
        if (!lin_read(l, at + done, buf + done, n))
            return LIN_STR_FAULT;
        const char *end = memchr(buf + done, 0, n);
        if (end) {
            *len = (size_t)(end - buf);
            return LIN_STR_OK;
        }
        done += n;
    }
    return LIN_STR_LONG;
}
