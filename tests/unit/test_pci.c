/* SPDX-License-Identifier: MIT
 * PCI: both ways into configuration space, BARs, MSI, MSI-X, INTx. */
#include "pc_rig.h"
#include <stdlib.h>

static struct pci_dev *dev;
static uint32_t reg;
static unsigned cfg_writes, freed;

static int bar_fn(struct pci_dev *d, unsigned bar, uint64_t off, struct vc_access *a)
{
    (void)d;
    if (a->write)
        reg = (uint32_t)a->data;
    else
        a->data = reg + off + bar * 0x1000;
    return 0;
}

static void cfg_written(struct pci_dev *d, unsigned off, unsigned len)
{
    (void)d;
    cfg_writes += off < PCI_CFG && len <= 8;
}

static void dev_free(struct pci_dev *d)
{
    freed++;
    free(d);
}

static void setup(void)
{
    struct vc_pc_opts opts = {.size = sizeof opts, .ram = 4 << 20, .cpus = 1};
    reg = cfg_writes = freed = 0;
    rig_init(opts.ram);
    rig.pc = pc_new(&rig.host, &opts);
    cr_assert(rig.pc, "%s", vc_errmsg());
    dev = calloc(1, sizeof *dev);
    cr_assert(dev);
    pci_dev_setup(dev, 0x1234, 0x5678, 0xff0000, 1, 1);
    dev->cfg_written = cfg_written;
    dev->free = dev_free;
    cr_assert_eq(pci_dev_bar(dev, 0, PCI_BAR_IO, 64, bar_fn), 0);
    cr_assert_eq(pci_dev_bar(dev, 1, PCI_BAR_MEM32, 4096, bar_fn), 0);
    cr_assert_eq(pci_dev_bar(dev, 2, PCI_BAR_MEM64, 1 << 16, bar_fn), 0);
    cr_assert_eq(pci_dev_msi(dev, 2), 0x40);
    cr_assert_eq(pci_dev_msix(dev, 2, 70, 0x0, 0x800), 0x50);
    bus_lock(rig.host.bus);
    cr_assert_eq(pci_add(pc_pci(rig.pc), dev, -1), 1);
    bus_unlock(rig.host.bus);
}
static void teardown(void)
{
    freed = 0;
    rig_fini();
    cr_expect_eq(freed, 1);
}
TestSuite(pci, .init = setup, .fini = teardown, .timeout = 60);

#define ECAM(slot, r) (PC_ECAM_BASE + ((slot) << 15) + (r))

static uint32_t cfg(unsigned slot, unsigned r, unsigned len)
{
    uint32_t v;
    out(0xcf8, 4, 0x80000000u | slot << 11 | (r & 0xfc));
    v = in(0xcfc + (r & 3), len);
    if (r < 0x100)
        cr_expect_eq(rig_read(VC_SPACE_MMIO, ECAM(slot, r), len), v);
    return v;
}
static void cfg_set(unsigned slot, unsigned r, unsigned len, uint32_t v)
{
    rig_write(VC_SPACE_MMIO, ECAM(slot, r), len, v);
}

Test(pci, host_bridge_and_absent_devices)
{
    cr_expect_eq(cfg(0, 0, 4), 0x00081b36);
    cr_expect_eq(cfg(0, 8, 4), 0x06000000);
    cr_expect_eq(cfg(0, 0x0e, 1), 0);
    cr_expect_eq(cfg(2, 0, 4), 0xffffffff);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, ECAM(0, 0x100), 4), 0xffffffff);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, ECAM(1, 0xfe), 8) >> 16, 0xffffffffffff);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, PC_ECAM_BASE + (1 << 12), 4), 0xffffffff, "function 1");
    cr_expect_eq(rig_read(VC_SPACE_MMIO, PC_ECAM_BASE + (1 << 20), 4), 0xffffffff, "bus 1");
    out(0xcf8, 4, 0x80010000);
    cr_expect_eq(in(0xcfc, 4), 0xffffffff);
    out(0xcf8, 4, 0);
    cr_expect_eq(in(0xcfc, 4), 0xffffffff, "not enabled");
    out(0xcf8, 4, 0x80000803);
    cr_expect_eq(in(0xcf8, 4), 0x80000800);
    cr_expect_eq(in(0xcfe, 2), 0x5678);
}

Test(pci, registers_keep_only_what_they_can)
{
    cfg_set(1, 0, 4, 0);
    cr_expect_eq(cfg(1, 0, 4), 0x56781234);
    cfg_set(1, 4, 2, 0xffff);
    cr_expect_eq(cfg(1, 4, 2), 0x0407);
    cfg_set(1, 0x3c, 2, 0xff0b);
    cr_expect_eq(cfg(1, 0x3c, 2), 0x010b);
    cfg_set(1, 0xfe, 8, ~0u);
    rig_write(VC_SPACE_MMIO, ECAM(1, 0xffc), 8, ~0ull);
    rig_write(VC_SPACE_MMIO, PC_ECAM_BASE + 0x7ffffff, 8, ~0ull);
    cr_expect_eq(cfg_writes, 4);
}

