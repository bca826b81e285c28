/* SPDX-License-Identifier: MIT
 * Code memory, mapped twice so that nothing is writable and executable at once,
 * and the pieces of code that everything else leaves through. */
#include "../flags.h"
#include "../simd/fpu.h"
#include "../tlb.h"
#include "asm.h"
#include "jit.h"
#include "../../../base/arena.h"
#include "../../../base/code_mem.h"
#include "../../../base/err.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CODE_SIZE    (64u << 20)
#define CODE_BLOCK   65536u /* room that must be left for one block */
#define GATES_SIZE   16384u
#define SLOTS_LEFT   1024u /* and slots */
#define SCATTER_BITS 16
#define DROPPED_BITS 10

struct jit {
    struct code_mem mem;
    struct arena *chunks; /* what translations own: visited anew after each flush */
    uint8_t *w;
    const uint8_t *x;
    size_t used, first;
    uint32_t slots; /* given out */
    unsigned rewinds;
    uint64_t scattered[1u << (SCATTER_BITS - 6)]; /* by hash of the instruction's address */
    /* Dropped translations to which other blocks' jumps may still lead, by hash. */
    struct jit_dropped {
        uint64_t phys;
        uint32_t mode;
        uint8_t *entry; /* NULL: none */
        const uint8_t *code;
    } dropped[1u << DROPPED_BITS];
    struct jit_gates gates;
    bool x87; /* the host has XSAVE */
};

/* Guest registers that live in host registers: guest number, host number. */
static const uint8_t pinned[][2] = {
    {0, H_RAX}, {1, H_RCX}, {2, H_RDX},  {3, H_RBX},  {4, H_R9},   {5, H_RBP},
    {6, H_RSI}, {7, H_RDI}, {12, H_R12}, {13, H_R13}, {14, H_R14}, {15, H_R15},
};
static const uint8_t saved[] = {H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15};

static void load_guest(struct asmbuf *a)
{
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        gs_load(a, pinned[i][1], GPR_OFF(pinned[i][0]));
    gs_load(a, H_R8, EMU_OFF(fuel));
}

static void store_guest(struct asmbuf *a)
{
    for (unsigned i = 0; i < ARRAY_LEN(pinned); i++)
        gs_store(a, pinned[i][1], GPR_OFF(pinned[i][0]));
    gs_store(a, H_R8, EMU_OFF(fuel));
}

static void rsp_add(struct asmbuf *a, int n)
{
    put8(a, 0x48);
    put8(a, 0x83);
    put8(a, n < 0 ? 0xec : 0xc4);
    put8(a, (unsigned)(n < 0 ? -n : n));
}

static void emit_enter(struct asmbuf *a)
{
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++)
        push_pop(a, 0x50, saved[i]);
    rsp_add(a, -8);
    mov_reg(a, H_R11, H_RSI);
    load_guest(a);
    put8(a, 0x41), put8(a, 0xff), put8(a, 0xe3); /* jmp r11 */
}

/* Guest vectors and MXCSR between struct emu and the host's registers. */
/* VEX-coded op xmm/ymm n, gs:[disp]; vex: the second prefix byte for n < 8. */
static void vector_op(struct asmbuf *a, unsigned vex, unsigned opcode, unsigned n, uint32_t disp)
{
    put8(a, 0x65);
    put8(a, 0xc5), put8(a, n & 8 ? vex & 0x7fu : vex), put8(a, opcode);
    put8(a, 0x04u | (n & 7) << 3), put8(a, 0x25), put32(a, disp);
}

#define VEX_F3    0xfau /* vmovdqu xmm */
#define VEX_F3_Y  0xfeu /* vmovdqu ymm */
#define VEX_66_X0 0xf9u /* an operation with xmm0 as first source */

