/* SPDX-License-Identifier: MIT
 * MSI and MSI-X (PCI Local Bus 3.0, 6.8).
 */
#include "pci.h"
#include "../base/err.h"

#include <stdlib.h>

/* MSI capability, 64-bit form without per-vector masking (6.8.1). */
#define MSI_LEN     14u
#define MSI_CONTROL 2u
#define MSI_ADDR    4u
#define MSI_DATA    12u
#define MSI_ENABLE  0x0001u
#define MSI_64      0x0080u

/* MSI-X capability and table entry (6.8.2). */
#define MSIX_LEN      12u
#define MSIX_CONTROL  2u
#define MSIX_ENABLE   0x8000u
#define MSIX_MASK_ALL 0x4000u
#define MSIX_ENTRY    16u
#define ENTRY_DATA    8u
#define ENTRY_CTRL    12u
#define ENTRY_MASKED  0x01u
#define MSIX_MAX      2048u

int pci_dev_msi(struct pci_dev *dev, unsigned log2)
{
    int off;
    if (log2 > 5)
        return err_set(VC_EINVAL, "MSI has at most 32 vectors");
    off = pci_dev_cap(dev, PCI_CAP_MSI, MSI_LEN);
    if (off < 0)
        return off;
    dev->msi = (uint8_t)off;
    put_le16(dev->cfg + off + MSI_CONTROL, (uint16_t)(MSI_64 | log2 << 1));
    put_le16(dev->wmask + off + MSI_CONTROL, MSI_ENABLE | 0x70);
    put_le64(dev->wmask + off + MSI_ADDR, ~3ull);
    put_le16(dev->wmask + off + MSI_DATA, 0xffff);
    return off;
}

int pci_dev_msix(struct pci_dev *dev, unsigned bar, unsigned n, uint32_t table, uint32_t pba)
{
    struct pci_msix *x = &dev->msix;
    uint64_t size = bar < PCI_BARS ? dev->bar[bar].size : 0;
    uint64_t table_end = table + (uint64_t)n * MSIX_ENTRY, pba_end = pba + (n + 63ull) / 64 * 8;
    int off;

    if (!n || n > MSIX_MAX || (table & 7) || (pba & 7) || table_end > size || pba_end > size ||
        (table < pba_end && pba < table_end))
        return err_set(VC_EINVAL, "MSI-X: %u vectors do not fit so into BAR %u", n, bar);
    x->entries = calloc(n, MSIX_ENTRY);
    x->pending = calloc((n + 63) / 64, 8);
    off = x->entries && x->pending ? pci_dev_cap(dev, PCI_CAP_MSIX, MSIX_LEN)
                                   : err_set(VC_ENOMEM, "no memory for an MSI-X table");
    if (off < 0) {
        pci_dev_fini(dev);
        return off;
    }
    for (unsigned i = 0; i < n; i++)
        x->entries[i * MSIX_ENTRY + ENTRY_CTRL] = ENTRY_MASKED;
    x->cap = (uint8_t)off;
    x->bar = (uint8_t)bar;
    x->n = (uint16_t)n;
    x->table = table;
    x->pba = pba;
    put_le16(dev->cfg + off + MSIX_CONTROL, (uint16_t)(n - 1));
    put_le16(dev->wmask + off + MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK_ALL);
    put_le32(dev->cfg + off + 4, table | bar);
    put_le32(dev->cfg + off + 8, pba | bar);
    return off;
}

void pci_dev_fini(struct pci_dev *dev)
{
    free(dev->msix.entries);
    free(dev->msix.pending);
    memset(&dev->msix, 0, sizeof dev->msix);
}

static uint16_t msix_control(const struct pci_dev *dev)
{
    return dev->msix.cap ? get_le16(dev->cfg + dev->msix.cap + MSIX_CONTROL) : 0;
}

static uint16_t msi_control(const struct pci_dev *dev)
{
    return dev->msi ? get_le16(dev->cfg + dev->msi + MSI_CONTROL) : 0;
}

bool pci_msi_on(const struct pci_dev *dev)
{
    return (msi_control(dev) & MSI_ENABLE) || (msix_control(dev) & MSIX_ENABLE);
}

