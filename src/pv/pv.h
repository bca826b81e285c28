/* SPDX-License-Identifier: MIT
 * A Xen PV domain: a partition whose guest runs deprivileged and asks by hypercall.
 * What src/vm and the back ends see of it. */
#ifndef PV_PV_H
#define PV_PV_H

#include "../cpu/backend.h"
#include "../io/clock.h"
#include "../mmu/mem.h"
#include <virtcore/pc.h>

#define PV_CPUS_MAX 64u

struct pv_domain;
struct xs;

struct pv_host { /* what the domain needs from the layer above it */
    void *ctx;
    struct mem *mem;
    struct clock *clock;
    const struct backend *be;
    struct backend_vm *bvm;
    int (*access)(void *ctx, enum vc_space space, struct vc_access *access);
    void (*power)(void *ctx, uint32_t kind, uint32_t code);
    void (*log)(void *ctx, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
    vc_serial_out_fn *out; /* the console's output; or NULL */
    void *out_ud;
    struct xs *xs; /* the partition's xenstore */
    /* A vector for the local APIC of a PVH guest's vCPU. Any thread. */
    void (*vector)(void *ctx, unsigned cpu, uint8_t vector);
    void (*map_changed)(void *ctx); /* of a PVH guest's, by itself */
    uint64_t tsc_hz;
    uint64_t ram_low, ram_high; /* bytes from 0 and from 4 GiB */
    unsigned ncpu;
    struct {
        struct backend_cpu *bc;
        struct cpu_mail *mail;
        vc_cpu *handle;
    } cpu[PV_CPUS_MAX];
};

/* Builds a domain of the partition's RAM, with the kernel and initrd that opts name,
 * and sets the first state of vCPU 0. The partition is paused and stays this domain's
 * until pv_free. NULL with the error set. */
struct pv_domain *pv_new(const struct pv_host *host, const struct vc_boot_opts *opts);
/* The same for a guest that enters by PVH, whose memory the caller fills but for what is
 * shared with the hypervisor: it lies at *base. vCPUs stay as they are. */
struct pv_domain *pvh_new(const struct pv_host *host, uint64_t *base, uint64_t *len);
void pv_free(struct pv_domain *d);
/* It suspended itself and goes on, as if nothing had been: the hypercall says so. */
void pv_resume(struct pv_domain *d);
/* The vCPU is freed: nobody reaches it any more. VM paused. */
void pv_cpu_gone(struct pv_domain *d, unsigned cpu);
/* It wants to run and is kept waiting, or no longer is: its runstate says so. On the
 * vCPU's thread. */
void pv_cpu_waits(struct pv_domain *d, unsigned cpu, bool waits);

/* ---- memory (balloon.c). Any thread. --------------------------------------------------- */

struct pv_memory { /* bytes; those of struct vc_balloon_info */
    uint64_t most, now, limit, target;
};
void pv_memory(const struct pv_domain *d, struct pv_memory *m);
/* Multiples of the page size; at most `most`. */
void pv_memory_limit(struct pv_domain *d, uint64_t bytes);
int pv_memory_target(struct pv_domain *d, uint64_t bytes);

/* ---- the console (console.c). Any thread. ------------------------------------------ */

/* How many bytes the guest's ring took. */
size_t pv_console_in(struct pv_domain *d, const uint8_t *bytes, size_t n);
/* 1 when it would take a byte; 0: not within the time, or the machine went down. */
int pv_console_wait(struct pv_domain *d, int timeout_ms);
/* The machine goes down: wakes pv_console_wait. */
void pv_console_down(struct pv_domain *d);

/* ---- for back ends --------------------------------------------------------------------- */

/* The guest's port is the back end's too: fn is called when the guest sends, on the
 * vCPU's thread, and must not wait. 0, or Xen's negative error code. */
int pv_port_connect(struct pv_domain *d, uint32_t port, void (*fn)(void *ud), void *ud);
void pv_port_disconnect(struct pv_domain *d, uint32_t port);
void pv_port_notify(struct pv_domain *d, uint32_t port); /* any thread */
/* Makes a port that is the back end's from the start. Its number, or an error code. */
int pv_port_new(struct pv_domain *d, void (*fn)(void *ud), void *ud);

/* A frame that the guest granted to domain 0: a pointer to its 4096 bytes, good until
 * pv_grant_unmap. NULL: not granted, or not so. Any thread. */
void *pv_grant_map(struct pv_domain *d, uint32_t ref, bool write, uint64_t *gpa);
void pv_grant_unmap(struct pv_domain *d, uint32_t ref, bool write, uint64_t gpa);
/* Copies bytes of such a frame, or of the part of one that was granted. false: not
 * granted, or not all of them. Any thread. */
bool pv_grant_copy(struct pv_domain *d, uint32_t ref, bool write, uint32_t off, void *buf,
                   uint32_t n);

/* The same in the form that back ends take: front.h. */
struct pv_front;
void pv_front_of(struct pv_domain *d, struct pv_front *front);

#endif
