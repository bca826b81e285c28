/* SPDX-License-Identifier: MIT
 * Ports, memory of devices, hypercalls: exits that devices answer, or the embedder. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include "../../mmu/mem.h"

/* ---- pieces ----------------------------------------------------------------------- */

/* The size of the next piece: KVM's accesses to memory have up to eight bytes, of any
 * number; a bus has 1, 2, 4 and 8. */
static unsigned piece_size(const struct kvm_io *io)
{
    if (io->string)
        return io->size;
    return 1u << (31 - __builtin_clz(io->left));
}

static void piece_done(struct kvm_io *io, unsigned len)
{
    io->due = false;
    io->left -= len;
    io->data += len;
    if (!io->string)
        io->addr += len;
}

static uint64_t load(const uint8_t *p, unsigned len)
{
    uint64_t v = 0;
    memcpy(&v, p, len);
    return v;
}

/* The embedder's answer to the piece that left. A write has none. */
static void take_answer(struct kvm_cpu *c, unsigned len)
{
    struct kvm_io *io = &c->io;
    uint64_t v = io->space == VC_SPACE_PORT ? c->exit->u.port.data : c->exit->u.mmio.data;
    if (!io->write)
        memcpy(io->data, &v, len);
    piece_done(io, len);
}

static int leave(struct kvm_cpu *c, uint64_t value, unsigned len)
{
    struct kvm_io *io = &c->io;
    struct vc_exit *x = c->exit;
    io->due = true;
    memset(&x->u, 0, sizeof x->u);
    if (io->space == VC_SPACE_PORT) {
        x->kind = VC_EXIT_PORT;
        x->u.port.port = (uint16_t)io->addr;
        x->u.port.len = (uint8_t)len;
        x->u.port.write = io->write;
        x->u.port.data = (uint32_t)value;
    } else {
        x->kind = VC_EXIT_MMIO;
        x->u.mmio.gpa = io->addr;
        x->u.mmio.len = len;
        x->u.mmio.write = io->write;
        x->u.mmio.data = value;
    }
    return NEXT_LEAVE;
}

int kvm_io_go(struct kvm_cpu *c)
{
    struct kvm_io *io = &c->io;
    const struct cpu_env *env = &c->vm->env;
    while (io->left) {
        unsigned len = piece_size(io);
        if (io->due) {
            take_answer(c, len);
            continue;
        }
        struct vc_access a = {
            .addr = io->addr,
            .data = io->write ? load(io->data, len) : 0,
            .len = len,
            .write = io->write,
            .cpu = c->handle,
            .cpu_index = c->index,
        };
        int rc = env->access ? env->access(env->ctx, io->space, &a) : ENV_UNHANDLED;
        if (rc < 0)
            return rc;
        if (rc == ENV_UNHANDLED)
            return leave(c, io->write ? a.data : 0, len);
        if (!io->write)
            memcpy(io->data, &a.data, len);
        piece_done(io, len);
    }
    return NEXT_GO;
}

/* ---- the two kinds ------------------------------------------------------------------ */

int kvm_io_exit(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    c->stats.port_exits += run->io.count;
    c->unfinished = true;
    c->io = (struct kvm_io){
        .space = VC_SPACE_PORT,
        .write = run->io.direction == KVM_EXIT_IO_OUT,
        .string = true,
        .data = (uint8_t *)run + run->io.data_offset,
        .addr = run->io.port,
        .size = run->io.size,
        .left = run->io.size * run->io.count,
    };
    return kvm_io_go(c);
}

int kvm_mmio_exit(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    c->unfinished = true;
    if (mem_late(c->vm->env.mem, run->mmio.phys_addr, run->mmio.data, run->mmio.len,
                 run->mmio.is_write))
        return NEXT_GO;
    c->stats.mmio_exits++;
    c->io = (struct kvm_io){
        .space = VC_SPACE_MMIO,
        .write = run->mmio.is_write,
        .data = run->mmio.data,
        .addr = run->mmio.phys_addr,
        .left = (unsigned)min_u64(run->mmio.len, sizeof run->mmio.data),
    };
    return kvm_io_go(c);
}

/* ---- hypercalls ------------------------------------------------------------------------ */

/* KVM keeps hypercalls to itself, unless it can be asked to treat them as Xen's, whose
 * registers are ours. */
int kvm_hcall_exit(struct kvm_cpu *c)
{
    struct kvm_run *run = c->run;
    const struct cpu_env *env = &c->vm->env;
    c->unfinished = true;
    if (run->xen.type != KVM_EXIT_XEN_HCALL)
        return kvm_failed(c, run->exit_reason, "an exit of Xen's that nobody asked for");
    /* KVM takes other registers in 32-bit code: these are the same everywhere. */
    const struct kvm_regs *r = &run->s.regs.regs;
    uint64_t mask = run->xen.u.hcall.longmode ? UINT64_MAX : UINT32_MAX;
    uint64_t args[6] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    uint64_t ret = (uint64_t)-1000; /* KVM's "no such call" */
    for (unsigned i = 0; i < 6; i++)
        args[i] &= mask;
    int rc = env->hcall && env->has_hcall(env->ctx)
                 ? env->hcall(env->ctx, c->handle, run->xen.u.hcall.input, args, &ret)
                 : ENV_HANDLED;
    run->xen.u.hcall.result = ret;
    if (rc != ENV_UNHANDLED)
        return rc;
    struct vc_exit *x = c->exit;
    memset(&x->u, 0, sizeof x->u);
    x->kind = VC_EXIT_HCALL;
    x->u.hcall.nr = run->xen.u.hcall.input;
    memcpy(x->u.hcall.args, args, sizeof args);
    c->hcall_due = true;
    return NEXT_LEAVE;
}
