/* SPDX-License-Identifier: MIT
 * What frames are used as, counted: a frame is a page table, a descriptor table or
 * writable, and never two of them, so that a guest whose kernel runs at ring 3 cannot
 * make a translation that was not checked. */
#include "domain.h"

/* ---- references ----------------------------------------------------------------------------- */

int pv_frame_get(struct pv_domain *d, uint64_t mfn)
{
    if (!pv_frame_ok(d, mfn))
        return -XEN_EINVAL;
    if (d->page[mfn].refs == UINT32_MAX)
        return -XEN_EBUSY;
    d->page[mfn].refs++;
    return 0;
}

void pv_frame_put(struct pv_domain *d, uint64_t mfn)
{
    d->page[mfn].refs--;
}

/* ---- entries -----------------------------------------------------------------------------------
 */

/* Bits that a guest's entries may not have: large pages, and cacheability, which is for
 * guests with devices of their own. G is taken away. */
#define L1_REFUSED (PTE_PWT | PTE_PCD | PTE_PS)
#define LN_REFUSED (PTE_PWT | PTE_PCD | PTE_PS | PTE_G)

/* Whose is a frame that is not the guest's? */
static int not_own(const struct pv_domain *d, uint64_t mfn)
{
    uint64_t hidden = d->hidden >> 12, end = hidden + (d->hidden_len >> 12);
    bool ram = mfn < d->host.ram_low >> 12 || (mfn >= 4ull << 18 && mfn < hidden);
    if (ram || (mfn >= hidden && mfn < end))
        return -XEN_EBUSY;                                    /* given back, or the hypervisor's */
    return mfn == PTE_FRAME >> 12 ? -XEN_EINVAL : -XEN_EPERM; /* a device's, if anything */
}

int pv_entry_get(struct pv_domain *d, unsigned level, uint64_t *e)
{
    uint64_t mfn = PTE_MFN(*e);
    int rc;
    if (*e & (level == 1 ? L1_REFUSED : LN_REFUSED))
        return -XEN_EINVAL;
    if (level > 1)
        rc = pv_frame_get_type(d, mfn, (enum pv_type)(TYPE_L1 + level - 2));
    else if (!pv_frame_ok(d, mfn))
        rc = not_own(d, mfn);
    else if (*e & PTE_W)
        rc = pv_frame_get_type(d, mfn, TYPE_WRITABLE) ? -XEN_EBUSY : 0;
    else
        rc = pv_frame_get(d, mfn);
    /* The guest's kernel runs at ring 3. Nothing is global: the kernel's tables and its
     * users' are different. */
    *e = (*e | PTE_U) & ~PTE_G;
    return rc;
}

void pv_entry_put(struct pv_domain *d, unsigned level, uint64_t e)
{
    if (level > 1 || e & PTE_W)
        pv_frame_put_type(d, PTE_MFN(e));
    else
        pv_frame_put(d, PTE_MFN(e));
}

/* ---- tables
 * -------------------------------------------------------------------------------------- */

static bool hv_slot(unsigned level, unsigned i)
{
    return level == 4 && i >= HV_SLOT_FIRST && i <= HV_SLOT_LAST;
}

static void table_drop(struct pv_domain *d, uint64_t mfn, unsigned level, unsigned n)
{
    const uint64_t *t = pv_frame_ptr(d, mfn);
    for (unsigned i = 0; i < n; i++) {
        uint64_t e = __atomic_load_n(&t[i], __ATOMIC_RELAXED);
        if (e & PTE_P && !hv_slot(level, i))
            pv_entry_put(d, level, e);
    }
}

static void put_hv_slots(struct pv_domain *d, uint64_t *t)
{
    memset(t + HV_SLOT_FIRST, 0, (HV_SLOT_LAST - HV_SLOT_FIRST + 1) * sizeof *t);
    t[HV_SLOT_M2P] = d->m2p_l3 << 12 | PTE_P | PTE_U | PTE_A | PTE_NX;
    t[HV_SLOT_OWN] = d->own_l3 << 12 | PTE_P | PTE_W | PTE_A | PTE_NX;
}

