/* SPDX-License-Identifier: MIT
 * A PV domain's insides, shared by the files of src/pv. Numbers and structures are
 * those of Xen's public headers. */
#ifndef PV_DOMAIN_H
#define PV_DOMAIN_H

#include "pv.h"
#include "../base/util.h"
#include "../boot/xen_notes.h"
#include <pthread.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/vcpu.h>

#define PAGE      4096ull
#define FRAME_NR  UINT64_MAX /* no frame */
#define BACK_END  0          /* the domain number of whoever serves the devices */
#define OWN_DOMID 1

/* ---- frames: mmu_types.c ------------------------------------------------------------- */

/* What a frame is used as; while the count is not 0 it is nothing else. L1 to L4 are
 * page tables of that level. */
enum pv_type { TYPE_NONE, TYPE_L1, TYPE_L2, TYPE_L3, TYPE_L4, TYPE_WRITABLE, TYPE_SEGDESC };
struct pv_page {
    uint32_t refs;  /* mappings and other holders; 0: nobody's */
    uint32_t types; /* of them, those that count on the type */
    uint8_t type;
    bool valid;   /* the table's entries were checked and hold references */
    bool pinned;  /* one of each is held by the guest's pin */
    bool special; /* the hypervisor's, shared with the guest */
    /* The domain's tick when it was last writable, or a table; of one that is of level 4,
     * at the last change below its lower half. */
    uint64_t stamp;
};
static inline bool pv_is_table(unsigned type)
{
    return type >= TYPE_L1 && type <= TYPE_L4;
}

/* ---- address spaces: space.c ----------------------------------------------------------- */

/* One whose translations a vCPU's engine remembers. */
struct pv_space {
    uint64_t kernel_mfn, user_mfn; /* roots; FRAME_NR: of none */
    uint64_t synced;               /* the domain's tick up to which they are true */
    uint64_t changes_seen;         /* of the domain's changes in lower halves */
    uint64_t used;
};

/* Changes of a page, the last of them: in the upper half, which is all spaces' own, or in
 * the lower half of a root. */
#define CHANGES 64u
struct pv_changes {
    uint64_t n; /* that there were */
    struct pv_change {
        uint64_t page; /* linear; below it what is to be forgotten: enum pv_forget */
        uint64_t root, tick;
    } at[CHANGES];
};

#define PTE_P      BIT64(0)
#define PTE_W      BIT64(1)
#define PTE_U      BIT64(2)
#define PTE_PWT    BIT64(3)
#define PTE_PCD    BIT64(4)
#define PTE_A      BIT64(5)
#define PTE_D      BIT64(6)
#define PTE_PS     BIT64(7) /* PAT in the lowest level */
#define PTE_G      BIT64(8)
#define PTE_NX     BIT64(63)
#define PTE_FRAME  0x000ffffffffff000ull
#define PTE_MFN(e) (((e)&PTE_FRAME) >> 12)

#define FL_IOPL_SHIFT 12

/* The hypervisor's slots in a guest's L4 table. */
#define HV_SLOT_M2P  256u
#define HV_SLOT_OWN  260u /* descriptor tables of the vCPUs */
#define HV_OWN_BASE  0xffff820000000000ull
#define HV_CPU_PAGES 32u /* 16 of the GDT, 16 of the LDT */

/* ---- event channels: evtchn.c ----------------------------------------------------------- */

enum port_state { PORT_FREE, PORT_UNBOUND, PORT_BACKEND, PORT_VIRQ, PORT_IPI };
struct pv_port {
    uint8_t state;
    uint8_t virq;
    uint16_t remote;
    uint16_t cpu;
    void (*fn)(void *ud);
    void *ud;
};
#define PORTS_MAX 4096u /* what two levels of 64-bit words can name */

/* How the guest learns of events: two levels of bits in shared_info and vcpu_info, or
 * queues of ports in frames of its own. All with port_lock. */
