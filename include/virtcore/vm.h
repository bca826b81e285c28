/* SPDX-License-Identifier: MIT
 *
 * virtcore/vm.h - partitions: probing backends, opening, memory regions.
 */
#ifndef VIRTCORE_VM_H
#define VIRTCORE_VM_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Feature bits of a backend, in vc_probe_info.features and vc_vm_info.features. */
#define VC_FEAT_BUDGET_INSNS (1u << 0) /* vc_run stops after a number of instructions */
#define VC_FEAT_BUDGET_NS    (1u << 1) /* vc_run stops after a time */
#define VC_FEAT_SMP          (1u << 2) /* several vCPUs run in parallel */
#define VC_FEAT_SINGLE_STEP  (1u << 3)
#define VC_FEAT_DIRTY_LOG    (1u << 4)
#define VC_FEAT_HW           (1u << 5) /* uses hardware extensions */
#define VC_FEAT_HCALL        (1u << 6) /* VMCALL and VMMCALL come to the partition; without it
                                          hypercalls come by VC_HCALL_PORT only */

struct vc_probe_info {
    size_t size;
    int usable;        /* 1: vc_open(name) would work here now */
    uint32_t features; /* VC_FEAT_*; 0 when not usable */
    uint32_t max_cpus; /* vCPUs a partition may have */
    char reason[256];  /* one sentence: why usable, or why not and what to do */
};

/* Says whether a backend ("kvm", "emu", "pv") works here, without opening a
 * partition. 0, or VC_ENOENT for a name nobody knows. Any thread. */
VC_API int vc_probe(const char *backend, struct vc_probe_info *info);

/* The backends by number, in the order `auto` tries them; NULL past the last.
 * Any thread. */
VC_API const char *vc_backend_name(unsigned index);

/* How the emu backend runs code. Both give the same results; what the translator
 * does not know it leaves to the interpreter. */
enum vc_engine {
    VC_ENGINE_AUTO = 0, /* the translator; where the host refuses it the interpreter, and a
                           line in the log (VC_LOG_WARN) says why */
    VC_ENGINE_INTERP = 1,
    VC_ENGINE_JIT = 2, /* translated code; VC_ENOTSUP where the host refuses that */
    /* Translated code, and everything once more by the interpreter, compared: a run
     * fails with VC_EINTERNAL at the first difference, vc_errmsg() says which, the
     * log shows both states. For finding faults of the engine: slow, twice the
     * memory, one vCPU (VC_ENOTSUP for more). RAM that the embedder changes through
     * a pointer while the vCPU runs may show as a difference. */
    VC_ENGINE_LOCKSTEP = 3
};

struct vc_vm_opts {
    size_t size;
    uint64_t mem_quota;    /* bytes of RAM the partition may map; 0: 64 GiB */
    uint32_t max_cpus;     /* 0: what the backend can */
    /* "host" (also NULL): what the backend can; or "x86-64-v2", "x86-64-v3", which CPUID
     * tells in the same way on every backend and host, and VC_ENOTSUP where one cannot.
     * Features may be taken away: "host,-avx2,-sha". */
    const char *cpu_model;
    vc_log_fn *log;        /* NULL: no log */
    void *log_ud;
    int log_level;   /* the least urgent level that is passed on */
    uint32_t engine; /* enum vc_engine */
    uint32_t flags;  /* VC_OPT_* */
    /* With VC_OPT_PERF_MAP: a file of lines "address type name", as System.map and nm
     * have, or NULL; VC_ENOENT when it cannot be read. Translations are named after the symbol that they begin in. */
    const char *perf_symbols;
    /* Its RAM is out of this (virtcore/balloon.h), which outlives the partition; NULL: out of
     * none. */
    vc_pool *pool;
};

/* A thread looks once a millisecond what each vCPU does: vc_stats.samples. */
#define VC_OPT_SAMPLE (1u << 0)
/* Writes /tmp/perf-PID.map, by which Linux' perf names translated code: the guest's
 * address, or symbol and offset. The file stays. Names go wrong once the code memory
 * (64 MiB) was full and is used anew. */