/* Nobody can write the table any more, but other vCPUs' walks may set accessed bits in
 * it, where it is reached as a table already: not before it is valid. */
static int table_check(struct pv_domain *d, uint64_t mfn, unsigned level)
{
    uint64_t *t = pv_frame_ptr(d, mfn);
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = t[i];
        if (!(e & PTE_P) || hv_slot(level, i))
            continue;
        int rc = pv_entry_get(d, level, &e);
        if (rc) {
            table_drop(d, mfn, level, i);
            return rc;
        }
        if (e != t[i])
            t[i] = e;
    }
    if (level == 4)
        put_hv_slots(d, t);
    return 0;
}

/* ---- descriptors
 * ------------------------------------------------------------------------------------ */

/* Code and data of any kind, not system segments; what is not present may be anything.
 * All are for ring 3. */
bool pv_desc_fix(uint64_t *desc)
{
    const uint64_t present = BIT64(47), s = BIT64(44), dpl = 3ull << 45, accessed = BIT64(40);
    if (!(*desc & present))
        return true;
    if (!(*desc & s))
        return false;
    *desc |= dpl | accessed;
    return true;
}

static int segdesc_check(struct pv_domain *d, uint64_t mfn)
{
    uint64_t *t = pv_frame_ptr(d, mfn);
    for (unsigned i = 0; i < 512; i++) {
        uint64_t e = t[i];
        if (!pv_desc_fix(&e))
            return -XEN_EINVAL;
        if (e != t[i])
            t[i] = e;
    }
    return 0;
}

/* ---- types
 * --------------------------------------------------------------------------------------------- */

static int type_check(struct pv_domain *d, uint64_t mfn, enum pv_type type)
{
    switch (type) {
    case TYPE_L1:
    case TYPE_L2:
    case TYPE_L3:
    case TYPE_L4: return table_check(d, mfn, type - TYPE_L1 + 1);
    case TYPE_SEGDESC: return segdesc_check(d, mfn);
    default: return 0;
    }
}

int pv_frame_get_type(struct pv_domain *d, uint64_t mfn, enum pv_type type)
{
    int rc = pv_frame_get(d, mfn);
    if (rc)
        return rc;
    struct pv_page *p = &d->page[mfn];
    if (p->types && p->type != type) {
        pv_frame_put(d, mfn);
        return -XEN_EINVAL;
    }
    if (!p->types) {
        if (p->type != type)
            pv_forget_uses(d, mfn);
        p->type = (uint8_t)type;
        p->valid = false;
    }
    p->types++;
    if (p->valid)
        return 0;
    /* A table that leads to itself finds itself not valid yet. */
    if (p->types > 1)
        rc = -XEN_EINVAL;
    else
        rc = type_check(d, mfn, type);
    if (rc) {
        p->types--;
        pv_frame_put(d, mfn);
        return rc;
    }
    p->valid = true;
    return 0;
}

void pv_frame_put_type(struct pv_domain *d, uint64_t mfn)
{
    struct pv_page *p = &d->page[mfn];
    if (--p->types == 0) {
        /* A walk may be inside it, and with a root its address space is gone. */
        d->tick += pv_is_table(p->type);
        if (pv_is_table(p->type))
            table_drop(d, mfn, p->type - TYPE_L1 + 1u, 512);
        p->stamp = d->tick;
        p->valid = false;
    }
    pv_frame_put(d, mfn);
}

int pv_frame_pin(struct pv_domain *d, uint64_t mfn, enum pv_type type)
{
    int rc = pv_frame_get_type(d, mfn, type);
    if (rc)
        return rc;
    if (d->page[mfn].pinned) {
        pv_frame_put_type(d, mfn);
        return -XEN_EINVAL;
    }
    d->page[mfn].pinned = true;
    return 0;
}

int pv_frame_unpin(struct pv_domain *d, uint64_t mfn)
{
    if (!pv_frame_ok(d, mfn) || !d->page[mfn].pinned)
        return -XEN_EINVAL;
    d->page[mfn].pinned = false;
    pv_frame_put_type(d, mfn);
    return 0;
}