/* vex 0: movups xmm, for hosts without AVX. */
static void vector_moves(struct asmbuf *a, unsigned vex, bool load)
{
    for (unsigned n = 0; n < 16; n++) {
        uint32_t disp = EMU_OFF(ymm) + 32 * n;
        if (vex) {
            vector_op(a, vex, load ? 0x6f : 0x7f, n, disp);
            continue;
        }
        put8(a, 0x65);
        if (n & 8)
            put8(a, 0x44);
        put8(a, 0x0f), put8(a, load ? 0x10 : 0x11);
        put8(a, 0x04u | (n & 7) << 3), put8(a, 0x25), put32(a, disp);
    }
}

static void mxcsr_op(struct asmbuf *a, bool load, uint32_t off)
{
    put8(a, 0x65), put8(a, 0x0f), put8(a, 0xae);
    put8(a, load ? 0x14 : 0x1c), put8(a, 0x25), put32(a, off);
}

/* Is any of those bits set? Jumps when not. */
static uint8_t *unless(struct asmbuf *a, uint32_t off, unsigned bits)
{
    gs_op(a, false, 0xf6, 0, off); /* test byte */
    put8(a, bits);
    return jump_cc(a, 4, NULL);
}

/* XSAVE64 and XRSTOR64 of the x87 registers alone; rax and rdx are lost. */
static void x87_op(struct asmbuf *a, unsigned extension)
{
    put8(a, 0xb8), put32(a, 1);   /* mov eax, 1 */
    put8(a, 0x31), put8(a, 0xd2); /* xor edx, edx */
    put8(a, 0x65), put8(a, 0x48), put8(a, 0x0f), put8(a, 0xae);
    put8(a, 0x04u | extension << 3), put8(a, 0x25), put32(a, EMU_OFF(fx));
}

/* XSAVE would put the host's pointers to instruction and operand into emu.fx. rax,
 * rcx, rdx, rsi and rdi are lost. */
static void x87_save(struct asmbuf *a)
{
    gs_load(a, H_RSI, EMU_OFF(fx) + FX_FIP);
    gs_load(a, H_RDI, EMU_OFF(fx) + FX_FDP);
    gs_op(a, false, 0x8b, H_RCX, EMU_OFF(fx) + FX_FTW); /* the upper half: FOP */
    x87_op(a, 4);
    gs_store(a, H_RSI, EMU_OFF(fx) + FX_FIP);
    gs_store(a, H_RDI, EMU_OFF(fx) + FX_FDP);
    put8(a, 0xc1), put8(a, 0xe9), put8(a, 16); /* shr ecx, 16 */
    put8(a, 0x66), gs_op(a, false, 0x89, H_RCX, EMU_OFF(fx) + FX_FOP);
    put8(a, 0xdb), put8(a, 0xe3);                               /* fninit */
    put8(a, 0x65), put8(a, 0xd9), put8(a, 0x2c), put8(a, 0x25); /* fldcw */
    put32(a, EMU_OFF(host_fcw));
}

static void x87_load(struct asmbuf *a)
{
    mov_reg(a, H_R10, H_RAX);
    mov_reg(a, H_R11, H_RDX);
    gs_op(a, true, 0xc7, 0, EMU_OFF(fx_header)), put32(a, 1); /* mov qword: x87 is there */
    x87_op(a, 5);
    mov_reg(a, H_RAX, H_R10);
    mov_reg(a, H_RDX, H_R11);
}

static void emit_simd_save(struct asmbuf *a, bool avx)
{
    uint8_t *none = unless(a, EMU_OFF(simd_live), JIT_SIMD_VEC);
    vector_moves(a, avx ? VEX_F3_Y : 0, false);
    mxcsr_op(a, false, EMU_OFF(mxcsr));
    mxcsr_op(a, true, EMU_OFF(host_mxcsr));
    if (avx)
        put8(a, 0xc5), put8(a, 0xf8), put8(a, 0x77); /* vzeroupper */
    patch_here(a, none);
    none = unless(a, EMU_OFF(simd_live), JIT_SIMD_X87);
    x87_save(a);
    patch_here(a, none);
    gs_op(a, false, 0xc6, 0, EMU_OFF(simd_live)); /* mov byte, 0 */
    put8(a, 0);
    put8(a, 0xc3);
}

