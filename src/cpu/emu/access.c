/* SPDX-License-Identifier: MIT
 * The slow side of memory access: page walks, page borders, devices, alignment
 * checks, data breakpoints. Every guest address is checked here or matched an
 * entry that was. */
#include "access.h"
#include "block.h"
#include "fetch.h"
#include "lockstep/lockstep.h"
#include "sampler.h"
#include "sys/sys.h"
#include "tlb.h"

/* Where an access ends up, within one page. */
struct target {
    uint8_t *host; /* NULL: a device, or nothing */
    uint64_t gpa;
    const struct mem_region *region;
    bool drop; /* a store to ROM */
};

static _Noreturn void not_canonical(struct emu *c, const struct op *op)
{
    if (op)
        emu_at(c, op);
    emu_raise_err(c, op && op->seg == SEG_SS ? EXC_SS : EXC_GP, 0);
}

static uint64_t wrap_linear(const struct emu *c, uint64_t lin)
{
    return c->efer & EFER_LMA ? lin : (uint32_t)lin;
}

static struct target translate(struct emu *c, const struct op *op, enum tlb_priv priv,
                               enum tlb_kind kind, uint64_t lin)
{
    static const enum walk_access how[TLB_KINDS] = {WALK_READ, WALK_WRITE, WALK_FETCH};
    struct target t = {0};
    struct walk w;

    if (c->efer & EFER_LMA && !canonical(c, lin))
        not_canonical(c, op);
    c->stats.tlb_misses++;
    uint32_t err = tlb_walk(c, lin, how[kind], priv, &w);
    if (err) {
        if (op)
            emu_at(c, op);
        emu_raise_pf(c, lin, err & ~WALK_FAULT);
    }
    t.gpa = w.gpa;
    t.region = mem_find(c->env->mem, w.gpa);
    if (!t.region)
        return t;
    uint32_t need = kind == TLB_X ? VC_MEM_EXEC : kind == TLB_W ? VC_MEM_WRITE : VC_MEM_READ;
    if (!(t.region->prot & need)) {
        t.drop = kind == TLB_W;
        if (kind == TLB_X)
            t.region = NULL;
        return t;
    }
    t.host = t.region->host + (w.gpa - t.region->gpa);
    mem_touch(t.region, w.gpa);
    if (kind == TLB_W)
        mem_mark_dirty(t.region, w.gpa);
    c->tlbs->keys |= w.keys;
    tlb_fill(c, priv, kind, lin, t.host - (lin & 4095),
             c->store_watch ? c->store_watch : mem_code_word(t.region, w.gpa), &w);
    return t;
}

/* The same through the TLB: for slow paths that are slow for another reason. */
static struct target lookup(struct emu *c, const struct op *op, enum tlb_priv priv,
                            enum tlb_kind kind, uint64_t lin)
{
    unsigned i = tlb_index(lin);
    struct tlb_set *set = tlb_set(c, priv);
    const struct tlb_ent *e = &set->e[kind][i];
    if (kind != TLB_X && e->tag == (lin & PAGE_MASK_4K) && !(kind == TLB_W)) {
        struct target t = {.host = (uint8_t *)(uintptr_t)(lin + e->addend)};
        return t;
    }
    return translate(c, op, priv, kind, lin);
}

static void note_data_break(struct emu *c, uint64_t lin, unsigned len, bool write)
{
    if (unlikely(c->db_data))
        c->db_hit |= dr_match_data(c, lin, len, write);
}

static void check_align(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    if (unlikely(c->ac_check) && (lin & (size - 1)) && c->cpl == 3) {
        if (op)
            emu_at(c, op);
        emu_raise_err(c, EXC_AC, 0);
    }
}

/* ---- devices, with replay ----------------------------------------------------- */

uint64_t emu_insn_id(const struct emu *c)
{
    if (!c->block || !c->op)
        return c->icount;
    return c->icount - (c->block->nops - (uint64_t)(c->op - c->block->op));
}