/* The guest chose the address; a message that goes nowhere near the local APICs
 * is dropped. */
static void send(struct pci_dev *dev, uint64_t address, uint32_t data)
{
    if (pci_master(dev) && address >> 20 == 0xfee)
        irqchip_msi(dev->bus->host->irq, address, data);
}

bool pci_msi(struct pci_dev *dev, unsigned vector)
{
    uint16_t control = msi_control(dev);
    unsigned offered = control >> 1 & 7, enabled = control >> 4 & 7;
    uint16_t data;

    if (!(control & MSI_ENABLE))
        return false;
    if (enabled > offered)
        enabled = offered;
    data = get_le16(dev->cfg + dev->msi + MSI_DATA);
    data = (uint16_t)((data & ~(BIT(enabled) - 1)) | (vector & (BIT(enabled) - 1)));
    send(dev, get_le64(dev->cfg + dev->msi + MSI_ADDR), data);
    return true;
}

static bool msix_masked(const struct pci_dev *dev, unsigned v)
{
    return (msix_control(dev) & MSIX_MASK_ALL) ||
           (dev->msix.entries[v * MSIX_ENTRY + ENTRY_CTRL] & ENTRY_MASKED);
}

static void msix_send(struct pci_dev *dev, unsigned v)
{
    const uint8_t *e = dev->msix.entries + v * MSIX_ENTRY;
    send(dev, get_le64(e), get_le32(e + ENTRY_DATA));
}

bool pci_msix(struct pci_dev *dev, unsigned v)
{
    if (!(msix_control(dev) & MSIX_ENABLE))
        return false;
    if (v >= dev->msix.n)
        return true;
    if (msix_masked(dev, v))
        dev->msix.pending[v / 64] |= BIT64(v % 64);
    else
        msix_send(dev, v);
    return true;
}

/* Sends what waited behind a mask that is gone now. */
static void flush(struct pci_dev *dev, unsigned v)
{
    uint64_t bit = BIT64(v % 64);
    if ((dev->msix.pending[v / 64] & bit) && !msix_masked(dev, v)) {
        dev->msix.pending[v / 64] &= ~bit;
        msix_send(dev, v);
    }
}

void pci_msix_unmasked(struct pci_dev *dev)
{
    if (msix_control(dev) & MSIX_ENABLE)
        for (unsigned v = 0; v < dev->msix.n; v++)
            flush(dev, v);
    pci_intx(dev, dev->intx);
}

bool pci_msix_claims(const struct pci_dev *dev, unsigned bar, uint64_t off)
{
    const struct pci_msix *x = &dev->msix;
    return x->cap && x->bar == bar &&
           (off - x->table < (uint64_t)x->n * MSIX_ENTRY || off - x->pba < (x->n + 63ull) / 64 * 8);
}

/* An access beyond the end of what it began in reads zeros there. */
void pci_msix_access(struct pci_dev *dev, uint64_t off, struct vc_access *a)
{
    struct pci_msix *x = &dev->msix;
    bool in_table = off - x->table < (uint64_t)x->n * MSIX_ENTRY;
    uint64_t at = off - (in_table ? x->table : x->pba);
    uint64_t end = in_table ? (uint64_t)x->n * MSIX_ENTRY : (x->n + 63ull) / 64 * 8;
    size_t n = (size_t)min_u64(min_u64(a->len, 8), end - at);

    if (!a->write) {
        a->data = 0;
        memcpy(&a->data, (in_table ? x->entries : (const uint8_t *)x->pending) + at, n);
    } else if (in_table && n) {
        memcpy(x->entries + at, &a->data, n);
        for (uint64_t v = at / MSIX_ENTRY; v <= (at + n - 1) / MSIX_ENTRY; v++) {
            x->entries[v * MSIX_ENTRY] &= 0xfc;
            put_le32(x->entries + v * MSIX_ENTRY + ENTRY_CTRL,
                     x->entries[v * MSIX_ENTRY + ENTRY_CTRL] & ENTRY_MASKED);
            if (msix_control(dev) & MSIX_ENABLE)
                flush(dev, (unsigned)v);
        }
    }
}