/* Upper halves that are zero are left as VZEROUPPER leaves them: while the
 * processor holds them for dirty, each scalar SSE instruction depends on the last
 * one that wrote its register. */
static void load_wide_vectors(struct asmbuf *a)
{
    vector_op(a, VEX_F3, 0x6f, 0, EMU_OFF(ymm) + 16);
    for (unsigned n = 1; n < 16; n++)
        vector_op(a, VEX_66_X0, 0xeb, 0, EMU_OFF(ymm) + 32 * n + 16);          /* vpor */
    put8(a, 0xc4), put8(a, 0xe2), put8(a, 0x79), put8(a, 0x17), put8(a, 0xc0); /* vptest */
    uint8_t *clean = jump_cc(a, 4, NULL);
    vector_moves(a, VEX_F3_Y, true);
    uint8_t *done = jump_to(a, here(a));
    patch_here(a, clean);
    vector_moves(a, VEX_F3, true);
    patch_here(a, done);
}

/* What emu.simd_may says; flags, r10 and r11 are lost. */
static void emit_simd_load(struct asmbuf *a, bool avx)
{
    uint8_t *none = unless(a, EMU_OFF(simd_may), JIT_SIMD_VEC);
    if (avx)
        load_wide_vectors(a);
    else
        vector_moves(a, 0, true);
    mxcsr_op(a, true, EMU_OFF(mxcsr));
    patch_here(a, none);
    none = unless(a, EMU_OFF(simd_may), JIT_SIMD_X87);
    x87_load(a);
    patch_here(a, none);
    gs_op(a, false, 0x8a, H_R11, EMU_OFF(simd_may));
    gs_op(a, false, 0x88, H_R11, EMU_OFF(simd_live));
    put8(a, 0xc3);
}

/* Before C runs: what is live goes to memory. Guest registers are there; r10, r11
 * and the stack stay as they are. */
static void put_vectors_off(struct asmbuf *a, const uint8_t *save)
{
    gs_op(a, false, 0x8a, H_RAX, EMU_OFF(simd_live));
    gs_op(a, false, 0x88, H_RAX, EMU_OFF(simd_kept));
    put8(a, 0x84), put8(a, 0xc0); /* test al, al */
    uint8_t *none = jump_cc(a, 4, NULL);
    call_to(a, save);
    patch_here(a, none);
}

static void emit_leave(struct asmbuf *a, const uint8_t *save)
{
    store_guest(a);
    put_vectors_off(a, save);
    rsp_add(a, 8);
    for (unsigned i = ARRAY_LEN(saved); i-- > 0;)
        push_pop(a, 0x58, saved[i]);
    put8(a, 0xc3);
}

/* Calls fn(c, r11, r10); 0 in its answer: leave; else goes on at `then`, or back. */
static void emit_call_c(struct asmbuf *a, uint64_t fn, const uint8_t *leave, const uint8_t *save,
                        const uint8_t *then)
{
    store_guest(a);
    put_vectors_off(a, save);
    gs_load(a, H_RDI, EMU_OFF(self));
    mov_reg(a, H_RSI, H_R11);
    mov_reg(a, H_RDX, H_R10);
    rsp_add(a, -8);
    mov_imm64(a, H_RAX, fn);
    put8(a, 0xff), put8(a, 0xd0); /* call rax */
    rsp_add(a, 8);
    put8(a, 0x41), put8(a, 0x89), put8(a, 0xc3); /* mov r11d, eax */
    load_guest(a);
    put8(a, 0x45), put8(a, 0x85), put8(a, 0xdb); /* test r11d, r11d */
    uint8_t *stop = jump_cc(a, 4, NULL);
    if (then)
        jump_to(a, then);
    else
        put8(a, 0xc3);
    patch_here(a, stop);
    rsp_add(a, 8);
    jump_to(a, leave);
}

