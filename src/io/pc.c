/* SPDX-License-Identifier: MIT
 * The PC platform: what is where. */
#include "pci.h"
#include "acpi.h"
#include "firmware.h"
#include "pit.h"
#include "../base/err.h"

#include <stdlib.h>

struct pc {
    struct pc_host host;
    struct uart uart;
    struct rtc rtc;
    struct i8042 kbd;
    struct sysctl sysctl;
    struct pm pm;
    struct fw_cfg fw_cfg;
    struct pci_bus pci;
    struct pit *pit;
    struct testdev *testdev;
    int ids[32]; /* ranges on the bus */
    unsigned nids;
};

/* ---- what nobody claims ---- */

/* Ports and addresses that float: a PCI BAR may be there, else reads give ones
 * and writes are lost. POST codes (0x80), DMA controllers and the probes of old
 * drivers end here. */
static int floating(struct pc *pc, enum vc_space space, struct vc_access *a)
{
    int rc = pci_bar_access(&pc->pci, space, a);
    if (rc != ENV_UNHANDLED)
        return rc;
    if (!a->write)
        a->data = ~0ull;
    return 0;
}

static int floating_port(void *ud, struct vc_access *a)
{
    return floating(ud, VC_SPACE_PORT, a);
}

static int floating_mmio(void *ud, struct vc_access *a)
{
    return floating(ud, VC_SPACE_MMIO, a);
}

/* ---- the map ---- */

struct pc_range {
    enum vc_space space;
    uint64_t base, len;
    unsigned flags;
    vc_trap_fn *fn;
    void *ud;
};

static int attach(struct pc *pc, const struct pc_range *map, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct pc_range *r = &map[i];
        int id;
        if (pc->nids == ARRAY_LEN(pc->ids))
            return err_set(VC_EINTERNAL, "the PC platform has too many ranges");
        id = bus_add(pc->host.bus, r->space, r->base, r->len, r->flags, r->fn, r->ud);
        if (id < 0)
            return id;
        pc->ids[pc->nids++] = id;
    }
    return 0;
}

static int attach_all(struct pc *pc)
{
    const enum vc_space port = VC_SPACE_PORT, mmio = VC_SPACE_MMIO;
    const struct pc_range map[] = {
        {port, 0x60, 1, 0, i8042_data_access, &pc->kbd},
        {port, 0x64, 1, 0, i8042_status_access, &pc->kbd},
        {port, PC_PORT_RTC, 2, 0, rtc_access, &pc->rtc},
        {port, PC_PORT_FAST_RST, 1, 0, sysctl_port92_access, &pc->sysctl},
        {port, 0xe9, 1, 0, debugcon_access, &pc->host},
        {port, 0xf4, 4, 0, debugexit_access, &pc->host},
        {port, PC_PORT_UART, 8, 0, uart_access, &pc->uart},
        {port, PC_PORT_PVPANIC, 1, 0, pvpanic_access, &pc->host},
        {port, PC_PORT_FWCFG, 12, 0, fw_cfg_access, &pc->fw_cfg},
        {port, PC_PORT_PM, PC_PM_LEN, 0, pm_access, &pc->pm},
        {port, 0xcf8, 8, 0, pci_port_access, &pc->pci},
        {mmio, PC_ECAM_BASE, PC_ECAM_BUSES << 20, 0, pci_ecam_access, &pc->pci},
        {port, 0, 0x10000, BUS_DEFAULT, floating_port, pc},
        {mmio, 0, MEM_GPA_MAX, BUS_DEFAULT, floating_mmio, pc},
    };
    return attach(pc, map, ARRAY_LEN(map));
}