struct pv_domain;
struct port_layout {
    bool (*raise)(struct pv_domain *d, uint32_t port); /* false: it was pending already */
    bool (*pending)(const struct pv_domain *d, uint32_t port);
    void (*clear)(struct pv_domain *d, uint32_t port);
    void (*unmask)(struct pv_domain *d, uint32_t port);
    void (*open)(struct pv_domain *d, uint32_t port);       /* in use from now on */
    void (*moved)(struct pv_domain *d, uint32_t port);      /* another vCPU's from now on */
    bool (*busy)(const struct pv_domain *d, uint32_t port); /* closed, but not forgotten */
};
extern const struct port_layout pv_layout_2l, pv_layout_fifo;

/* Frames of the guest's hold a word for each port, and a block for each vCPU with the
 * heads of its queues. */
#define FIFO_PER_FRAME ((unsigned)(PAGE / sizeof(event_word_t)))
#define FIFO_FRAMES    (PORTS_MAX / FIFO_PER_FRAME)
struct pv_fifo {
    unsigned frames;
    uint64_t mfn[FIFO_FRAMES];
    event_word_t *words[FIFO_FRAMES];
    struct {
        uint64_t mfn;
        struct evtchn_fifo_control_block *block; /* NULL: none yet */
        uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];   /* who was linked last; 0: nobody */
    } cpu[PV_CPUS_MAX];
    struct {
        uint8_t priority, last_priority;
        uint16_t last_cpu; /* with last_priority the queue where it was last */
        bool late;         /* pending, and its word was not there */
    } port[PORTS_MAX];
};

/* ---- grants: grant.c ------------------------------------------------------------------- */

#define GRANT_FRAMES_MAX 64u
#define GRANTS_PER_FRAME ((unsigned)(PAGE / sizeof(struct grant_entry_v1)))
#define GRANTS_MAX       (GRANT_FRAMES_MAX * GRANTS_PER_FRAME)

/* Version 2 has larger entries, and the bits that say what is in use in frames apart. */
#define GRANTS_V2_PER_FRAME ((unsigned)(PAGE / sizeof(union grant_entry_v2)))
#define STATUS_PER_FRAME    ((unsigned)(PAGE / sizeof(grant_status_t)))
#define STATUS_FRAMES_MAX   (GRANT_FRAMES_MAX * GRANTS_V2_PER_FRAME / STATUS_PER_FRAME)

/* Who uses a grant, as long as somebody does. */
struct pv_pin {
    uint16_t all, writers; /* uses, and of them those that write */
    domid_t who;
};

/* A grant of its own that the guest mapped: grant_map.c. The entry of a page table holds
 * what any would; only a device's mapping, which is nowhere else, has counts here. */
#define GRANT_MAPS_MAX 4096u
struct pv_map {
    uint32_t ref;   /* of one that is free: as maps_free */
    uint32_t flags; /* GNTMAP_*; neither host_map nor device_map: no mapping */
    uint64_t mfn;
};

/* ---- vCPUs ---------------------------------------------------------------------------------- */

struct pv_trap {
    uint64_t address; /* 0: none */
    uint16_t cs;
    uint8_t flags; /* bits 0-1 DPL, bit 2 masks events */
};
enum { CB_EVENT, CB_FAILSAFE, CB_SYSCALL, CB_SYSCALL32, CB_SYSENTER, CB_COUNT };

