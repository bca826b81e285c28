/* SPDX-License-Identifier: MIT
 * How a block is left: direct jumps, which are linked, and addresses that the
 * jump cache knows. */
#include "trans.h"

void put_ip(struct trans *t, int64_t off)
{
    gs_load(&t->a, H_R10, GPR_OFF(R_IPB));
    lea_disp_w(&t->a, !t->code32, H_R10, H_R10, (int32_t)off);
}

void put_fuel(struct asmbuf *a, unsigned n)
{
    put8(a, 0x49), put8(a, 0x83), put8(a, 0xe8), put8(a, n);
}

static struct cold *put_poll(struct trans *t, unsigned done, enum cold_ip ip, int64_t off)
{
    put_fuel(&t->a, done);
    struct cold *k = trans_cold_new(t, done - 1, COLD_POLL);
    k->ip = ip;
    k->off = off;
    k->from = jump_cc(&t->a, 14, NULL); /* jle */
    k->back = here(&t->a);
    return k;
}

/* Goes on at r10 when the jump cache knows it: then `grow` is added to the guest's
 * stack pointer. Else to k. */
static void put_lookup(struct trans *t, unsigned done, struct cold *k, int32_t grow)
{
    struct asmbuf *a = &t->a;
    mov_reg(a, H_R11, H_R10);
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xeb), put8(a, JCACHE_BITS); /* shr r11, bits */
    put8(a, 0x45), put8(a, 0x31), put8(a, 0xd3);                       /* xor r11d, r10d */
    put8(a, 0x41), put8(a, 0x81), put8(a, 0xe3);                       /* and r11d, mask */
    put32(a, (1u << JCACHE_BITS) - 1);
    put8(a, 0x41), put8(a, 0xc1), put8(a, 0xe3), put8(a, 5); /* shl r11d, 5 */
    gs_op(a, true, 0x03, H_R11, EMU_OFF(jcache));            /* add r11, jcache */
    mem_op(a, 0x3b, H_R10, H_R11, offsetof(struct jcache_ent, lin));
    k->from = jump_cc(a, 5, NULL);
    mem_op(a, 0x8b, H_R10, H_R11, offsetof(struct jcache_ent, tag));
    gs_op(a, true, 0x3b, H_R10, EMU_OFF(jtag));
    k->from2 = jump_cc(a, 5, NULL);
    k->back = k->after = here(a);
    if (grow)
        put_sp(t, grow);
    put_poll(t, done, IP_ENTRY, 0);
    mem_op(a, 0x8b, H_R10, H_R11, offsetof(struct jcache_ent, lin));
    put8(a, 0x49), put8(a, 0x81), put8(a, 0xe2), put32(a, 0xfffff000u); /* and r10, -4096 */
    gs_store(a, H_R10, GPR_OFF(R_IPB));
    put8(a, 0x41), put8(a, 0xff); /* jmp [r11 + code] */
    put8(a, 0x63), put8(a, offsetof(struct jcache_ent, code));
}

/* The same for an address that is left to when the cache does not know it. */
static void put_lookup_leave(struct trans *t, unsigned done, enum cold_ip ip, int64_t off)
{
    struct cold *k = trans_cold_new(t, done - 1, COLD_MISS);
    k->ip = ip;
    k->off = off;
    put_lookup(t, done, k, 0);
}

void trans_exit(struct trans *t, unsigned done, int64_t off, uint32_t live)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, live);
    put_x87_pointers(t);
    if (t->fast)
        put_loop_stored(t);
    /* In another page, or it may reach into one: not by the mapping of this one alone. */
    if (off < 0 || off > 4096 - INSN_MAX) {
        put_ip(t, off);
        put_lookup_leave(t, done, IP_OFF, off);
        return;
    }
    put_poll(t, done, IP_OFF, off);
    if (off == (int64_t)t->start) {
        if (!t->loop.on)
            jump_to(a, t->entry + a->to_exec);
        else if (t->loop.prologue)
            jump_to(a, t->loop.prologue + a->to_exec);
        else if (t->loop.nfrom < ARRAY_LEN(t->loop.from))
            t->loop.from[t->loop.nfrom++] = jump_to(a, here(a));
        else
            t->failed = true;
        return;
    }
    struct jit_link *l = trans_own(t, sizeof *l);
    if (!l)
        return;
    while (((uintptr_t)a->w + 1) & 3)
        put8(a, 0x90);
    l->disp = a->w + 1;
    put8(a, 0xe9), put32(a, 0); /* to what follows, until linked */
    put_ip(t, off);
    gs_store(a, H_R10, EMU_OFF(rip));
    mov_imm64(a, H_R11, (uint64_t)(uintptr_t)l);
    jump_to(a, t->gates->link);
}

