/* SPDX-License-Identifier: MIT
 * Code memory for thunks. Those with equal code are shared
 * and live as long as the partition; when the memory is full an instruction's
 * thunk is made anew for each execution in a slot of the vCPU. */
#include "thunk.h"
#include "../../../base/code_mem.h"
#include "../../../base/err.h"
#include <pthread.h>
#include <stdlib.h>

#define CODE_BYTES (16u << 20)
#define SLOTS      64u /* scratch slots at the start, one a vCPU */
#define CODE_ALIGN 16u

struct entry {
    uint32_t hash;
    uint32_t off; /* 0: free; code never starts at 0, where the slots are */
    uint32_t len;
};

struct thunk_cache {
    struct code_mem code;
    size_t used, limit;
    struct entry *table; /* open addressing */
    size_t mask, count;
    pthread_mutex_t lock;
};

#if defined(__x86_64__)

static bool code_map(struct thunk_cache *tc)
{
    return !code_mem_new(&tc->code, CODE_BYTES, "virtcore-thunks");
}

/* Code just written through the other mapping may have been fetched before at
 * this address: a serializing instruction makes the CPU look again (SDM 9.1.3,
 * 9.3). IRET to the next one, since CPUID is slow where it is intercepted. */
static void code_sync(void)
{
    __asm__ volatile("mov %%rsp, %%rcx\n\t"
                     "sub $128, %%rsp\n\t" /* the red zone */
                     "mov %%ss, %%eax\n\t"
                     "push %%rax\n\t"
                     "push %%rcx\n\t"
                     "pushfq\n\t"
                     "mov %%cs, %%eax\n\t"
                     "push %%rax\n\t"
                     "lea 1f(%%rip), %%rax\n\t"
                     "push %%rax\n\t"
                     "iretq\n"
                     "1:"
                     :
                     :
                     : "rax", "rcx", "cc", "memory");
}

#else

static bool code_map(struct thunk_cache *tc)
{
    (void)tc;
    err_set(VC_ENOTSUP, "vector and x87 instructions run natively and need an x86-64 host");
    return false;
}
static void code_sync(void)
{
}

#endif

struct thunk_cache *thunk_cache_new(void)
{
    struct thunk_cache *tc = calloc(1, sizeof *tc);
    if (!tc) {
        err_set(VC_ENOMEM, "no memory for the thunk cache");
        return NULL;
    }
    pthread_mutex_init(&tc->lock, NULL);
    tc->used = SLOTS * THUNK_CODE_MAX;
    tc->limit = CODE_BYTES;
    tc->mask = 1023;
    tc->table = calloc(tc->mask + 1, sizeof *tc->table);
    if (!tc->table)
        err_set(VC_ENOMEM, "no memory for the thunk cache");
    if (!tc->table || !code_map(tc)) {
        thunk_cache_free(tc);
        return NULL;
    }
    return tc;
}

void thunk_cache_free(struct thunk_cache *tc)
{
    if (!tc)
        return;
    code_mem_free(&tc->code);
    free(tc->table);
    pthread_mutex_destroy(&tc->lock);
    free(tc);
}

void thunk_cache_limit(struct thunk_cache *tc, size_t bytes)
{
    pthread_mutex_lock(&tc->lock);
    tc->limit = min_u64(bytes, CODE_BYTES);
    pthread_mutex_unlock(&tc->lock);
}

size_t thunk_cache_used(const struct thunk_cache *tc)
{
    return tc->used - SLOTS * THUNK_CODE_MAX;
}

static uint32_t code_hash(const uint8_t *code, unsigned len)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (unsigned i = 0; i < len; i++)
        h = (h ^ code[i]) * 16777619u;
    return h;
}

static struct entry *table_slot(struct entry *table, size_t mask, uint32_t hash,
                                const uint8_t *base, const uint8_t *code, unsigned len)
{
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct entry *e = &table[i];
        if (!e->off || (e->hash == hash && e->len == len && !memcmp(base + e->off, code, len)))
            return e;
    }
}

/* Keeps the table at most three quarters full. */
static bool table_grow(struct thunk_cache *tc)
{
    if (tc->count * 4 < (tc->mask + 1) * 3)
        return true;
    size_t mask = tc->mask * 2 + 1;
    struct entry *table = calloc(mask + 1, sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i <= tc->mask; i++) {
        struct entry *e = &tc->table[i];
        if (e->off)
            *table_slot(table, mask, e->hash, tc->code.write, tc->code.write + e->off, e->len) = *e;
    }
    free(tc->table);
    tc->table = table;
    tc->mask = mask;
    return true;
}

/* The executable address of this code, shared or new; NULL: full. */
static const void *cache_code(struct thunk_cache *tc, const uint8_t *code, unsigned len)
{
    const void *fn = NULL;
    uint32_t hash = code_hash(code, len);
    pthread_mutex_lock(&tc->lock);
    struct entry *e = table_slot(tc->table, tc->mask, hash, tc->code.write, code, len);
    if (!e->off && tc->used + len <= tc->limit && table_grow(tc)) {
        e = table_slot(tc->table, tc->mask, hash, tc->code.write, code, len);
        memcpy(tc->code.write + tc->used, code, len);
        *e = (struct entry){hash, (uint32_t)tc->used, len};
        tc->used = (tc->used + len + CODE_ALIGN - 1) & ~(size_t)(CODE_ALIGN - 1);
        tc->count++;
        code_sync();
    }
    if (e->off)
        fn = tc->code.exec + e->off;
    pthread_mutex_unlock(&tc->lock);
    return fn;
}

bool thunk_make(struct emu *c, const struct insn *in, struct op *op)
{
    uint8_t code[THUNK_CODE_MAX];
    ZydisMnemonic mnemonic;
    if (!c->vm->thunks || !thunk_rewrite(in, op))
        return false;
    unsigned len = thunk_emit(op, code, &op->src2, &mnemonic);
    /* Whatever rewriting did, it is still the instruction the guest asked for. */
    if (!len || mnemonic != in->zi.mnemonic)
        return false;
    op->aux = cache_code(c->vm->thunks, code, len);
    return true;
}

thunk_fn *thunk_scratch(struct emu *c, const struct op *op)
{
    struct thunk_cache *tc = c->vm->thunks;
    size_t off = (size_t)(c->index % SLOTS) * THUNK_CODE_MAX;
    uint8_t traits;
    ZydisMnemonic mnemonic;
    unsigned len = thunk_emit(op, tc->code.write + off, &traits, &mnemonic);
    if (!len)
        emu_ud(c, op); /* it was emitted once; cannot happen */
    code_sync();
    return (thunk_fn *)(uintptr_t)(tc->code.exec + off);
}