struct pv_vcpu {
    struct pv_domain *d;
    struct backend_cpu *bc; /* NULL: gone */
    struct cpu_mail *mail;
    vc_cpu *handle;
    unsigned id;
    _Atomic bool initialised;
    _Atomic bool up;
    bool kernel;                   /* the guest's kernel runs, not its user */
    uint64_t kernel_mfn, user_mfn; /* L4 tables; FRAME_NR: none */
    uint64_t gs_other;             /* the GS base of the mode that does not run */
    uint16_t kernel_ss;
    uint64_t kernel_sp;
    uint64_t cr0, cr4, dr[8];
    /* What it may do with ports: ioport.c. */
    unsigned iopl;
    uint64_t io_bitmap; /* its kernel's address */
    uint32_t io_ports;  /* that the bitmap has; 0: none */
    struct pv_trap trap[256];
    struct {
        uint64_t address;
        bool mask;
    } callback[CB_COUNT];
    uint64_t gdt_mfn[16];
    unsigned gdt_frames, gdt_ents;
    uint64_t ldt_mfn[16];
    unsigned ldt_frames, ldt_ents;
    uint8_t upcall_vector;                  /* of a PVH guest's local APIC; 0: none */
    struct vcpu_hvm_context *_Atomic first; /* of a PVH guest's: what it starts with */
    _Atomic bool called_up, parked;         /* by VCPUOP_up; VCPUOP_down, at its place */
    struct vcpu_info own_info; /* before it registers one, where shared_info has none */
    struct vcpu_info *info;    /* in shared_info, or in a frame of the guest's */
    uint64_t info_mfn;         /* FRAME_NR: in shared_info */
    /* Translations, under the domain's lock. */
    struct pv_space space[PV_SPACES];
    unsigned in_space;
    uint64_t space_clock;
    _Atomic bool user_stale; /* those of user mode, in that space */
    uint64_t synced;         /* the domain's tick when it last forgot what had become untrue */
    uint64_t changes_seen;   /* of the domain's changes in the upper half */
    _Atomic bool storing;    /* a hook of its knows where in memory it will store: copy.c */
    _Atomic bool suspended;  /* it asked for that, and waits */
    /* sched_op poll: which ports wake it. */
    _Atomic bool polling;
    /* Timers. */
    struct clock_timer *timer, *periodic, *poll_timer;
    uint64_t period;
    _Atomic uint32_t virq_port[NR_VIRQS];
    /* Runstate: times by state; where the guest wants to read them, which another vCPU may
     * change. Taken under the domain's lock or without it. */
    pthread_mutex_t run_lock;
    struct vcpu_runstate_info run;
    void *run_area[2];
    unsigned run_len[2];
    uint64_t run_mfn[2];
    void *xlat;     /* a 32-bit hypercall\'s structures, made x86_64\'s; NULL: none is under way */
    uint32_t work;  /* what this hypercall may still do: pv_spend */
    uint32_t multi; /* nesting of multicalls */
    struct pv_decoded *decoded; /* instructions that were looked at: decode.c */
    bool no_result;             /* the hypercall set RAX itself: iret */
};

struct pv_domain {
    struct pv_host host;
    const struct pv_engine *eng;
    struct pv_vcpu *vcpu; /* host.ncpu of them */

    /* Memory; under lock. */
    pthread_mutex_t lock;
    struct pv_vcpu *cur; /* who holds the lock; NULL while the domain is built */
    struct pv_page *page;
    uint64_t nmfn;               /* entries of page */
    uint64_t npfn;               /* frames of RAM, as the guest numbers them */
    _Atomic uint64_t frames;     /* of them, those that the guest has now; */
    _Atomic uint64_t limit;      /* and may have */
    _Atomic uint64_t target;     /* bytes that it was asked to have */
    uint64_t free_from;          /* up to here none of RAM's frames is free */
    uint8_t *low, *high;         /* RAM */
    uint64_t hidden, hidden_len; /* the hypervisor's memory in the partition */
    uint8_t *hv;                 /* the same */
    uint64_t special;            /* the first of the frames shared with the guest */
    uint64_t *m2p;
    uint64_t m2p_l3, own_l3; /* frames */
    uint64_t *own_l1;        /* entries of the vCPUs' descriptor tables, in a row */
    _Atomic uint64_t *seen;  /* notes of the engine, by frame: pv_engine.h */
    uint64_t tick;           /* counts changes that make translations untrue */
    uint64_t any_change;     /* the tick of the last that no space, no address is known of */
    struct pv_changes upper, lower;

    struct shared_info *shared;
    struct pvh *pvh; /* what only a PVH guest has; NULL: a PV guest */