static void device(struct emu *c, enum vc_space space, uint64_t addr, unsigned len, bool write,
                   uint64_t *data)
{
    if (c->replay.insn != emu_insn_id(c)) {
        emu_replay_done(c);
        c->replay.insn = emu_insn_id(c);
    }
    if (c->replay.at < c->replay.n) {
        if (!write)
            *data = c->replay.rec[c->replay.at].data;
        c->replay.at++;
        return;
    }
    struct vc_access a = {.addr = addr,
                          .len = len,
                          .write = write,
                          .cpu = c->handle,
                          .cpu_index = c->index,
                          .data = write ? *data : 0};
    if (space == VC_SPACE_PORT)
        c->stats.port_exits++;
    else
        c->stats.mmio_exits++;
    doing(c, VC_DOING_DEVICES);
    int rc = c->env->access ? c->env->access(c->env->ctx, space, &a) : ENV_UNHANDLED;
    doing(c, VC_DOING_INTERPRETER);
    if (rc < 0)
        emu_exit_error(c, rc);
    if (rc == ENV_UNHANDLED && space == VC_SPACE_MMIO &&
        mem_late(c->env->mem, addr, &a.data, len, write))
        rc = ENV_HANDLED;
    unsigned n = c->replay.n;
    if (n < ARRAY_LEN(c->replay.rec)) {
        c->replay.n = c->replay.at = n + 1;
        c->replay.rec[n].data = a.data;
    }
    if (rc == ENV_HANDLED) {
        *data = a.data;
        return;
    }
    c->replay.due = true;
    c->exit->u.mmio.data = 0;
    if (space == VC_SPACE_PORT) {
        c->exit->u.port.port = (uint16_t)addr;
        c->exit->u.port.len = (uint8_t)len;
        c->exit->u.port.write = write;
        c->exit->u.port.data = write ? (uint32_t)*data : 0;
        emu_exit(c, VC_EXIT_PORT, true);
    }
    c->exit->u.mmio.gpa = addr;
    c->exit->u.mmio.len = len;
    c->exit->u.mmio.write = write;
    c->exit->u.mmio.data = write ? *data : 0;
    emu_exit(c, VC_EXIT_MMIO, true);
}

/* Any length, in pieces a device understands. */
static void device_bytes(struct emu *c, uint64_t gpa, uint8_t *buf, unsigned len, bool write)
{
    while (len) {
        unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
        uint64_t v = 0;
        if (write)
            memcpy(&v, buf, n);
        device(c, VC_SPACE_MMIO, gpa, n, write, &v);
        if (!write)
            memcpy(buf, &v, n);
        buf += n;
        gpa += n;
        len -= n;
    }
}

uint32_t emu_port_in(struct emu *c, const struct op *op, uint16_t port, unsigned size)
{
    uint64_t v = 0;
    emu_at(c, op);
    if (unlikely(c->db_data))
        c->db_hit |= dr_match_io(c, port, size);
    device(c, VC_SPACE_PORT, port, size, false, &v);
    return (uint32_t)(size == 4 ? v : v & (BIT64(size * 8) - 1));
}

void emu_port_out(struct emu *c, const struct op *op, uint16_t port, unsigned size, uint32_t v)
{
    uint64_t data = size == 4 ? v : v & (BIT64(size * 8) - 1);
    emu_at(c, op);
    if (unlikely(c->db_data))
        c->db_hit |= dr_match_io(c, port, size);
    device(c, VC_SPACE_PORT, port, size, true, &data);
}

/* ---- loads and stores ------------------------------------------------------------ */

/* The sizes of registers without a call. */
static inline void copy_sized(void *to, const void *from, unsigned n)
{
    switch (n) {
    case 1: guest_copy(to, from, 1); break;
    case 2: guest_copy(to, from, 2); break;
    case 4: guest_copy(to, from, 4); break;
    case 8: guest_copy(to, from, 8); break;
    default: guest_copy(to, from, n); break;
    }
}

static void load_bytes(struct emu *c, const struct op *op, enum tlb_priv priv, uint64_t lin,
                       void *buf, unsigned len)
{
    uint8_t *p = buf;
    uint64_t at = lin;
    unsigned left = len;
    while (left) {
        unsigned n = (unsigned)min_u64(left, 4096 - (at & 4095));
        struct target t = lookup(c, op, priv, TLB_R, at);
        if (t.host) {
            copy_sized(p, t.host, n);
        } else {
            if (op)
                emu_at(c, op);
            device_bytes(c, t.gpa, p, n, false);
        }
        p += n;
        left -= n;
        at = wrap_linear(c, at + n);
    }
    note_data_break(c, lin, len, false);
}

