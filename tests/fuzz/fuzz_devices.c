/* SPDX-License-Identifier: MIT
 * The PC platform's register interfaces: the input is a program of port and
 * MMIO accesses, serial input, and stores to the RAM that devices read. */
#include "base/err.h"
#include "io/pci.h"
#include <stdlib.h>
#include <virtcore/vm.h>

#define RAM  (2ull << 20)
#define CPUS 2

struct input {
    const uint8_t *p;
    size_t left;
};

static uint64_t take(struct input *in, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        v |= (uint64_t)*in->p++ << (8 * i);
    return v;
}

/* Where accesses go: mostly where something is. */
static const struct {
    enum vc_space space;
    uint64_t base;
    uint32_t len;
} places[] = {
    {VC_SPACE_PORT, 0x3f8, 8},
    {VC_SPACE_PORT, 0x70, 2},
    {VC_SPACE_PORT, 0x60, 5},
    {VC_SPACE_PORT, 0x600, 12},
    {VC_SPACE_PORT, 0x510, 12},
    {VC_SPACE_PORT, 0xcf8, 8},
    {VC_SPACE_PORT, 0x40, 4},
    {VC_SPACE_PORT, 0x20, 2},
    {VC_SPACE_PORT, 0xa0, 2},
    {VC_SPACE_PORT, 0x4d0, 2},
    {VC_SPACE_PORT, 0xe0, 0x18},
    {VC_SPACE_PORT, 0x2000, 24},
    {VC_SPACE_PORT, 0x505, 1},
    {VC_SPACE_PORT, 0x92, 1},
    {VC_SPACE_PORT, 0, 0x10000},
    {VC_SPACE_MMIO, PC_ECAM_BASE, 0x10000},
    {VC_SPACE_MMIO, PC_IOAPIC_BASE, 0x100},
    {VC_SPACE_MMIO, 0xd0000000, 0x20000},
    {VC_SPACE_MMIO, TESTDEV_MEM_BASE, 0x10010},
    {VC_SPACE_MMIO, 0xc0000000, 0x40000000},
};

static void power(void *ctx, uint32_t kind, uint32_t code)
{
    (void)ctx;
    (void)kind;
    (void)code;
}
static void map_changed(void *ctx)
{
    (void)ctx;
}
static uint64_t tsc(void *ctx)
{
    (void)ctx;
    return host_now_ns();
}
static void serial_out(void *ud, const void *bytes, size_t n)
{
    (void)ud;
    (void)bytes;
    (void)n;
}

static int bar(struct pci_dev *dev, unsigned i, uint64_t off, struct vc_access *a)
{
    if (off >= dev->bar[i].size)
        abort();
    if (a->write) {
        if (!pci_msix(dev, (unsigned)a->data & 127) && !pci_msi(dev, (unsigned)a->data & 31))
            pci_intx(dev, a->data & 1);
    } else {
        a->data = off;
    }
    return 0;
}

/* A device with all the bus can do. */
static void add_device(struct pc *pc)
{
    struct pci_dev *dev = calloc(1, sizeof *dev);
    if (!dev)
        return;
    dev->free = (void (*)(struct pci_dev *))(void (*)(void))free;
    pci_dev_setup(dev, 0x1234, 0x5678, 0xff0000, 1, 1);
    pci_dev_bar(dev, 0, PCI_BAR_IO, 32, bar);
    pci_dev_bar(dev, 1, PCI_BAR_MEM32, 4096, bar);
    pci_dev_bar(dev, 2, PCI_BAR_MEM64, 1 << 16, bar);
    pci_dev_msi(dev, 3);
    pci_dev_msix(dev, 2, 100, 0x100, 0x1000);
    if (pci_add(pc_pci(pc), dev, 1) < 0)
        abort();
}

static void play(struct pc *pc, const struct pc_host *host, struct input *in)
{
    while (in->left) {
        uint8_t op = (uint8_t)take(in, 1);
        if (op >= 0xf8) {
            uint8_t bytes[32];
            size_t n = (size_t)take(in, 1) & 31;
            for (size_t i = 0; i < n; i++)
                bytes[i] = (uint8_t)take(in, 1);
            if (op & 1) {
                if (pc_serial_in(pc, bytes, n) < 0)
                    abort();
            } else {
                mem_copy_in(host->mem, 0x1000, bytes, n);
            }
            continue;
        }
        unsigned where = (op & 31) % ARRAY_LEN(places);
        struct vc_access a = {.len = 1u << (op >> 5 & 3), .write = op >> 7};
        a.addr = places[where].base +
                 take(in, 2 + 2 * (places[where].len > 0x10000)) % places[where].len;
        if (a.write)
            a.data = take(in, a.len);
        if (bus_access(host->bus, places[where].space, &a) != ENV_HANDLED)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct vc_pc_opts opts = {.size = sizeof opts,
                              .ram = RAM,
                              .cpus = CPUS,
                              .flags = VC_PC_TESTDEV,
                              .serial_out = serial_out};
    struct mem mem;
    struct cpu_mail mail[CPUS];
    struct pc_host host = {.mem = &mem, .power = power, .map_changed = map_changed};
    struct irqchip_opts irq = {.max_cpus = CPUS, .tsc_hz = 1000000000, .tsc_now = tsc};
    struct pc *pc;

    memset(mail, 0, sizeof mail);
    if (mem_init(&mem, 1ull << 30) || mem_add(&mem, 0, RAM, VC_MEM_RWX, NULL))
        abort();
    irq.bus = host.bus = bus_new();
    irq.clock = host.clock = clock_new(1000000000);
    host.irq = irqchip_new(&irq);
    for (unsigned i = 0; i < CPUS; i++)
        irqchip_add_cpu(host.irq, i, &mail[i]);
    pc = pc_new(&host, &opts);
    if (!pc)
        abort();
    add_device(pc);
    play(pc, &host, &in);
    pc_free(pc);
    irqchip_free(host.irq);
    clock_free(host.clock);
    bus_free(host.bus);
    mem_fini(&mem);
    return 0;
}