    pthread_mutex_t port_lock;
    struct pv_port port[PORTS_MAX];
    const struct port_layout *layout;
    struct pv_fifo *fifo; /* NULL: two levels */
    uint32_t store_port, console_port;
    uint64_t store_mfn, console_mfn;

    struct grant_entry_v1 *grant[GRANT_FRAMES_MAX]; /* the table's frames, of either version */
    grant_status_t *status[STATUS_FRAMES_MAX];
    uint8_t grant_version;
    unsigned grant_frames; /* set up by the guest */
    pthread_mutex_t grant_lock;
    struct pv_pin *grant_pins; /* by reference */
    struct pv_map *maps;       /* by handle; NULL: there was none yet */
    uint32_t maps_end;         /* from here on none was ever in use, */
    uint32_t maps_free;        /* before that the first free one, counted from 1; 0: none */

    uint64_t tsc0; /* system time began */

    pthread_mutex_t console_lock;
    pthread_cond_t console_room;
    bool down;
    char line[256]; /* of console_io */
    unsigned line_len;

    _Atomic bool iopl_in_flags; /* VMASST_TYPE_architectural_iopl */

    struct xs_conn *store; /* its ring */

    uint64_t calls[64]; /* hypercalls by number */
};

/* Frames shared with the guest, from d->special on; a PVH guest's rings are there, too. */
enum {
    SPECIAL_SHARED,
    SPECIAL_GRANT,
    SPECIAL_STATUS = SPECIAL_GRANT + GRANT_FRAMES_MAX,
    SPECIAL_STORE = SPECIAL_STATUS + STATUS_FRAMES_MAX,
    SPECIAL_CONSOLE,
    SPECIAL_COUNT
};

static inline bool pv_frame_ok(const struct pv_domain *d, uint64_t mfn)
{
    return mfn < d->nmfn && d->page[mfn].refs;
}
/* The contents of a frame that page[] knows. */
static inline void *pv_frame_ptr(const struct pv_domain *d, uint64_t mfn)
{
    if (mfn < d->host.ram_low >> 12)
        return d->low + (mfn << 12);
    if (mfn >= d->special)
        return d->hv + ((mfn << 12) - d->hidden);
    return d->high + ((mfn << 12) - (4ull << 30));
}
/* RAM's frames are numbered without the gap below 4 GiB. */
static inline uint64_t pv_pfn_to_mfn(const struct pv_domain *d, uint64_t pfn)
{
    uint64_t low = d->host.ram_low >> 12;
    return pfn < low ? pfn : pfn - low + (4ull << 18);
}

static inline uint64_t pv_mfn_to_pfn(const struct pv_domain *d, uint64_t mfn)
{
    uint64_t low = d->host.ram_low >> 12;
    return mfn < low ? mfn : mfn - (4ull << 18) + low;
}

/* The guest's own, whether it has it now or gave it back. */
static inline bool pv_ram_frame(const struct pv_domain *d, uint64_t mfn)
{
    return mfn < d->host.ram_low >> 12 ||
           (mfn >= 4ull << 18 && mfn - (4ull << 18) < d->host.ram_high >> 12);
}

/* A domain number that a hypercall names: the caller's? */
static inline bool pv_own(domid_t id)
{
    return id == DOMID_SELF || id == OWN_DOMID;
}

void pv_lock(struct pv_vcpu *v);
void pv_unlock(struct pv_vcpu *v);

/* mmu_types.c, all under the lock. Codes are Xen's, negative. */
int pv_frame_get(struct pv_domain *d, uint64_t mfn);
void pv_frame_put(struct pv_domain *d, uint64_t mfn);
int pv_frame_get_type(struct pv_domain *d, uint64_t mfn, enum pv_type type); /* a reference too */
void pv_frame_put_type(struct pv_domain *d, uint64_t mfn);
int pv_frame_pin(struct pv_domain *d, uint64_t mfn, enum pv_type type);
int pv_frame_unpin(struct pv_domain *d, uint64_t mfn);
/* References that an entry of a table of that level holds. entry_get completes *e. */
int pv_entry_get(struct pv_domain *d, unsigned level, uint64_t *e);
void pv_entry_put(struct pv_domain *d, unsigned level, uint64_t e);
bool pv_desc_fix(uint64_t *desc); /* a descriptor a guest may have; sets its DPL */