static void store_part(struct emu *c, const struct op *op, const struct target *t, const void *buf,
                       unsigned n)
{
    if (t->host) {
        copy_sized(t->host, buf, n);
        if (unlikely(c->store_watch))
            lockstep_stored(c, t->gpa, n);
        /* Who decodes sees to it that this look is not too early (block.c). */
        if (unlikely(atomic_load_explicit(mem_code_word(t->region, t->gpa), memory_order_relaxed)))
            mem_stored(c->env->mem, t->region, t->gpa, n);
    } else if (!t->drop) {
        uint8_t copy[256];
        const uint8_t *p = buf;
        if (op)
            emu_at(c, op);
        for (uint64_t gpa = t->gpa; n;) {
            unsigned k = n < sizeof copy ? n : sizeof copy;
            memcpy(copy, p, k);
            device_bytes(c, gpa, copy, k, true);
            gpa += k;
            p += k;
            n -= k;
        }
    }
}

static void store_bytes(struct emu *c, const struct op *op, enum tlb_priv priv, uint64_t lin,
                        const void *buf, unsigned len)
{
    unsigned first = (unsigned)min_u64(len, 4096 - (lin & 4095));
    struct target t1 = translate(c, op, priv, TLB_W, lin), t2 = {0};
    if (first < len)
        t2 = translate(c, op, priv, TLB_W, wrap_linear(c, lin + first));
    store_part(c, op, &t1, buf, first);
    if (first < len)
        store_part(c, op, &t2, (const uint8_t *)buf + first, len - first);
    note_data_break(c, lin, len, true);
}

uint64_t access_load(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    uint64_t v = 0;
    check_align(c, op, lin, size);
    load_bytes(c, op, tlb_priv(c), lin, &v, size);
    return v;
}

void access_store(struct emu *c, const struct op *op, uint64_t lin, unsigned size, uint64_t v)
{
    check_align(c, op, lin, size);
    store_bytes(c, op, tlb_priv(c), lin, &v, size);
}

void emu_load(struct emu *c, const struct op *op, uint64_t lin, void *buf, unsigned len)
{
    const struct tlb_ent *e = &c->tlb->e[TLB_R][tlb_index(lin)];
    if (tlb_hit(e, lin, len))
        guest_copy(buf, (const void *)(uintptr_t)(lin + e->addend), len);
    else
        load_bytes(c, op, tlb_priv(c), lin, buf, len);
}

void emu_store(struct emu *c, const struct op *op, uint64_t lin, const void *buf, unsigned len)
{
    unsigned i = tlb_index(lin);
    const struct tlb_ent *e = &c->tlb->e[TLB_W][i];
    if (tlb_hit(e, lin, len)) {
        guest_copy((void *)(uintptr_t)(lin + e->addend), buf, len);
        if (unlikely(atomic_load_explicit(c->tlb->wx[i].code, memory_order_relaxed)))
            access_stored_code(c, lin, len);
    } else {
        store_bytes(c, op, tlb_priv(c), lin, buf, len);
    }
}

void emu_probe_store(struct emu *c, const struct op *op, uint64_t lin, unsigned len)
{
    if (tlb_hit(&c->tlb->e[TLB_W][tlb_index(lin)], lin, len))
        return;
    unsigned first = (unsigned)min_u64(len, 4096 - (lin & 4095));
    translate(c, op, tlb_priv(c), TLB_W, lin);
    if (first < len)
        translate(c, op, tlb_priv(c), TLB_W, wrap_linear(c, lin + first));
}

/* A store through a TLB entry to a page with code: which lines? */
void access_stored_code(struct emu *c, uint64_t lin, unsigned size)
{
    unsigned i = tlb_index(lin);
    const struct tlb_ent *e = &c->tlb->e[TLB_W][i];
    unsigned lo = (unsigned)(lin & 4095) >> 6, hi = (unsigned)((lin & 4095) + size - 1) >> 6;
    uint64_t lines = (hi == 63 ? UINT64_MAX : BIT64(hi + 1) - 1) & ~(BIT64(lo) - 1);
    if (unlikely(c->store_watch)) {
        uint64_t gpa = c->tlb->wx[i].phys | (lin & 4095);
        lockstep_stored(c, gpa, size);
        mem_stored(c->env->mem, mem_find(c->env->mem, gpa), gpa, size);
        return;
    }
    if (!(atomic_load(c->tlb->wx[i].code) & lines))
        return;
    c->stats.smc++;
    if (e->tag == (lin & PAGE_MASK_4K))
        code_hit(c->vm, c->tlb->wx[i].phys, lines);
}