Test(pci, bars)
{
    for (unsigned i = 0; i < 4; i++)
        cfg_set(1, PCI_BAR0 + 4 * i, 4, 0xffffffff);
    cr_expect_eq(cfg(1, PCI_BAR0, 4), 0xffffffc1);
    cr_expect_eq(cfg(1, PCI_BAR0 + 4, 4), 0xfffff000);
    cr_expect_eq(cfg(1, PCI_BAR0 + 8, 4), 0xffff0004);
    cr_expect_eq(cfg(1, PCI_BAR0 + 12, 4), 0xffffffff);
    cfg_set(1, PCI_BAR0, 4, 0xc000);
    cfg_set(1, PCI_BAR0 + 4, 4, 0xd0000000);
    cfg_set(1, PCI_BAR0 + 8, 4, 0);
    cfg_set(1, PCI_BAR0 + 12, 4, 0x10);
    cr_expect_eq(in(0xc004, 4), 0xffffffff, "decoding is off");
    cfg_set(1, PCI_COMMAND, 2, 3);
    out(0xc000, 4, 0x100);
    cr_expect_eq(in(0xc004, 4), 0x104);
    cr_expect_eq(in(0xc040, 4), 0xffffffff);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0xd0000ffc, 4), 0x20fc);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0x1000008000, 4), 0xa100);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, 0x8000, 4), 0xffffffff);
}

Test(pci, intx_is_shared_and_maskable)
{
    struct pci_bus *bus = pc_pci(rig.pc);
    bus_lock(rig.host.bus);
    pci_intx(dev, true);
    cr_expect_eq(bus->lines[1], 1);
    pci_intx(dev, true);
    cr_expect_eq(bus->lines[1], 1);
    bus_unlock(rig.host.bus);
    cr_expect_eq(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAPS | PCI_STATUS_INTX);
    cfg_set(1, PCI_COMMAND, 2, PCI_CMD_INTX_OFF);
    cr_expect_eq(bus->lines[1], 0);
    cfg_set(1, PCI_COMMAND, 2, 0);
    cr_expect_eq(bus->lines[1], 1);
    cfg_set(1, dev->msi + 2u, 2, 1); /* MSI takes over */
    cr_expect_eq(bus->lines[1], 0);
    cfg_set(1, dev->msi + 2u, 2, 0);
    bus_lock(rig.host.bus);
    pci_intx(dev, false);
    bus_unlock(rig.host.bus);
    cr_expect_eq(bus->lines[1], 0);
}

Test(pci, msix_table_and_pending_bits)
{
    const uint64_t base = 0xd0010000;
    cfg_set(1, PCI_BAR0 + 8, 4, (uint32_t)base);
    cfg_set(1, PCI_BAR0 + 12, 4, 0);
    cfg_set(1, PCI_COMMAND, 2, 6);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 12, 4), 1, "masked at first");
    rig_write(VC_SPACE_MMIO, base + 69 * 16, 8, 0xfee00003);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 69 * 16, 8), 0xfee00000);
    rig_write(VC_SPACE_MMIO, base + 70 * 16 - 4, 8, ~0ull);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 70 * 16 - 4, 8), 1);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 70 * 16, 4), 0x2000 + 70 * 16, "the device's");
    cr_expect_not(pci_msix(dev, 69));
    cfg_set(1, dev->msix.cap + 2u, 2, 0x8000);
    bus_lock(rig.host.bus);
    cr_expect(pci_msix(dev, 69));
    cr_expect(pci_msix(dev, 70));
    bus_unlock(rig.host.bus);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 0x808, 8), 1u << 5);
    rig_write(VC_SPACE_MMIO, base + 0x808, 8, 0);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 0x808, 8), 1u << 5, "read-only");
    rig_write(VC_SPACE_MMIO, base + 70 * 16 - 4, 4, 0);
    cr_expect_eq(rig_read(VC_SPACE_MMIO, base + 0x808, 8), 0, "sent");
}

Test(pci, refuses_what_cannot_be)
{
    struct pci_dev *d = calloc(1, sizeof *d);
    pci_dev_setup(d, 1, 2, 3, 0, 0);
    cr_expect_eq(pci_dev_bar(d, 6, PCI_BAR_MEM32, 4096, NULL), VC_EINVAL);
    cr_expect_eq(pci_dev_bar(d, 5, PCI_BAR_MEM64, 4096, NULL), VC_EINVAL);
    cr_expect_eq(pci_dev_bar(d, 0, PCI_BAR_MEM32, 4097, NULL), VC_EINVAL);
    cr_expect_eq(pci_dev_bar(d, 0, PCI_BAR_IO, 512, NULL), VC_EINVAL);
    cr_expect_eq(pci_dev_bar(d, 0, PCI_BAR_MEM32, 4096, NULL), 0);
    cr_expect_eq(pci_dev_msix(d, 0, 257, 0, 0x800), VC_EINVAL);
    cr_expect_eq(pci_dev_msix(d, 0, 16, 0, 0x80), VC_EINVAL, "table and pending bits overlap");
    cr_expect_eq(pci_dev_msix(d, 7, 16, 0, 0x800), VC_EINVAL);
    cr_expect_eq(pci_dev_msi(d, 6), VC_EINVAL);
    int rc = 0;
    for (int i = 0; i < 100 && rc >= 0; i++)
        rc = pci_dev_cap(d, PCI_CAP_VENDOR, 16);
    cr_expect_eq(rc, VC_ELIMIT);
    cr_expect_eq(pci_add(pc_pci(rig.pc), d, 1), VC_EEXIST);
    cr_expect_eq(pci_add(pc_pci(rig.pc), d, 32), VC_ELIMIT);
    free(d);
}
