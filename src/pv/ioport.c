/* SPDX-License-Identifier: MIT
 * Ports, and what else an I/O privilege level is needed for. The guest's kernel runs at
 * ring 3 with the processor's IOPL at 0, so each such instruction faults; the level that
 * the kernel asked for is kept beside it. The kernel counts as ring 1, or as ring 0 once
 * it has its level in its flags (VMASST_TYPE_architectural_iopl), user mode as ring 3.
 * Below its level it may use the ports whose bits its kernel's bitmap has clear. */
#include "decode.h"
#include <xen/physdev.h>

#define BITMAP_PORTS_MAX 65536u
#define BITMAP_BYTES     (BITMAP_PORTS_MAX / 8 + 1) /* the processor reads one more */

/* ---- rights ----------------------------------------------------------------------------- */

static bool level_allows(const struct pv_vcpu *v)
{
    unsigned ring = v->kernel ? !atomic_load(&v->d->iopl_in_flags) : 3;
    return ring <= v->iopl;
}

/* The kernel's tables have it, whichever are in use. */
static bool kernel_byte(struct pv_vcpu *v, uint64_t va, uint8_t *byte)
{
    struct pv_domain *d = v->d;
    uint64_t l1;
    pv_lock(v);
    const uint64_t *at = pv_entry_below(d, v->kernel_mfn, va, &l1);
    uint64_t e = at ? __atomic_load_n(at, __ATOMIC_RELAXED) : 0;
    bool there = e & PTE_P && pv_frame_ok(d, PTE_MFN(e));
    if (there)
        *byte = __atomic_load_n((uint8_t *)pv_frame_ptr(d, PTE_MFN(e)) + (va & (PAGE - 1)),
                                __ATOMIC_RELAXED);
    pv_unlock(v);
    return there;
}

/* Of a bitmap that cannot be read all bits are set. */
static bool bitmap_allows(struct pv_vcpu *v, uint16_t port, unsigned len)
{
    uint8_t b[2];
    uint64_t at = v->io_bitmap + port / 8;
    if (port + len > v->io_ports || !kernel_byte(v, at, &b[0]) || !kernel_byte(v, at + 1, &b[1]))
        return false;
    return !((b[0] | (unsigned)b[1] << 8) >> (port & 7) & ((1u << len) - 1));
}

/* ---- instructions ----------------------------------------------------------------------- */

/* The timer chip's second channel and the speaker gate, the clock; nothing else. */
static bool port_there(uint16_t port)
{
    return port == 0x42 || port == 0x43 || port == 0x61 || port == 0x70 || port == 0x71;
}

static uint32_t port_io(struct pv_vcpu *v, uint16_t port, unsigned len, bool write, uint32_t data)
{
    struct vc_access x = {.addr = port,
                          .data = data,
                          .len = len,
                          .write = write,
                          .cpu = v->handle,
                          .cpu_index = v->id};
    if (!port_there(port) || v->d->host.access(v->d->host.ctx, VC_SPACE_PORT, &x) != ENV_HANDLED)
        return UINT32_MAX;
    return (uint32_t)x.data;
}

static bool in_out(struct pv_vcpu *v, const struct pv_insn *in)
{
    bool write = in->zi.mnemonic == ZYDIS_MNEMONIC_OUT;
    const ZydisDecodedOperand *port = &in->op[write ? 0 : 1], *data = &in->op[write ? 1 : 0];
    const unsigned len = data->size / 8u;
    uint64_t number, value = 0;
    if (port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        number = port->imm.value.u & 0xff;
    else if (!pv_insn_reg_get(v, port->reg.value, &number))
        return false;
    if (!level_allows(v) && !bitmap_allows(v, (uint16_t)number, len))
        return false;
    pv_insn_reg_get(v, data->reg.value, &value);
    uint32_t got = port_io(v, (uint16_t)number, len, write, (uint32_t)value);
    if (!write)
        pv_insn_reg_set(v, data->reg.value, got);
    return true;
}

bool pv_port_insn(struct pv_vcpu *v, const struct pv_insn *in)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT: return in_out(v, in);
    case ZYDIS_MNEMONIC_CLI:
    case ZYDIS_MNEMONIC_STI: return level_allows(v); /* events have a mask of their own */
    default: return false;
    }
}

/* ---- the hypercall ---------------------------------------------------------------------- */

static long set_iopl(struct pv_vcpu *v, uint64_t at)
{
    struct physdev_set_iopl s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    if (s.iopl > 3)
        return -XEN_EINVAL;
    v->iopl = s.iopl;
    return 0;
}

static long set_iobitmap(struct pv_vcpu *v, uint64_t at)
{
    struct physdev_set_iobitmap s;
    if (!pv_copy_from(v, &s, at, sizeof s))
        return -XEN_EFAULT;
    uint64_t bitmap = (uint64_t)(uintptr_t)s.bitmap.p;
    if (s.nr_ports > BITMAP_PORTS_MAX || !pv_va_allowed(bitmap) ||
        !pv_va_allowed(bitmap + BITMAP_BYTES - 1))
        return -XEN_EINVAL;
    v->io_bitmap = bitmap;
    v->io_ports = s.nr_ports;
    return 0;
}

long hc_physdev_op(struct pv_vcpu *v, const uint64_t a[6])
{
    switch ((uint32_t)a[0]) {
    case PHYSDEVOP_set_iopl: return set_iopl(v, a[1]);
    case PHYSDEVOP_set_iobitmap: return set_iobitmap(v, a[1]);
    default: return -XEN_ENOSYS;
    }
}
