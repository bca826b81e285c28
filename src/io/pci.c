/* SPDX-License-Identifier: MIT
 * PCI configuration: mechanism #1 (PCI Local Bus 3.0, 3.2.2.3.2) and ECAM (PCI
 * Express Base 7.2.2), BARs, INTx. One bus, single-function devices, a host
 * bridge at 0:0.0.
 */
#include "pci.h"
#include "../base/err.h"

#include <stdlib.h>

#define CF8_ENABLE 0x80000000u

/* ---- configuration space ---- */

static struct pci_dev *at(const struct pci_bus *bus, unsigned busnr, unsigned devfn)
{
    return busnr == 0 && (devfn & 7) == 0 ? bus->slot[devfn >> 3] : NULL;
}

/* Bytes of absent devices and past the end of the space read as ones. */
static uint64_t cfg_read(const struct pci_dev *dev, unsigned off, unsigned len)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < len; i++)
        v |= (uint64_t)(dev && off + i < PCI_CFG ? dev->cfg[off + i] : 0xff) << (8 * i);
    return v;
}

static bool overlap(unsigned off, unsigned len, unsigned reg, unsigned reg_len)
{
    return off < reg + reg_len && reg < off + len;
}

static void cfg_write(struct pci_dev *dev, unsigned off, unsigned len, uint64_t data)
{
    if (!dev || off >= PCI_CFG)
        return;
    if (len > PCI_CFG - off)
        len = PCI_CFG - off;
    for (unsigned i = 0; i < len; i++) {
        uint8_t v = (uint8_t)(data >> (8 * i)), *reg = &dev->cfg[off + i];
        *reg &= (uint8_t) ~(v & dev->w1c[off + i]);
        *reg = (uint8_t)((*reg & ~dev->wmask[off + i]) | (v & dev->wmask[off + i]));
    }
    if (overlap(off, len, PCI_COMMAND, 2))
        pci_intx(dev, dev->intx);
    if (dev->msix.cap && overlap(off, len, dev->msix.cap + 2u, 2))
        pci_msix_unmasked(dev);
    if (dev->msi && overlap(off, len, dev->msi + 2u, 2))
        pci_intx(dev, dev->intx);
    if (dev->cfg_written)
        dev->cfg_written(dev, off, len);
}

/* CONFIG_ADDRESS at 0xcf8 takes dwords only; 0xcf9 as a byte is the reset
 * control register; CONFIG_DATA at 0xcfc takes any size. */
int pci_port_access(void *ud, struct vc_access *a)
{
    struct pci_bus *bus = ud;
    unsigned off = (unsigned)(a->addr - 0xcf8);

    if (off == 0 && a->len == 4) {
        if (a->write)
            bus->cf8 = (uint32_t)a->data & ~3u;
        else
            a->data = bus->cf8;
    } else if (off == PC_PORT_RST_CNT - 0xcf8 && a->len == 1) {
        if (a->write)
            sysctl_rst_cnt_write(bus->sysctl, (uint8_t)a->data);
        else
            a->data = sysctl_rst_cnt_read(bus->sysctl);
    } else if (off >= 4 && (bus->cf8 & CF8_ENABLE)) {
        struct pci_dev *dev = at(bus, bus->cf8 >> 16 & 0xff, bus->cf8 >> 8 & 0xff);
        unsigned reg = (bus->cf8 & 0xfc) + off - 4;
        if (a->write)
            cfg_write(dev, reg, a->len, a->data);
        else
            a->data = cfg_read(dev, reg, a->len > 8 ? 8 : a->len);
    } else if (!a->write) {
        a->data = ~0ull;
    }
    return 0;
}

int pci_ecam_access(void *ud, struct vc_access *a)
{
    struct pci_bus *bus = ud;
    uint64_t off = a->addr - PC_ECAM_BASE;
    struct pci_dev *dev = at(bus, (unsigned)(off >> 20), (unsigned)(off >> 12) & 0xff);

    if (a->write)
        cfg_write(dev, off & 0xfff, a->len, a->data);
    else
        a->data = cfg_read(dev, off & 0xfff, a->len > 8 ? 8 : a->len);
    return 0;
}

/* ---- BARs ---- */

/* Where a BAR decodes now; false: it does not. */
static bool bar_base(const struct pci_dev *dev, unsigned i, uint64_t *base)
{
    const struct pci_bar *bar = &dev->bar[i];
    const uint8_t *reg = dev->cfg + PCI_BAR0 + 4 * i;
    uint8_t cmd = dev->cfg[PCI_COMMAND];

    switch (bar->kind) {
    case PCI_BAR_IO: *base = get_le32(reg) & ~3u; return cmd & PCI_CMD_IO;
    case PCI_BAR_MEM32: *base = get_le32(reg) & ~15u; return cmd & PCI_CMD_MEM;
    case PCI_BAR_MEM64: *base = get_le64(reg) & ~15ull; return cmd & PCI_CMD_MEM;
    default: return false;
    }
}

static int bar_call(struct pci_dev *dev, unsigned i, uint64_t off, struct vc_access *a)
{
    if (pci_msix_claims(dev, i, off)) {
        pci_msix_access(dev, off, a);
        return 0;
    }
    if (dev->bar[i].fn)
        return dev->bar[i].fn(dev, i, off, a);
    if (!a->write)
        a->data = ~0ull;
    return 0;
}

int pci_bar_access(struct pci_bus *bus, enum vc_space space, struct vc_access *a)
{
    for (unsigned s = 0; s < PCI_SLOTS; s++) {
        struct pci_dev *dev = bus->slot[s];
        for (unsigned i = 0; dev && i < PCI_BARS; i++) {
            uint64_t base;
            bool io = dev->bar[i].kind == PCI_BAR_IO;
            if (io != (space == VC_SPACE_PORT) || !bar_base(dev, i, &base))
                continue;
            if (a->addr - base < dev->bar[i].size)
                return bar_call(dev, i, a->addr - base, a);
        }
    }
    return ENV_UNHANDLED;
}

