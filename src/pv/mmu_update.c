/* SPDX-License-Identifier: MIT
 * Page tables changed by hypercall: mmu_update, update_va_mapping, mmuext_op. */
#include "domain.h"

/* ---- one entry ------------------------------------------------------------------------ */

uint64_t *pv_entry_below(struct pv_domain *d, uint64_t root, uint64_t va, uint64_t *l1_mfn)
{
    uint64_t mfn = root;
    if (!pv_va_allowed(va) || mfn == FRAME_NR)
        return NULL;
    for (unsigned level = 4;; level--) {
        uint64_t *t = pv_frame_ptr(d, mfn);
        uint64_t *at = &t[va >> (12 + 9 * (level - 1)) & 511];
        if (level == 1) {
            *l1_mfn = mfn;
            return at;
        }
        uint64_t e = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (!(e & PTE_P))
            return NULL;
        mfn = PTE_MFN(e);
    }
}

uint64_t *pv_entry_find(struct pv_vcpu *v, uint64_t va, uint64_t *l1_mfn)
{
    return pv_entry_below(v->d, v->kernel ? v->kernel_mfn : v->user_mfn, va, l1_mfn);
}

/* Walks set accessed and dirty bits meanwhile, nothing else: the lock is held. */
static int replace(uint64_t *at, uint64_t *old, uint64_t e, bool keep_ad, const uint64_t *expect)
{
    const uint64_t ad = PTE_A | PTE_D;
    uint64_t was = expect ? *expect : __atomic_load_n(at, __ATOMIC_RELAXED), now;
    do {
        if (expect && was != *expect)
            return -XEN_EAGAIN;
        now = keep_ad ? e | (was & ad) : e;
    } while (
        !__atomic_compare_exchange_n(at, &was, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    *old = was;
    return 0;
}

int pv_entry_set(struct pv_domain *d, const struct pv_entry *where, uint64_t e, bool keep_ad,
                 const uint64_t *expect)
{
    unsigned level = where->level;
    uint64_t old, *at = (uint64_t *)pv_frame_ptr(d, where->mfn) + where->i;
    int rc = 0;
    if (e & PTE_P && (rc = pv_entry_get(d, level, &e)))
        return rc;
    rc = replace(at, &old, e, keep_ad, expect);
    if (rc) {
        if (e & PTE_P)
            pv_entry_put(d, level, e);
        return rc;
    }
    if (old & PTE_P) {
        pv_changed(d, where, old, keep_ad ? e | (old & (PTE_A | PTE_D)) : e);
        pv_entry_put(d, level, old);
    }
    return 0;
}

/* ---- mmu_update ------------------------------------------------------------------------------ */

static int update_entry(struct pv_domain *d, uint64_t ptr, uint64_t val, bool keep_ad)
{
    uint64_t mfn = ptr >> 12;
    unsigned i = (unsigned)(ptr & (PAGE - 1)) / 8;
    int rc;
    if (!pv_frame_ok(d, mfn))
        return -XEN_EINVAL;
    struct pv_page *p = &d->page[mfn];
    if (p->types && p->type >= TYPE_L1 && p->type <= TYPE_L4) {
        unsigned level = p->type - TYPE_L1 + 1u;
        if (level == 4 && i >= HV_SLOT_FIRST && i <= HV_SLOT_LAST)
            return -XEN_EINVAL;
        return pv_entry_set(d, &(struct pv_entry){mfn, level, i}, val, keep_ad, NULL);
    }
    rc = pv_frame_get_type(d, mfn, TYPE_WRITABLE);
    if (rc)
        return rc;
    __atomic_store_n((uint64_t *)pv_frame_ptr(d, mfn) + i, val, __ATOMIC_RELAXED);
    d->eng->stored(d->cur->bc, ptr, sizeof val);
    pv_frame_put_type(d, mfn);
    return 0;
}

static int machphys_update(struct pv_domain *d, uint64_t ptr, uint64_t pfn)
{
    uint64_t mfn = ptr >> 12;
    if (!pv_frame_ok(d, mfn) || d->page[mfn].special)
        return -XEN_EINVAL;
    __atomic_store_n(&d->m2p[mfn], pfn, __ATOMIC_RELAXED);
    return 0;
}

/* Others' memory is not for a DomU, and most others are not there. */
static int domid_check(uint32_t id)
{
    switch (id) {
    case DOMID_SELF:
    case OWN_DOMID: return 0;
    case BACK_END:
    case DOMID_IO:
    case DOMID_XEN: return -XEN_EPERM;
    default: return -XEN_ESRCH;
    }
}

static long put_done(struct pv_vcpu *v, uint64_t at, uint32_t done)
{
    return !at || pv_copy_to(v, at, &done, sizeof done) ? 0 : -XEN_EFAULT;
}

long hc_mmu_update(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t at = a[0], count = (uint32_t)a[1];
    uint32_t done = 0;
    /* In the upper half whose tables: 0 for one's own. */
    long rc = (uint32_t)a[3] >> 16 ? -XEN_ESRCH : domid_check((uint32_t)a[3]);
    if (rc)
        return rc;
    for (; done < count && !rc; done++, at += sizeof(struct mmu_update)) {
        struct mmu_update u;
        if (!pv_spend(v)) {
            rc = -XEN_E2BIG;
            break;
        }
        if (!pv_copy_from(v, &u, at, sizeof u)) {
            rc = -XEN_EFAULT;
            break;
        }
        pv_lock(v);
        switch (u.ptr & 3) {
        case MMU_NORMAL_PT_UPDATE: rc = update_entry(v->d, u.ptr & ~7ull, u.val, false); break;
        case MMU_PT_UPDATE_PRESERVE_AD: rc = update_entry(v->d, u.ptr & ~7ull, u.val, true); break;
        case MMU_MACHPHYS_UPDATE: rc = machphys_update(v->d, u.ptr, u.val); break;
        default: rc = -XEN_ENOSYS; break;
        }
        pv_unlock(v);
        if (rc)
            break;
    }
    return put_done(v, a[2], done) ? -XEN_EFAULT : rc;
}

/* ---- flushes ------------------------------------------------------------------------------------
 */

static void flush_mask(struct pv_vcpu *v, uint64_t mask, bool page, uint64_t va)
{
    const struct pv_engine *e = v->d->eng;
    if (mask >> v->id & 1) {
        if (page) {
            e->flush_page(v->bc, va, PV_FORGET_ALL);
        } else {
            pv_lock(v);
            pv_sync(v);
            pv_unlock(v);
        }
    }
    if (mask & ~BIT64(v->id))
        e->flush_others(v->bc, mask);
}

void pv_flush_cpus(struct pv_vcpu *v)
{
    flush_mask(v, UINT64_MAX, false, 0);
}

/* A bitmap of vCPUs in guest memory, as long as the number of vCPUs asks. */
static bool read_mask(struct pv_vcpu *v, uint64_t at, uint64_t *mask)
{
    *mask = 0;
    return pv_copy_from(v, mask, at, (v->d->host.ncpu + 7) / 8);
}

long hc_update_va_mapping(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t l1, mask = BIT64(v->id), where = a[2] & ~(uint64_t)UVMF_FLUSHTYPE_MASK;
    int rc = -XEN_EINVAL;
    pv_lock(v);
    if (pv_entry_find(v, a[0], &l1))
        rc = pv_entry_set(v->d, &(struct pv_entry){l1, 1, a[0] >> 12 & 511}, a[1], false, NULL);
    pv_unlock(v);
    if (rc)
        return rc;
    unsigned type = a[2] & UVMF_FLUSHTYPE_MASK;
    if (type == UVMF_NONE)
        return 0;
    if (type > UVMF_INVLPG)
        return -XEN_ENOSYS;
    if (where == UVMF_ALL)
        mask = UINT64_MAX;
    else if (where != UVMF_LOCAL && !read_mask(v, where, &mask))
        return -XEN_EFAULT;
    flush_mask(v, mask, type == UVMF_INVLPG, a[0]);
    return 0;
}

/* ---- mmuext_op
 * --------------------------------------------------------------------------------------- */

int pv_base_set(struct pv_vcpu *v, uint64_t mfn, bool user)
{
    uint64_t *base = user ? &v->user_mfn : &v->kernel_mfn, old = *base;
    if (!(user && mfn == 0)) {
        int rc = pv_frame_get_type(v->d, mfn, TYPE_L4);
        if (rc)
            return rc;
        *base = mfn;
    } else {
        *base = FRAME_NR;
    }
    if (v->bc && atomic_load(&v->up)) {
        if (user != v->kernel)
            v->d->eng->switch_mode(v->bc, v->kernel, *base << 12);
        if (user)
            pv_space_user(v);
        else
            pv_space_enter(v);
    }
    if (old != FRAME_NR)
        pv_frame_put_type(v->d, old);
    return 0;
}

static int page_fill(struct pv_domain *d, uint64_t mfn, const uint64_t *from)
{
    if (from && !pv_frame_ok(d, *from))
        return -XEN_EINVAL;
    int rc = pv_frame_get_type(d, mfn, TYPE_WRITABLE);
    if (rc)
        return rc;
    if (from)
        memmove(pv_frame_ptr(d, mfn), pv_frame_ptr(d, *from), PAGE);
    else
        memset(pv_frame_ptr(d, mfn), 0, PAGE);
    if (d->cur)
        d->eng->stored(d->cur->bc, mfn << 12, PAGE);
    pv_frame_put_type(d, mfn);
    return 0;
}

static int ext_locked(struct pv_vcpu *v, const struct mmuext_op *op)
{
    struct pv_domain *d = v->d;
    uint64_t src = op->arg2.src_mfn;
    switch (op->cmd) {
    case MMUEXT_PIN_L1_TABLE: return pv_frame_pin(d, op->arg1.mfn, TYPE_L1);
    case MMUEXT_PIN_L2_TABLE: return pv_frame_pin(d, op->arg1.mfn, TYPE_L2);
    case MMUEXT_PIN_L3_TABLE: return pv_frame_pin(d, op->arg1.mfn, TYPE_L3);
    case MMUEXT_PIN_L4_TABLE: return pv_frame_pin(d, op->arg1.mfn, TYPE_L4);
    case MMUEXT_UNPIN_TABLE: return pv_frame_unpin(d, op->arg1.mfn);
    case MMUEXT_NEW_BASEPTR: return pv_base_set(v, op->arg1.mfn, false);
    case MMUEXT_NEW_USER_BASEPTR: return pv_base_set(v, op->arg1.mfn, true);
    case MMUEXT_CLEAR_PAGE: return page_fill(d, op->arg1.mfn, NULL);
    case MMUEXT_COPY_PAGE: return page_fill(d, op->arg1.mfn, &src);
    case MMUEXT_SET_LDT: return pv_ldt_set(v, op->arg1.linear_addr, op->arg2.nr_ents);
    default: return -XEN_ENOSYS;
    }
}

static int ext_op(struct pv_vcpu *v, const struct mmuext_op *op)
{
    uint64_t mask = 0, va = op->arg1.linear_addr;
    int rc;
    switch (op->cmd) {
    case MMUEXT_TLB_FLUSH_LOCAL: flush_mask(v, BIT64(v->id), false, 0); return 0;
    case MMUEXT_INVLPG_LOCAL: flush_mask(v, BIT64(v->id), true, va); return 0;
    case MMUEXT_TLB_FLUSH_ALL: flush_mask(v, UINT64_MAX, false, 0); return 0;
    case MMUEXT_INVLPG_ALL: flush_mask(v, UINT64_MAX, true, va); return 0;
    case MMUEXT_TLB_FLUSH_MULTI:
    case MMUEXT_INVLPG_MULTI:
        if (!read_mask(v, (uint64_t)(uintptr_t)op->arg2.vcpumask.p, &mask))
            return -XEN_EINVAL;
        flush_mask(v, mask, op->cmd == MMUEXT_INVLPG_MULTI, va);
        return 0;
    case MMUEXT_FLUSH_CACHE: return -XEN_EACCES; /* no devices behind caches */
    case MMUEXT_FLUSH_CACHE_GLOBAL: return -XEN_EINVAL;
    case MMUEXT_MARK_SUPER:
    case MMUEXT_UNMARK_SUPER: return -XEN_EOPNOTSUPP;
    default: break;
    }
    pv_lock(v);
    rc = ext_locked(v, op);
    pv_unlock(v);
    return rc;
}

long hc_mmuext_op(struct pv_vcpu *v, const uint64_t a[6])
{
    uint64_t at = a[0], count = (uint32_t)a[1];
    uint32_t done = 0;
    long rc = domid_check((uint32_t)a[3]);
    if (rc)
        return rc;
    for (; done < count; done++, at += sizeof(struct mmuext_op)) {
        struct mmuext_op op;
        if (!pv_spend(v)) {
            rc = -XEN_E2BIG;
            break;
        }
        if (!pv_copy_from(v, &op, at, sizeof op)) {
            rc = -XEN_EFAULT;
            break;
        }
        rc = ext_op(v, &op);
        if (rc)
            break;
    }
    return put_done(v, a[2], done) ? -XEN_EFAULT : rc;
}