#define VC_OPT_PERF_MAP (1u << 1)
/* kvm: the kernel tells by bitmaps which pages of VC_MEM_LOG regions were written, as older
 * ones do, even where it could by rings. Rings cost time by the pages written, bitmaps by
 * the region's size. */
#define VC_OPT_DIRTY_BITMAP (1u << 2)

/* Opens a partition: no memory, no vCPU, no device. backend is "auto" or a
 * backend's name; a backend named explicitly never falls back to another. opts
 * may be NULL. NULL on failure. Any thread. */
VC_API vc_vm *vc_open(const char *backend, const struct vc_vm_opts *opts);

/* Ends a partition and frees its vCPUs, devices and memory. VC_EBUSY, and
 * nothing is freed, while a vCPU runs. vm may be NULL (0). */
VC_API int vc_close(vc_vm *vm);

struct vc_vm_info {
    size_t size;
    char backend[16]; /* which one it became */
    char why[256];    /* why `auto` took it */
    uint32_t features;
    uint32_t max_cpus;
    uint32_t cpus;
    uint64_t mem_mapped; /* bytes of RAM mapped now */
    uint64_t mem_quota;
    uint64_t tsc_hz; /* the guest's time-stamp counter, ticks a second */
};

/* Any thread. */
VC_API int vc_info(vc_vm *vm, struct vc_vm_info *info);

/* Memory protection of a region, as the guest sees it. */
#define VC_MEM_READ  (1u << 0)
#define VC_MEM_WRITE (1u << 1)
#define VC_MEM_EXEC  (1u << 2)
#define VC_MEM_RWX   (VC_MEM_READ | VC_MEM_WRITE | VC_MEM_EXEC)
#define VC_MEM_ROM   (VC_MEM_READ | VC_MEM_EXEC) /* writes are dropped */
#define VC_MEM_LOG   (1u << 8)                   /* keep a dirty log */

/* Maps zeroed RAM of `len` bytes at guest-physical `gpa`. Both are multiples of
 * 4096, len > 0, gpa + len <= 2^46. VC_EEXIST when it overlaps a region,
 * VC_ELIMIT over the quota. VM paused. */
VC_API int vc_map(vc_vm *vm, uint64_t gpa, uint64_t len, uint32_t prot);

/* The same over the caller's memory, which must be page-aligned, stay mapped
 * readable and writable until vc_unmap() or vc_close(), and is never freed by
 * the library. VM paused. */
VC_API int vc_map_host(vc_vm *vm, uint64_t gpa, uint64_t len, uint32_t prot, void *host);

/* Unmaps the whole region that starts at gpa and has length len. VC_ENOENT when
 * no region is exactly that. VM paused. */
VC_API int vc_unmap(vc_vm *vm, uint64_t gpa, uint64_t len);

/* Copies between host and guest-physical memory. The range may span adjacent
 * regions. All or nothing: VC_EFAULT when a byte of it is unmapped, and nothing
 * was copied. Writing ROM is allowed here (that is how it gets its contents).
 * Any thread. */
VC_API int vc_read(vc_vm *vm, uint64_t gpa, void *buf, size_t len);
VC_API int vc_write(vc_vm *vm, uint64_t gpa, const void *buf, size_t len);

/* A pointer to guest RAM, valid until the region is unmapped; NULL when the
 * range is not inside one region. The guest may change what is behind it at any
 * time; stores through it are not seen as code changes. Any thread. */
VC_API void *vc_ptr(vc_vm *vm, uint64_t gpa, size_t len);

/* Fetches and clears the dirty bits of a VC_MEM_LOG region: one bit a 4 KiB
 * page, bit 0 of byte 0 the first. bytes >= pages / 8 rounded up. VM paused. */
VC_API int vc_dirty_log(vc_vm *vm, uint64_t gpa, uint64_t len, void *bitmap, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