static void put_jcc(struct trans *t, struct tinsn *ti, unsigned i)
{
    need_flags(t, ti->use | ti->live_after | ti->live_taken);
    struct cold *k = trans_cold_new(t, i, COLD_TAKEN);
    k->from = jump_cc(&t->a, ti->zi.opcode & 15, NULL);
}

/* A slow path in which the interpreter does the whole branch. */
static struct cold *branch_cold(struct trans *t, unsigned i)
{
    struct cold *k = trans_cold_new(t, i, COLD_CALLOUT);
    k->site = trans_site(t, i);
    return k;
}

/* r10 = the value a register or memory operand names. */
static void put_target(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, ti->live_before);
    if (ti->has_access) {
        struct cold *k = put_check(t, i, &ti->m);
        struct hmem h = put_operand(t, &ti->m);
        hmem_op_w(a, !t->code32, 0x8b, H_R10, &h);
        if (k)
            k->after = here(a); /* the interpreter leaves the block by itself */
        return;
    }
    unsigned guest = op_gpr(ti->zop[0].reg.value) / 8u;
    if (homed((int)guest))
        gs_load(a, H_R10, GPR_OFF(guest));
    else
        mov_reg(a, H_R10, host_reg((int)guest));
}

/* A call of an address that is not canonical raises #GP as the call, so the
 * interpreter does it (SDM volume 2, CALL). Clobbers r11 and flags. Other branches
 * fail in the jump cache before anything is done. */
static void put_canonical(struct trans *t, unsigned i)
{
    struct asmbuf *a = &t->a;
    struct cold *k = branch_cold(t, i);
    mov_reg(a, H_R11, H_R10);
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xe3), put8(a, 16); /* shl r11, 16 */
    put8(a, 0x49), put8(a, 0xc1), put8(a, 0xfb), put8(a, 16); /* sar r11, 16 */
    reg_op(a, 0x39, H_R11, H_R10);
    k->from = jump_cc(a, 5, NULL);
    k->back = k->after = here(a);
}

/* The return address to the stack, whose access is m. */
static void put_return_address(struct trans *t, struct tinsn *ti, unsigned i,
                               const struct access *m)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, ti->live_before);
    struct cold *k = put_check(t, i, m);
    struct hmem h = put_operand(t, m);
    put_ip(t, ti->off + ti->op.len);
    hmem_op_w(a, !t->code32, 0x89, H_R10, &h);
    if (k)
        k->after = here(a);
    put_sp(t, -(int32_t)t->word);
    struct access now = *m;
    now.disp = 0;
    put_stored(t, i, &now, true);
}

static void put_ret(struct trans *t, struct tinsn *ti, unsigned i)
{
    struct asmbuf *a = &t->a;
    spill_flags(t, ti->live_before);
    struct cold *k = put_check(t, i, &ti->m);
    struct hmem h = put_operand(t, &ti->m);
    hmem_op_w(a, !t->code32, 0x8b, H_R10, &h);
    if (k)
        k->after = here(a);
    put_lookup(t, i + 1, branch_cold(t, i), (int32_t)(t->word + (ti->op.imm & 0xffff)));
}

void put_branch(struct trans *t, struct tinsn *ti, unsigned i)
{
    const struct access top = {.base = 4,
                               .index = -1,
                               .disp = -(int32_t)t->word,
                               .seg = -1,
                               .size = t->word,
                               .write = true};
    if (t->fast && i == t->loop.last) {
        put_loop_back(t, ti, i);
        return;
    }
    if (ti->kind == T_JCC) {
        put_jcc(t, ti, i);
        return;
    }
    t->ended = true;
    put_x87_pointers(t);
    switch (ti->kind) {
    case T_JMP: trans_exit(t, i + 1, ti->op.disp, ti->live_after); break;
    case T_CALL:
        put_return_address(t, ti, i, &ti->m);
        trans_exit(t, i + 1, ti->op.disp, 0);
        break;
    case T_CALL_IND:
        put_target(t, ti, i);
        if (!t->code32)
            put_canonical(t, i);
        gs_store(&t->a, H_R10, EMU_OFF(jit_tmp));
        put_return_address(t, ti, i, &top);
        gs_load(&t->a, H_R10, EMU_OFF(jit_tmp));
        put_lookup_leave(t, i + 1, IP_TMP, 0);
        break;
    case T_JMP_IND:
        put_target(t, ti, i);
        put_lookup(t, i + 1, branch_cold(t, i), 0);
        break;
    default: put_ret(t, ti, i); break;
    }
}