/* balloon.c: a frame of RAM that was given back is the guest's again; 0 or -XEN_ENOMEM. */
int pv_frame_take(struct pv_domain *d, uint64_t mfn);

/* An entry's place: in the table of that level in frame mfn, at index i. */
struct pv_entry {
    uint64_t mfn;
    unsigned level, i;
};
/* space.c, under the lock. A present entry was replaced. */
void pv_changed(struct pv_domain *d, const struct pv_entry *where, uint64_t old, uint64_t now);
/* The vCPU, on its own thread, forgets what has become untrue; everything. */
void pv_sync(struct pv_vcpu *v);
void pv_flush(struct pv_vcpu *v);
void pv_flush_everywhere(struct pv_domain *d);
/* The roots it uses from now on. */
void pv_space_enter(struct pv_vcpu *v);
void pv_space_user(struct pv_vcpu *v);
/* Without the lock, before it goes into user mode. */
void pv_space_ready(struct pv_vcpu *v);
/* Before a frame gets another type: nobody uses it as what it was. */
void pv_forget_uses(struct pv_domain *d, uint64_t mfn);

/* mmu_update.c */
/* Where the entry of the lowest level for that address is; NULL: no such table. */
uint64_t *pv_entry_find(struct pv_vcpu *v, uint64_t va, uint64_t *l1_mfn);
/* The same with the tables of a root; FRAME_NR: of none. */
uint64_t *pv_entry_below(struct pv_domain *d, uint64_t root, uint64_t va, uint64_t *l1_mfn);
/* Puts an entry into a validated table. expect: fails with -XEN_EAGAIN unless that is
 * what is there. */
int pv_entry_set(struct pv_domain *d, const struct pv_entry *where, uint64_t e, bool keep_ad,
                 const uint64_t *expect);
int pv_base_set(struct pv_vcpu *v, uint64_t mfn, bool user);
/* Without the lock: no vCPU remembers what was taken away. */
void pv_flush_cpus(struct pv_vcpu *v);

/* ptwrite.c: a write fault on a page table's page, emulated. false: it is the guest's. */
bool pv_pt_write(struct pv_vcpu *v, uint64_t va);

/* ---- guest's memory, with the rights of its kernel (copy.c) ---------------------------- */

/* While v->xlat is set the guest's addresses are 32-bit, and the buffer is here. */
#define XLAT_BASE BIT64(62)
#define XLAT_SIZE 1088u
bool pv_copy_from(struct pv_vcpu *v, void *to, uint64_t va, size_t n);
bool pv_copy_to(struct pv_vcpu *v, uint64_t va, const void *from, size_t n);

/* ---- traps.c --------------------------------------------------------------------------------- */

void pv_hook_event(void *ctx, unsigned cpu, const struct pv_event *ev);
void pv_hook_syscall(void *ctx, unsigned cpu);
void pv_hook_wake(void *ctx, unsigned cpu);
/* Hands waiting events to the guest, if it listens. */
void pv_upcall(struct pv_vcpu *v);
long hc_iret(struct pv_vcpu *v, const uint64_t a[6]);
long hc_set_trap_table(struct pv_vcpu *v, const uint64_t a[6]);
long hc_callback_op(struct pv_vcpu *v, const uint64_t a[6]);
long hc_set_callbacks(struct pv_vcpu *v, const uint64_t a[6]);
long hc_stack_switch(struct pv_vcpu *v, const uint64_t a[6]);
static inline bool pv_canonical(uint64_t va)
{
    return (int64_t)(va << 16) >> 16 == (int64_t)va;
}
static inline bool pv_va_allowed(uint64_t va) /* canonical, and not the hypervisor's */
{
    return xen_va_allowed(va);
}