static int attach_testdev(struct pc *pc)
{
    struct testdev *t = pc->testdev = testdev_new(&pc->host);
    const struct pc_range map[] = {
        {VC_SPACE_PORT, 0xe0, 4, 0, testdev_reg_access, t},
        {VC_SPACE_PORT, 0xe4, 4, 0, testdev_null_access, t},
        /* Not up to 0xeb: the debug console is at 0xe9. */
        {VC_SPACE_PORT, 0xe8, 1, 0, testdev_reg_access, t},
        {VC_SPACE_PORT, 0x2000, 24, 0, testdev_irq_access, t},
        {VC_SPACE_MMIO, TESTDEV_MEM_BASE, TESTDEV_MEM_LEN, 0, testdev_mem_access, t},
    };
    if (!t)
        return err_set(VC_ENOMEM, "no memory for the test device");
    return attach(pc, map, ARRAY_LEN(map));
}

/* ---- life ---- */

static int build(struct pc *pc, const struct vc_pc_opts *opts)
{
    const struct pc_host *host = &pc->host;
    struct timespec now;
    int rc;

    clock_gettime(CLOCK_REALTIME, &now);
    i8042_init(&pc->kbd, host);
    sysctl_init(&pc->sysctl, host);
    if ((rc = uart_init(&pc->uart, host, opts->serial_out, opts->serial_ud)) ||
        (rc = rtc_init(&pc->rtc, host, now.tv_sec, opts->ram, opts->cpus)) ||
        (rc = pm_init(&pc->pm, host)) ||
        (rc = fw_cfg_init(&pc->fw_cfg, host, opts->ram, opts->cpus)) ||
        (rc = pci_init(&pc->pci, host, &pc->sysctl)))
        return rc;
    pc->pit = pit_new(host->bus, host->clock, host->irq);
    if (!pc->pit)
        return err_set(VC_ENOMEM, "no memory for the timer chip");
    if ((rc = attach_all(pc)))
        return rc;
    if ((opts->flags & VC_PC_TESTDEV) && (rc = attach_testdev(pc)))
        return rc;
    rc = acpi_write(host->mem, opts->cpus);
    return rc ? rc : firmware_write(host->mem);
}

struct pc *pc_new(const struct pc_host *host, const struct vc_pc_opts *opts)
{
    struct pc *pc;

    if (opts->cpus < 1 || opts->cpus > 64) {
        err_set(VC_EINVAL, "a PC has 1 to 64 vCPUs, not %u", opts->cpus);
        return NULL;
    }
    if (opts->ram < 1u << 20 || (opts->ram & ~PAGE_MASK_4K)) {
        err_set(VC_EINVAL, "a PC's RAM is a multiple of 4096 bytes and at least 1 MiB");
        return NULL;
    }
    pc = calloc(1, sizeof *pc);
    if (!pc) {
        err_set(VC_ENOMEM, "no memory for the PC platform");
        return NULL;
    }
    pc->host = *host;
    if (build(pc, opts)) {
        pc_free(pc);
        return NULL;
    }
    return pc;
}

void pc_free(struct pc *pc)
{
    if (!pc)
        return;
    /* First no more accesses, then no more timers, then the devices. */
    while (pc->nids)
        bus_del(pc->host.bus, pc->ids[--pc->nids]);
    if (pc->pit)
        pit_free(pc->pit);
    uart_fini(&pc->uart);
    rtc_fini(&pc->rtc);
    pm_fini(&pc->pm);
    pci_fini(&pc->pci);
    fw_cfg_fini(&pc->fw_cfg);
    testdev_free(pc->testdev);
    free(pc);
}

struct pci_bus *pc_pci(struct pc *pc)
{
    return &pc->pci;
}

struct fw_cfg *pc_fw_cfg(struct pc *pc)
{
    return &pc->fw_cfg;
}

long pc_serial_in(struct pc *pc, const void *bytes, size_t n)
{
    size_t taken;

    if (n && !bytes)
        return err_set(VC_EINVAL, "serial input of %zu bytes at NULL", n);
    bus_lock(pc->host.bus);
    taken = uart_receive(&pc->uart, bytes, n);
    bus_unlock(pc->host.bus);
    return (long)taken;
}

int pc_serial_wait(struct pc *pc, int timeout_ms)
{
    return uart_wait(&pc->uart, timeout_ms);
}

void pc_down(struct pc *pc)
{
    uart_down(&pc->uart);
}