/* The pages of the slot at gs:[r10] change places. The addend is last, for r11. */
static void emit_other(struct asmbuf *a)
{
    static const uint8_t fields[] = {
        offsetof(struct jit_seen_page, start), offsetof(struct jit_seen_page, lim),
        offsetof(struct jit_seen_page, code), offsetof(struct jit_seen_page, addend)};
    push_pop(a, 0x50, H_RAX);
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
        struct hmem now = {H_R10, -1, 0, fields[i], true}, other = now;
        other.disp += (int32_t)offsetof(struct jit_slot, other);
        hmem_op(a, 0x8b, H_RAX, &now);
        hmem_op(a, 0x8b, H_R11, &other);
        hmem_op(a, 0x89, H_R11, &now);
        hmem_op(a, 0x89, H_RAX, &other);
    }
    push_pop(a, 0x58, H_RAX);
    put8(a, 0xc3);
}

/* fill: C that uses general registers only, so that only those it may change are
 * saved. r11 is the site, or the answer. */
static void emit_fill(struct asmbuf *a, const uint8_t *callout, const uint8_t *save,
                      const uint8_t *load)
{
    static const uint8_t kept[] = {H_RAX, H_RCX, H_RDX, H_RSI, H_RDI, H_R8, H_R9, H_R11};
    emit_refill(a);
    gs_store(a, H_R8, EMU_OFF(fuel));
    for (unsigned i = 0; i < ARRAY_LEN(kept); i++)
        push_pop(a, 0x50, kept[i]);
    rsp_add(a, -8); /* the stack is aligned */
#ifdef SANITIZED
    put_vectors_off(a, save); /* the sanitizers' own code does use vectors */
#endif
    gs_load(a, H_RDI, EMU_OFF(self));
    mov_reg(a, H_RSI, H_R11);
    mov_reg(a, H_RDX, H_R10);
    mov_imm64(a, H_RAX, (uint64_t)(uintptr_t)jit_do_fill);
    put8(a, 0xff), put8(a, 0xd0); /* call rax */
#ifdef SANITIZED
    gs_op(a, false, 0x80, 7, EMU_OFF(simd_kept)); /* cmp byte, 0 */
    put8(a, 0);
    uint8_t *none = jump_cc(a, 4, NULL);
    call_to(a, load);
    patch_here(a, none);
#else
    (void)save, (void)load;
#endif
    rsp_add(a, 8);
    put8(a, 0x85), put8(a, 0xc0); /* test eax, eax */
    for (unsigned i = ARRAY_LEN(kept); i-- > 0;)
        push_pop(a, 0x58, kept[i]);
    uint8_t *failed = jump_cc(a, 4, NULL);
    gs_load(a, H_R11, EMU_OFF(fill_addend));
    put8(a, 0xc3);
    patch_here(a, failed);
    put8(a, 0x48), put8(a, 0x83), put8(a, 0x04), put8(a, 0x24), put8(a, GATE_SKIP); /* add [rsp] */
    jump_to(a, callout);
}

/* Fuel for as far as the next look around, in portions, unless something waits. */
static void emit_poll(struct asmbuf *a, const uint8_t *leave_r10)
{
    push_pop(a, 0x50, H_RAX);
    push_pop(a, 0x50, H_RCX);
    gs_load(a, H_RAX, EMU_OFF(icount_check)); /* 0: the bell rang */
    gs_load(a, H_RCX, EMU_OFF(fuel_base));
    reg_op(a, 0x29, H_RCX, H_R8); /* rcx: instructions done */
    reg_op(a, 0x39, H_RAX, H_RCX);
    uint8_t *due = jump_cc(a, 6, NULL); /* jbe */
    reg_op(a, 0x29, H_RAX, H_RCX);
    put8(a, 0x48), put8(a, 0x3d), put32(a, JIT_FUEL); /* cmp rax */
    uint8_t *less = jump_cc(a, 6, NULL);
    put8(a, 0xb8), put32(a, JIT_FUEL); /* mov eax */
    patch_here(a, less);
    mov_reg(a, H_R8, H_RAX);
    reg_op(a, 0x01, H_RCX, H_R8);
    gs_store(a, H_RCX, EMU_OFF(fuel_base));
    push_pop(a, 0x58, H_RCX);
    push_pop(a, 0x58, H_RAX);
    put8(a, 0xc3);
    patch_here(a, due);
    push_pop(a, 0x58, H_RCX);
    push_pop(a, 0x58, H_RAX);
    rsp_add(a, 8);
    jump_to(a, leave_r10);
}

