/* SPDX-License-Identifier: MIT
 * A guest writes to a page table as if it were its own memory. The page is mapped
 * read-only, the write faults, and is done here with the checks that a hypercall
 * would meet: for tables of the lowest level, as Xen does. */
#include "decode.h"

#define FL_CF BIT64(0)
#define FL_PF BIT64(2)
#define FL_AF BIT64(4)
#define FL_ZF BIT64(6)
#define FL_SF BIT64(7)
#define FL_OF BIT64(11)

/* One read-modify-write of `size` bytes. */
struct rmw {
    ZydisMnemonic what;
    unsigned size;
    uint64_t src;   /* the source operand; of BTx the bit */
    uint64_t rax;   /* CMPXCHG: what is expected */
    uint64_t flags; /* the arithmetic ones that come of it */
    uint64_t mask;  /* which those are */
};

static uint64_t size_mask(unsigned size)
{
    return size == 8 ? UINT64_MAX : BIT64(size * 8) - 1;
}

static void logic_flags(struct rmw *r, uint64_t value)
{
    value &= size_mask(r->size);
    r->mask = FL_CF | FL_PF | FL_ZF | FL_SF | FL_OF;
    r->flags = (value ? 0 : FL_ZF) | (value >> (r->size * 8 - 1) & 1 ? FL_SF : 0) |
               (__builtin_parityll(value & 0xff) ? 0 : FL_PF);
}

/* What comes of `old`; false: nothing is to be stored (CMPXCHG found another). */
static bool compute(struct rmw *r, uint64_t old, uint64_t *value)
{
    uint64_t bit = BIT64(r->src & (r->size * 8 - 1)), diff;
    switch (r->what) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_XCHG: *value = r->src; return true;
    case ZYDIS_MNEMONIC_AND: logic_flags(r, *value = old & r->src); return true;
    case ZYDIS_MNEMONIC_OR: logic_flags(r, *value = old | r->src); return true;
    case ZYDIS_MNEMONIC_XOR: logic_flags(r, *value = old ^ r->src); return true;
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTC:
        r->mask = FL_CF;
        r->flags = old & bit ? FL_CF : 0;
        *value = r->what == ZYDIS_MNEMONIC_BTR   ? old & ~bit
                 : r->what == ZYDIS_MNEMONIC_BTS ? old | bit
                                                 : old ^ bit;
        return true;
    default: /* CMPXCHG: flags of a comparison */
        diff = (r->rax - old) & size_mask(r->size);
        logic_flags(r, diff);
        r->mask |= FL_AF;
        r->flags |= (r->rax & size_mask(r->size)) < old ? FL_CF : 0;
        r->flags |= (r->rax ^ old ^ diff) & 0x10 ? FL_AF : 0;
        r->flags |= ((r->rax ^ old) & (r->rax ^ diff)) >> (r->size * 8 - 1) & 1 ? FL_OF : 0;
        *value = r->src;
        return diff == 0;
    }
}

static bool known(const struct pv_insn *in)
{
    if (in->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY)
        return false;
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMPXCHG: return true;
    case ZYDIS_MNEMONIC_BTR: /* a bit number in a register may mean another word */
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTC: return in->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    default: return false;
    }
}

static bool operands(struct pv_vcpu *v, const struct pv_insn *in, struct rmw *r)
{
    if (!known(in))
        return false;
    *r = (struct rmw){.what = in->zi.mnemonic, .size = in->op[0].size / 8u};
    if (r->size != 1 && r->size != 2 && r->size != 4 && r->size != 8)
        return false;
    if (in->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        r->src = in->op[1].imm.value.u;
    else if (in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER ||
             !pv_insn_reg_get(v, in->op[1].reg.value, &r->src))
        return false;
    r->rax = v->d->eng->gprs(v->bc)[0];
    return true;
}

/* The entry as a whole, changed. 0, or Xen's code; *was is the old operand. */
static int apply(struct pv_domain *d, const struct pv_entry *where, unsigned shift, struct rmw *r,
                 uint64_t *was)
{
    const uint64_t *at = (const uint64_t *)pv_frame_ptr(d, where->mfn) + where->i;
    for (;;) {
        uint64_t e = __atomic_load_n(at, __ATOMIC_RELAXED), value;
        uint64_t mask = size_mask(r->size);
        *was = e >> shift & mask;
        if (!compute(r, *was, &value))
            return 0;
        uint64_t now = (e & ~(mask << shift)) | (value & mask) << shift;
        int rc = pv_entry_set(d, where, now, false, &e);
        if (rc != -XEN_EAGAIN) /* else a walk set a bit meanwhile */
            return rc;
    }
}

static bool finish(struct pv_vcpu *v, const struct pv_insn *in, const struct rmw *r, uint64_t was)
{
    const struct pv_engine *e = v->d->eng;
    if (r->what == ZYDIS_MNEMONIC_XCHG)
        pv_insn_reg_set(v, in->op[1].reg.value, was);
    if (r->what == ZYDIS_MNEMONIC_CMPXCHG && !(r->flags & FL_ZF)) {
        static const ZydisRegister acc[] = {[1] = ZYDIS_REGISTER_AL,
                                            [2] = ZYDIS_REGISTER_AX,
                                            [4] = ZYDIS_REGISTER_EAX,
                                            [8] = ZYDIS_REGISTER_RAX};
        pv_insn_reg_set(v, acc[r->size], was);
    }
    if (r->mask)
        e->set_rflags(v->bc, (e->rflags(v->bc) & ~r->mask) | r->flags);
    e->set_rip(v->bc, in->next);
    return true;
}

bool pv_pt_write(struct pv_vcpu *v, uint64_t va)
{
    struct pv_domain *d = v->d;
    struct pv_insn in;
    struct rmw r;
    uint64_t l1, was;
    bool done = false;

    pv_lock(v);
    const uint64_t *leaf = pv_entry_find(v, va, &l1);
    uint64_t e = leaf ? __atomic_load_n(leaf, __ATOMIC_RELAXED) : 0;
    uint64_t mfn = PTE_MFN(e);
    if ((e & (PTE_P | PTE_W)) == PTE_P && pv_frame_ok(d, mfn) && d->page[mfn].types &&
        d->page[mfn].type == TYPE_L1 && pv_insn_decode(v, d->eng->rip(v->bc), &in) &&
        operands(v, &in, &r) && (va & 7) + r.size <= 8) {
        const struct pv_entry where = {mfn, 1, (va & (PAGE - 1)) / 8};
        if (!apply(d, &where, (unsigned)(va & 7) * 8, &r, &was))
            done = finish(v, &in, &r, was);
    }
    pv_unlock(v);
    return done;
}
