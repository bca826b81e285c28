/* SPDX-License-Identifier: MIT
 * The PCI bus: configuration space, BARs, MSI and MSI-X, INTx.
 *
 * A device fills a struct pci_dev (vendor, class, BARs, capabilities by the
 * helpers below) and adds it to a bus; it then sees accesses to its BARs and,
 * where it asks, to its configuration space. All of it runs under the bus lock.
 */
#ifndef IO_PCI_H
#define IO_PCI_H

#include "pcdev.h"

#define PCI_SLOTS 32u
#define PCI_BARS  6u
#define PCI_CFG   256u

/* Configuration registers (PCI Local Bus 3.0, 6.1 and 6.2). */
enum {
    PCI_VENDOR = 0x00,
    PCI_DEVICE = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09,
    PCI_LATENCY = 0x0d,
    PCI_HEADER = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBVENDOR = 0x2c,
    PCI_SUBDEVICE = 0x2e,
    PCI_CAP = 0x34,
    PCI_INT_LINE = 0x3c,
    PCI_INT_PIN = 0x3d
};
#define PCI_CMD_IO       0x0001u
#define PCI_CMD_MEM      0x0002u
#define PCI_CMD_MASTER   0x0004u
#define PCI_CMD_INTX_OFF 0x0400u
#define PCI_STATUS_INTX  0x0008u
#define PCI_STATUS_CAPS  0x0010u

enum { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

enum pci_bar_kind { PCI_BAR_NONE = 0, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_dev;

/* An access at a->addr - base of the BAR; `off` is that. */
typedef int pci_bar_fn(struct pci_dev *dev, unsigned bar, uint64_t off, struct vc_access *a);

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size; /* a power of two; >= 4 for I/O, >= 16 for memory */
    pci_bar_fn *fn;
};

struct pci_msix {
    uint8_t cap; /* offset of the capability; 0: none */
    uint8_t bar;
    uint16_t n;          /* vectors */
    uint32_t table, pba; /* offsets in the BAR */
    uint8_t *entries;    /* n * 16 bytes, as the guest sees them */
    uint64_t *pending;   /* bit a vector */
};

struct pci_dev {
    uint8_t cfg[PCI_CFG];
    uint8_t wmask[PCI_CFG]; /* bits the guest may write */
    uint8_t w1c[PCI_CFG];   /* bits that a written 1 clears */
    struct pci_bar bar[PCI_BARS];
    uint8_t msi; /* offset of the MSI capability; 0: none */
    struct pci_msix msix;
    uint8_t cap_end; /* where the next capability goes */
    bool intx;       /* what the device asks for */
    bool intx_out;   /* what of it reached the line */

    /* Called after the generic part changed cfg; may be NULL. */
    void (*cfg_written)(struct pci_dev *dev, unsigned off, unsigned len);
    /* Called when the device leaves with its bus; may be NULL. */
    void (*free)(struct pci_dev *dev);
    void *ud;

    struct pci_bus *bus; /* set by pci_add */
    uint8_t slot;
};

struct pci_bus {
    const struct pc_host *host;
    struct sysctl *sysctl; /* owns 0xcf9 */
    uint32_t cf8;          /* CONFIG_ADDRESS */
    struct pci_dev *slot[PCI_SLOTS];
    struct pci_dev host_bridge;
    unsigned lines[4]; /* devices that assert each of the four lines */
};

/* PCI INTx lines are GSIs 16-19, swizzled by slot (ACPI _PRT says the same). */
#define PCI_GSI_BASE 16u
static inline unsigned pci_gsi(unsigned slot, unsigned pin)
{
    return PCI_GSI_BASE + ((slot + pin) & 3);
}

int pci_init(struct pci_bus *bus, const struct pc_host *host, struct sysctl *sysctl);
void pci_fini(struct pci_bus *bus);
int pci_port_access(void *ud, struct vc_access *a); /* 0xcf8-0xcff */
int pci_ecam_access(void *ud, struct vc_access *a); /* PC_ECAM_BASE */
/* An access no fixed range claims: ENV_HANDLED when a BAR decodes it. */
int pci_bar_access(struct pci_bus *bus, enum vc_space space, struct vc_access *a);

/* For devices. dev starts zeroed; pci_dev_setup fills the header. pin: 0 none,
 * 1-4 INTA-INTD. */
void pci_dev_setup(struct pci_dev *dev, uint16_t vendor, uint16_t device, uint32_t class_code,
                   uint8_t revision, unsigned pin);
int pci_dev_bar(struct pci_dev *dev, unsigned bar, enum pci_bar_kind kind, uint64_t size,
                pci_bar_fn *fn);
/* Reserves len bytes for a capability; returns its offset, or a code. */
int pci_dev_cap(struct pci_dev *dev, uint8_t id, unsigned len);
/* 64-bit MSI with 2^log2 vectors (0-5); MSI-X with n (1-2048) vectors in a BAR.
 * MSI-X answers its part of the BAR itself. */
int pci_dev_msi(struct pci_dev *dev, unsigned log2);
int pci_dev_msix(struct pci_dev *dev, unsigned bar, unsigned n, uint32_t table, uint32_t pba);
/* slot: 1-31, or -1 for the first free one. The bus then owns dev. */
int pci_add(struct pci_bus *bus, struct pci_dev *dev, int slot);

/* Interrupts. pci_msi and pci_msix return false when that kind is not enabled,
 * so that the device falls back to pci_intx. */
bool pci_msi(struct pci_dev *dev, unsigned vector);
bool pci_msix(struct pci_dev *dev, unsigned vector);
void pci_intx(struct pci_dev *dev, bool level);
/* Whether the device may reach memory. */
static inline bool pci_master(const struct pci_dev *dev)
{
    return dev->cfg[PCI_COMMAND] & PCI_CMD_MASTER;
}

/* Between pci.c and pci_msi.c. */
bool pci_msix_claims(const struct pci_dev *dev, unsigned bar, uint64_t off);
void pci_msix_access(struct pci_dev *dev, uint64_t off, struct vc_access *a);
void pci_msix_unmasked(struct pci_dev *dev);
void pci_dev_fini(struct pci_dev *dev);
bool pci_msi_on(const struct pci_dev *dev);

#endif