static void emit_link(struct asmbuf *a, const uint8_t *leave)
{
    gs_store(a, H_R11, EMU_OFF(jit_link));
    jump_to(a, leave);
}

static void emit_gates(struct jit *jit, bool avx)
{
    struct asmbuf a = {jit->w, jit->w + GATES_SIZE, jit->x - jit->w, false};
    struct jit_gates *s = &jit->gates;

    const uint8_t *save = here(&a);
    emit_simd_save(&a, avx);
    const uint8_t *load = here(&a);
    emit_simd_load(&a, avx);
    s->enter = (void (*)(struct emu *, const uint8_t *))(uintptr_t)here(&a);
    emit_enter(&a);
    s->leave_entry = here(&a);
    mem_op(&a, 0x8b, H_R10, H_R11, offsetof(struct jcache_ent, lin));
    s->leave_r10 = here(&a);
    gs_store(&a, H_R10, EMU_OFF(rip));
    s->leave = here(&a);
    emit_leave(&a, save);
    s->callout = here(&a);
    emit_call_c(&a, (uint64_t)(uintptr_t)jit_do_callout, s->leave, save, NULL);
    s->stored = here(&a);
    emit_call_c(&a, (uint64_t)(uintptr_t)jit_do_stored, s->leave, save, NULL);
    s->simd_resume = load;
    s->fill = here(&a);
    emit_fill(&a, s->callout, save, load);
    s->other = here(&a);
    emit_other(&a);
    s->poll = here(&a);
    emit_poll(&a, s->leave_r10);
    s->simd_on = here(&a);
    emit_call_c(&a, (uint64_t)(uintptr_t)jit_do_simd_on, s->leave, save, load);
    s->link = here(&a);
    emit_link(&a, s->leave);
    for (unsigned form = 0; form < JIT_STRINGS; form++)
        for (unsigned n = 0; n < 8; n++)
            s->string[form][n >> 2][n & 3] = emit_string(&a, form, n & 3, n >> 2);
    jit->first = jit->used = (size_t)(a.w - jit->w + 63) & ~(size_t)63;
}

/* Translated code finds its vCPU through the GS base; some hosts do not let a
 * program set it. */
static int gs_usable(void)
{
    uint64_t gs;
    if (syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) || syscall(SYS_arch_prctl, ARCH_SET_GS, gs))
        return err_set(VC_ENOTSUP, "the host refuses arch_prctl(ARCH_SET_GS): %s", strerror(errno));
    return 0;
}

/* For x87: is it there, and has the kernel turned it on? */
static bool has_xsave(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_OSXSAVE;
}

struct jit *jit_new(bool avx, bool for_perf)
{
    struct jit *jit = calloc(1, sizeof *jit);
    if (!jit) {
        err_set(VC_ENOMEM, "no host memory for a translator; close other programs");
        return NULL;
    }
    jit->chunks = arena_new();
    if (!jit->chunks) {
        jit_free(jit);
        err_set(VC_ENOMEM, "no host memory for a translator; close other programs");
        return NULL;
    }
    if (gs_usable() || code_mem_new(&jit->mem, CODE_SIZE, for_perf ? NULL : "virtcore-code")) {
        jit_free(jit);
        return NULL;
    }
    jit->w = jit->mem.write;
    jit->x = jit->mem.exec;
    emit_gates(jit, avx);
    jit->x87 = has_xsave();
    return jit;
}

void jit_free(struct jit *jit)
{
    if (!jit)
        return;
    arena_delete(jit->chunks);
    code_mem_free(&jit->mem);
    free(jit);
}