/* privop.c */
bool pv_privop(struct pv_vcpu *v);       /* #GP(0): emulated? */
bool pv_forced_cpuid(struct pv_vcpu *v); /* #UD: the prefixed CPUID? */
void pv_cpuid_xen(const struct pv_domain *d, unsigned cpu, uint32_t leaf, uint32_t sub,
                  uint32_t out[4]); /* cpuid.c: the hypervisor's leaves */
static inline bool pv_cpuid_is_xen(uint32_t leaf)
{
    return leaf >> 16 == 0x4000;
}
void pv_hook_cpuid(void *ctx, unsigned cpu, uint32_t leaf, uint32_t sub, uint32_t out[4]);
long hc_fpu_taskswitch(struct pv_vcpu *v, const uint64_t a[6]);
long hc_set_debugreg(struct pv_vcpu *v, const uint64_t a[6]);
long hc_get_debugreg(struct pv_vcpu *v, const uint64_t a[6]);

/* segment.c */
int pv_gdt_set(struct pv_vcpu *v, const uint64_t *frames, unsigned ents);
int pv_ldt_set(struct pv_vcpu *v, uint64_t va, unsigned ents);
void pv_descriptors_load(struct pv_vcpu *v);
long hc_set_gdt(struct pv_vcpu *v, const uint64_t a[6]);
long hc_update_descriptor(struct pv_vcpu *v, const uint64_t a[6]);
long hc_set_segment_base(struct pv_vcpu *v, const uint64_t a[6]);

/* hypercall.c */
typedef long hypercall_fn(struct pv_vcpu *v, const uint64_t a[6]);
void pv_hypercall(struct pv_vcpu *v);
void pv_hypercall32(struct pv_vcpu *v); /* compat.c */
void pv_work_begin(struct pv_vcpu *v);
/* Lists are as long as the guest says, and one may be in another: each entry takes one.
 * false: this hypercall did enough, no other end is in sight. */
bool pv_spend(struct pv_vcpu *v);
void pv_domain_crash(struct pv_vcpu *v, const char *why);

hypercall_fn hc_mmu_update, hc_mmuext_op, hc_update_va_mapping;
hypercall_fn hc_event_channel_op, hc_vcpu_op, hc_set_timer_op, hc_sched_op, hc_memory_op;
hypercall_fn hc_hvm_op, hc_physmap_op, hc_reservation;
hypercall_fn hc_grant_table_op, hc_xen_version, hc_console_io, hc_physdev_op, hc_vm_assist;

/* ---- events -------------------------------------------------------------------------------------
 */

void pv_ports_init(struct pv_domain *d);
void pv_port_virq(struct pv_vcpu *v, unsigned virq);
bool pv_port_pending(struct pv_domain *d, uint32_t port);
void pv_poke(struct pv_vcpu *v); /* the vCPU has events; with port_lock */

/* evtchn_fifo.c: with both locks, but for the priority. */
long pv_fifo_control(struct pv_domain *d, struct evtchn_init_control *op);
long pv_fifo_expand(struct pv_domain *d, const struct evtchn_expand_array *op);
long pv_fifo_priority(struct pv_domain *d, const struct evtchn_set_priority *op);
void pv_fifo_end(struct pv_domain *d); /* back to two levels */

/* Set by whoever has an event for the vCPU, taken away by its guest. */
static inline bool pv_upcall_pending(const struct pv_vcpu *v)
{
    return __atomic_load_n(&v->info->evtchn_upcall_pending, __ATOMIC_SEQ_CST);
}
/* For the vCPU itself, or one that is not up. */
int pv_info_register(struct pv_vcpu *v, uint64_t mfn, uint32_t offset);
/* shared_info is at another place from now on. With the lock. */
void pv_shared_move(struct pv_domain *d, struct shared_info *to);