void *emu_rmw_ptr(struct emu *c, const struct op *op, uint64_t lin, unsigned size)
{
    const struct tlb_ent *e = &c->tlb->e[TLB_W][tlb_index(lin)];
    if (tlb_hit(e, lin, size))
        return (void *)(uintptr_t)(lin + e->addend);
    check_align(c, op, lin, size);
    if ((lin & 4095) > 4096 - size)
        return NULL;
    struct target t = translate(c, op, tlb_priv(c), TLB_W, lin);
    if (t.host) {
        note_data_break(c, lin, size, true);
        if (unlikely(c->store_watch))
            lockstep_stored(c, t.gpa, size);
        /* Entries of the set that matches nothing cannot report code. */
        if (c->tlb == &c->tlbs->never && atomic_load(mem_code_word(t.region, t.gpa)))
            code_hit(c->vm, t.gpa & PAGE_MASK_4K, UINT64_MAX);
    }
    return t.host;
}

void emu_rmw_done(struct emu *c, uint64_t lin, unsigned size)
{
    unsigned i = tlb_index(lin);
    if (c->tlb->e[TLB_W][i].tag == (lin & PAGE_MASK_4K) &&
        unlikely(atomic_load(c->tlb->wx[i].code)))
        access_stored_code(c, lin, size);
}

/* ---- implicit accesses ----------------------------------------------------------- */

static enum tlb_priv priv_of(const struct emu *c, unsigned cpl)
{
    return cpl != 3 ? TLB_KERNEL : c->pv_kernel ? TLB_PV_KERNEL : TLB_USER;
}

void sys_load(struct emu *c, uint64_t lin, void *buf, unsigned len)
{
    load_bytes(c, NULL, TLB_KERNEL, lin, buf, len);
}

void sys_store(struct emu *c, uint64_t lin, const void *buf, unsigned len)
{
    store_bytes(c, NULL, TLB_KERNEL, lin, buf, len);
}

void sys_probe_store(struct emu *c, uint64_t lin, unsigned len)
{
    unsigned first = (unsigned)min_u64(len, 4096 - (lin & 4095));
    translate(c, NULL, TLB_KERNEL, TLB_W, lin);
    if (first < len)
        translate(c, NULL, TLB_KERNEL, TLB_W, wrap_linear(c, lin + first));
}

void cpl_store(struct emu *c, unsigned cpl, uint64_t lin, const void *buf, unsigned len)
{
    store_bytes(c, NULL, priv_of(c, cpl), lin, buf, len);
}

/* ---- fetch ------------------------------------------------------------------------ */

void fetch_translate(struct emu *c, uint64_t lin, struct fetch *f)
{
    enum tlb_priv priv = priv_of(c, c->cpl);
    struct tlb_set *set = tlb_set(c, priv);
    unsigned i = tlb_index(lin);

    lin = wrap_linear(c, lin);
    if (set->e[TLB_X][i].tag == (lin & PAGE_MASK_4K)) {
        f->host = (const uint8_t *)(uintptr_t)(lin + set->e[TLB_X][i].addend);
        f->gpa = set->xphys[i] | (lin & 4095);
        f->region = mem_find(c->env->mem, f->gpa);
        return;
    }
    struct target t = translate(c, NULL, priv, TLB_X, lin);
    f->host = t.host;
    f->gpa = t.gpa;
    f->region = t.host ? t.region : NULL;
}

void fetch_check_cs(struct emu *c, unsigned bytes)
{
    if ((c->mode & MODE_CODE_MASK) == MODE_CODE64)
        return;
    if (c->rip + bytes - 1 > c->seg[SEG_CS].limit)
        emu_raise_err(c, EXC_GP, 0);
}

/* ---- locked accesses without a pointer ---------------------------------------------- */

void emu_split_lock(struct emu *c)
{
    pthread_mutex_lock(&c->vm->split_lock);
    c->split_held = true;
}

void emu_split_unlock(struct emu *c)
{
    c->split_held = false;
    pthread_mutex_unlock(&c->vm->split_lock);
}
