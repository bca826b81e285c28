/* SPDX-License-Identifier: MIT
 * The public calls on pools of host memory, and on guests that share one. */
#include "vm.h"
#include "../base/args.h"
#include "../base/err.h"
#include "../pv/pv.h"
#include <stdlib.h>

/* ---- pools ---------------------------------------------------------------------------- */

static int check_bytes(uint64_t bytes, const char *what)
{
    if (bytes && bytes % PAGE_SIZE_4K == 0)
        return 0;
    return err_set(VC_ERANGE, "%s of %llu bytes: a multiple of 4096 above 0 is wanted", what,
                   (unsigned long long)bytes);
}

vc_pool *vc_pool_new(uint64_t bytes)
{
    err_begin();
    if (check_bytes(bytes, "a pool"))
        return NULL;
    struct vc_pool *pool = calloc(1, sizeof *pool);
    if (!pool) {
        err_set(VC_ENOMEM, "no host memory for a pool");
        return NULL;
    }
    pool->bytes = bytes;
    pthread_mutex_init(&pool->lock, NULL);
    return pool;
}

int vc_pool_free(vc_pool *pool)
{
    if (!pool)
        return 0;
    err_begin();
    pthread_mutex_lock(&pool->lock);
    unsigned users = pool->users;
    pthread_mutex_unlock(&pool->lock);
    if (users)
        return err_set(VC_EBUSY, "%u partitions belong to the pool: vc_close() them first", users);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
    return 0;
}

int vc_pool_resize(vc_pool *pool, uint64_t bytes)
{
    if (!pool)
        return err_null("pool");
    err_begin();
    int rc = check_bytes(bytes, "a pool");
    if (rc)
        return rc;
    pthread_mutex_lock(&pool->lock);
    pool->bytes = bytes;
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

int vc_pool_info(vc_pool *pool, struct vc_pool_info *info)
{
    if (!pool || !info)
        return err_null(pool ? "info" : "pool");
    err_begin();
    pthread_mutex_lock(&pool->lock);
    const struct vc_pool_info full = {
        .size = sizeof full, .bytes = pool->bytes, .taken = pool->taken, .partitions = pool->users};
    pthread_mutex_unlock(&pool->lock);
    return args_out(info, &full, sizeof full, "pool_info");
}

/* ---- guests ------------------------------------------------------------------------------ */

static int begin(vc_vm *vm, struct pv_memory *m)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    if (!vm->pv)
        return err_set(VC_ESTATE, "no guest of Xen's was loaded: vc_boot() one with VC_VIRT_PV or "
                                  "VC_VIRT_PVH");
    vm_pv_memory(vm, m);
    return 0;
}

static int begin_set(vc_vm *vm, uint64_t bytes, const char *what)
{
    struct pv_memory m;
    int rc = begin(vm, &m);
    if (!rc)
        rc = check_bytes(bytes, what);
    if (!rc && bytes > m.most)
        rc = err_set(VC_ERANGE, "%s of %llu bytes, but the guest has %llu bytes of RAM", what,
                     (unsigned long long)bytes, (unsigned long long)m.most);
    return rc;
}

int vc_balloon_target(vc_vm *vm, uint64_t bytes)
{
    int rc = begin_set(vm, bytes, "a target");
    return rc ? rc : vm_pv_memory_target(vm, bytes);
}

int vc_balloon_limit(vc_vm *vm, uint64_t bytes)
{
    int rc = begin_set(vm, bytes, "a limit");
    if (!rc)
        vm_pv_memory_limit(vm, bytes);
    return rc;
}

int vc_balloon_info(vc_vm *vm, struct vc_balloon_info *info)
{
    struct pv_memory m;
    int rc = begin(vm, &m);
    if (rc)
        return rc;
    if (!info)
        return err_null("info");
    const struct vc_balloon_info full = {
        .size = sizeof full, .ram = m.most, .now = m.now, .target = m.target, .limit = m.limit};
    return args_out(info, &full, sizeof full, "balloon_info");
}