/* ---- time: timer.c ----------------------------------------------------------------------------
 */

uint64_t pv_system_time(const struct pv_domain *d); /* ns since the domain began */
int pv_timers_init(struct pv_vcpu *v);
void pv_timers_free(struct pv_vcpu *v);
void pv_time_publish(struct pv_vcpu *v); /* into its vcpu_info */
void pv_wallclock_publish(struct pv_domain *d);
void pv_timer_at(struct pv_vcpu *v, struct clock_timer *t, uint64_t system_ns);
void pv_runstate_set(struct pv_vcpu *v, int state);
void pv_runstate_get(struct pv_vcpu *v, struct vcpu_runstate_info *now);
/* The address is one of the caller's. */
long pv_runstate_register(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t va);
void pv_time_info(const struct pv_domain *d, struct vcpu_time_info *t);

/* ---- the rest
 * ------------------------------------------------------------------------------------- */

int pv_grants_init(struct pv_domain *d);
static inline union grant_entry_v2 *pv_grant_v2(const struct pv_domain *d, uint32_t ref)
{
    return (union grant_entry_v2 *)(void *)d->grant[ref / GRANTS_V2_PER_FRAME] +
           ref % GRANTS_V2_PER_FRAME;
}
/* The guest sees how back ends use it: grant_use.c. With grant_lock. */
void pv_grant_show_use(struct pv_domain *d, uint32_t ref);
/* With both locks: pins a whole frame for the guest itself. GNTST_*. */
int16_t pv_grant_claim(struct pv_domain *d, uint32_t ref, bool write, uint64_t *mfn);
void pv_grant_unpin(struct pv_domain *d, uint32_t ref, bool write);
/* The references of a use that no entry of a page table holds. */
int pv_grant_hold(struct pv_domain *d, uint64_t mfn, bool write);
void pv_grant_let_go(struct pv_domain *d, uint64_t mfn, bool write);
/* grant_map.c: one structure of the hypercall's list. */
long pv_grant_op_map(struct pv_vcpu *v, uint64_t at);
long pv_grant_op_unmap(struct pv_vcpu *v, uint64_t at);
long pv_grant_op_replace(struct pv_vcpu *v, uint64_t at);
/* A frame of the table, or after those one with bits of use, is at another place from now
 * on; and the guest has it set up. */
void pv_grants_move(struct pv_domain *d, unsigned frame, void *to);
void pv_console_kick(void *d); /* the guest sent on the console's port */
void pv_store_kick(void *d);   /* and on xenstore's */
int pv_store_attach(struct pv_domain *d);
int pv_store_target(struct pv_domain *d, uint64_t bytes); /* for the balloon driver */
void pv_store_detach(struct pv_domain *d);
void pv_hook_start(void *ctx, unsigned cpu);
int pv_domain_build(struct pv_domain *d, const struct vc_boot_opts *opts); /* build.c */

/* ---- PVH: pvh.c, hvm_op.c, physmap.c ------------------------------------------------------- */

#define PVH_MSR_PAGE 0x40000000u

struct pvh {
    uint64_t at[SPECIAL_COUNT]; /* frames where special ones were mapped; FRAME_NR: nowhere */
    uint64_t callback;          /* HVM_PARAM_CALLBACK_IRQ */
};
struct pvh *pvh_alloc(void);
int pvh_make(struct pv_domain *d);
void pvh_free(struct pv_domain *d);
int pvh_attach(struct pv_domain *d);
void pvh_homes(struct pv_domain *d); /* physmap.c: special frames go where they began */
/* The vCPU has an event: its interrupt. */
void pvh_upcall(struct pv_vcpu *v);
/* pvh_vcpu.c */
long pvh_initialise(struct pv_vcpu *v, struct pv_vcpu *who, uint64_t at);
bool pvh_start(struct pv_vcpu *v); /* on its thread; false: as after any INIT and SIPI */
void pvh_reset(struct pv_vcpu *v); /* nothing is known of how it will start */

#endif