/* ---- INTx ---- */

/* The line is shared: it is up while any device asserts it (PCI 2.2.6). A device
 * whose INTx is disabled, or which uses MSI or MSI-X, asserts nothing. */
void pci_intx(struct pci_dev *dev, bool level)
{
    struct pci_bus *bus = dev->bus;
    unsigned pin = dev->cfg[PCI_INT_PIN];
    bool masked = get_le16(dev->cfg + PCI_COMMAND) & PCI_CMD_INTX_OFF;
    bool out;

    dev->intx = level;
    if (level)
        dev->cfg[PCI_STATUS] |= PCI_STATUS_INTX;
    else
        dev->cfg[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
    out = level && pin && !masked && !pci_msi_on(dev);
    if (!bus || out == dev->intx_out)
        return;
    dev->intx_out = out;
    unsigned gsi = pci_gsi(dev->slot, pin - 1), *count = &bus->lines[gsi - PCI_GSI_BASE];
    *count += out ? 1u : -1u;
    irqchip_line(bus->host->irq, gsi, *count != 0);
}

/* ---- devices ---- */

void pci_dev_setup(struct pci_dev *dev, uint16_t vendor, uint16_t device, uint32_t class_code,
                   uint8_t revision, unsigned pin)
{
    put_le16(dev->cfg + PCI_VENDOR, vendor);
    put_le16(dev->cfg + PCI_DEVICE, device);
    dev->cfg[PCI_REVISION] = revision;
    dev->cfg[PCI_CLASS] = (uint8_t)class_code;
    dev->cfg[PCI_CLASS + 1] = (uint8_t)(class_code >> 8);
    dev->cfg[PCI_CLASS + 2] = (uint8_t)(class_code >> 16);
    dev->cfg[PCI_INT_PIN] = (uint8_t)pin;
    put_le16(dev->wmask + PCI_COMMAND,
             PCI_CMD_IO | PCI_CMD_MEM | PCI_CMD_MASTER | PCI_CMD_INTX_OFF);
    dev->wmask[PCI_INT_LINE] = 0xff;
    dev->wmask[0x0c] = 0xff; /* cache line size */
    dev->cap_end = 0x40;
}

int pci_dev_bar(struct pci_dev *dev, unsigned bar, enum pci_bar_kind kind, uint64_t size,
                pci_bar_fn *fn)
{
    bool wide = kind == PCI_BAR_MEM64;
    uint8_t *cfg = dev->cfg + PCI_BAR0 + 4 * bar, *mask = dev->wmask + PCI_BAR0 + 4 * bar;

    if (bar >= PCI_BARS || (wide && bar + 1 >= PCI_BARS) || !size || (size & (size - 1)) ||
        size < (kind == PCI_BAR_IO ? 4 : 16) || (!wide && size > 1u << 31) ||
        (kind == PCI_BAR_IO && size > 256) || kind == PCI_BAR_NONE)
        return err_set(VC_EINVAL, "BAR %u of %llu bytes cannot be", bar, (unsigned long long)size);
    dev->bar[bar] = (struct pci_bar){kind, size, fn};
    if (wide) {
        put_le32(cfg, 4);
        put_le64(mask, ~(size - 1));
    } else {
        put_le32(cfg, kind == PCI_BAR_IO ? 1 : 0);
        put_le32(mask, (uint32_t) ~(size - 1));
    }
    return 0;
}

int pci_dev_cap(struct pci_dev *dev, uint8_t id, unsigned len)
{
    unsigned off = dev->cap_end;
    if (off < 0x40 || len < 2 || len > PCI_CFG - off)
        return err_set(VC_ELIMIT, "no room for a PCI capability of %u bytes", len);
    dev->cfg[off] = id;
    dev->cfg[off + 1] = dev->cfg[PCI_CAP];
    dev->cfg[PCI_CAP] = (uint8_t)off;
    dev->cfg[PCI_STATUS] |= PCI_STATUS_CAPS;
    off += (len + 3) & ~3u;
    dev->cap_end = (uint8_t)(off < PCI_CFG ? off : 0); /* 0: full */
    return dev->cfg[PCI_CAP];
}

int pci_add(struct pci_bus *bus, struct pci_dev *dev, int slot)
{
    if (slot < 0)
        for (slot = 1; slot < (int)PCI_SLOTS && bus->slot[slot]; slot++)
            ;
    if (slot >= (int)PCI_SLOTS)
        return err_set(VC_ELIMIT, "no free slot on the PCI bus");
    if (bus->slot[slot])
        return err_set(VC_EEXIST, "PCI slot %d is taken", slot);
    dev->bus = bus;
    dev->slot = (uint8_t)slot;
    bus->slot[slot] = dev;
    return slot;
}

int pci_init(struct pci_bus *bus, const struct pc_host *host, struct sysctl *sysctl)
{
    memset(bus, 0, sizeof *bus);
    bus->host = host;
    bus->sysctl = sysctl;
    /* A generic PCI Express host bridge: no driver has quirks for it. */
    pci_dev_setup(&bus->host_bridge, 0x1b36, 0x0008, 0x060000, 0, 0);
    return pci_add(bus, &bus->host_bridge, 0);
}

void pci_fini(struct pci_bus *bus)
{
    for (unsigned s = 0; s < PCI_SLOTS; s++) {
        struct pci_dev *dev = bus->slot[s];
        bus->slot[s] = NULL;
        if (!dev)
            continue;
        pci_dev_fini(dev);
        if (dev->free)
            dev->free(dev);
    }
}