struct jit_chunk *jit_chunk_new(struct jit *jit)
{
    struct jit_chunk *k = arena_alloc(jit->chunks, OWN_CHUNK);
    if (k)
        memset(k, 0, OWN_CHUNK);
    return k;
}

void jit_chunks_free(struct jit *jit, struct jit_chunk *k)
{
    while (k) {
        struct jit_chunk *next = k->next;
        arena_free(jit->chunks, k, OWN_CHUNK);
        k = next;
    }
}

bool jit_x87(const struct jit *jit)
{
    return jit->x87;
}

const struct jit_gates *jit_gates(const struct jit *jit)
{
    return &jit->gates;
}

bool jit_full(const struct jit *jit)
{
    return CODE_SIZE - jit->used < 2 * CODE_BLOCK || jit->slots > JIT_SLOTS - SLOTS_LEFT;
}

void jit_rewind(struct jit *jit)
{
    jit->used = jit->first;
    jit->slots = 0;
    jit->rewinds++;
    memset(jit->scattered, 0, sizeof jit->scattered);
    memset(jit->dropped, 0, sizeof jit->dropped);
}

unsigned jit_rewinds(const struct jit *jit)
{
    return jit->rewinds;
}

uint32_t jit_slot_new(struct jit *jit)
{
    return jit->slots < JIT_SLOTS ? jit->slots++ : JIT_NO_SLOT;
}

static unsigned scatter_hash(uint64_t phys)
{
    return (unsigned)(phys * 0x9e3779b97f4a7c15ull >> (64 - SCATTER_BITS));
}

bool jit_scattered(const struct jit *jit, uint64_t phys)
{
    unsigned h = scatter_hash(phys);
    /* Any vCPU may say so meanwhile, without a lock. */
    return __atomic_load_n(&jit->scattered[h >> 6], __ATOMIC_RELAXED) >> (h & 63) & 1;
}

void jit_scattered_set(struct jit *jit, uint64_t phys)
{
    unsigned h = scatter_hash(phys);
    __atomic_fetch_or(&jit->scattered[h >> 6], 1ull << (h & 63), __ATOMIC_RELAXED);
}

/* jmp, in one aligned store over the entry's first instruction. */
static void entry_jump(uint8_t *entry, const uint8_t *code, const uint8_t *to)
{
    int32_t disp = (int32_t)(to - (code + 5));
    uint64_t v;
    memcpy(&v, entry, 8);
    v = (v & 0xffffff0000000000ull) | (uint64_t)(uint32_t)disp << 8 | 0xe9;
    __atomic_store_n((uint64_t *)(void *)entry, v, __ATOMIC_SEQ_CST);
}

static struct jit_dropped *dropped_at(struct jit *jit, uint64_t phys, uint32_t mode)
{
    return &jit->dropped[(phys ^ mode) * 0x9e3779b97f4a7c15ull >> (64 - DROPPED_BITS)];
}

void jit_block_kill(struct jit *jit, struct jit_block *jb, uint64_t phys, uint32_t mode)
{
    entry_jump(jb->entry, jb->code, jb->dead);
    *dropped_at(jit, phys, mode) = (struct jit_dropped){phys, mode, jb->entry, jb->code};
}

void jit_block_again(struct jit *jit, const struct jit_block *jb, uint64_t phys, uint32_t mode)
{
    struct jit_dropped *d = dropped_at(jit, phys, mode);
    if (!d->entry || d->phys != phys || d->mode != mode)
        return;
    entry_jump(d->entry, d->code, jb->code);
    d->entry = NULL;
}

bool jit_space(struct jit *jit, struct asmbuf *a)
{
    if (jit_full(jit))
        return false;
    code_mem_reach(&jit->mem, jit->used + CODE_BLOCK / 4); /* most need less */
    *a = (struct asmbuf){jit->w + jit->used, jit->w + jit->used + CODE_BLOCK, jit->x - jit->w,
                         false};
    return true;
}

void jit_commit(struct jit *jit, const struct asmbuf *a)
{
    jit->used = (size_t)(a->w - jit->w + 15) & ~(size_t)15;
}
