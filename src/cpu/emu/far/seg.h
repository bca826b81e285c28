/* SPDX-License-Identifier: MIT
 * Segmentation: descriptors, and what may be loaded into which segment register
 * (SDM volume 3, chapters 3 and 5). */
#ifndef EMU_SEG_H
#define EMU_SEG_H

#include "../emu.h"

/* Types of system descriptors (SDM 3.5, table 3-2). */
enum {
    SYS_TSS16 = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INT16 = 6,
    SYS_TRAP16 = 7,
    SYS_TSS32 = 9, /* 64-bit in long mode, as those below */
    SYS_TSS32_BUSY = 11,
    SYS_CALL32 = 12,
    SYS_INT32 = 14,
    SYS_TRAP32 = 15
};
/* Bits of code and data descriptors' types. */
#define TYPE_ACCESSED 1u
#define TYPE_WRITE    2u /* data: writable */
#define TYPE_READ     2u /* code: readable */
#define TYPE_DOWN     4u /* data: expand-down */
#define TYPE_CONF     4u /* code: conforming */
#define TYPE_CODE     8u

/* Whole attributes of segments that no descriptor made; DPL 0. */
#define ATTR_DATA16 (SEG_A_S | SEG_A_P | 3u)
#define ATTR_CODE16 (SEG_A_S | SEG_A_P | 11u)
#define ATTR_V86    (ATTR_DATA16 | 3u << SEG_A_DPL_SHIFT)
#define ATTR_DATA32 (ATTR_DATA16 | SEG_A_DB | SEG_A_G)
#define ATTR_CODE32 (ATTR_CODE16 | SEG_A_DB | SEG_A_G)
#define ATTR_CODE64 (ATTR_CODE16 | SEG_A_L | SEG_A_G)

struct desc {
    uint64_t raw;   /* the first eight bytes */
    uint64_t addr;  /* where they are */
    struct seg seg; /* the same as a segment register holds it; sel too */
};

static inline unsigned sel_rpl(uint16_t sel)
{
    return sel & 3;
}
static inline bool sel_null(uint16_t sel)
{
    return !(sel & 0xfffc);
}
static inline unsigned seg_type(const struct seg *s)
{
    return s->attr & SEG_A_TYPE;
}
static inline unsigned seg_dpl(const struct seg *s)
{
    return s->attr >> SEG_A_DPL_SHIFT & 3;
}
static inline bool seg_is_code(const struct seg *s)
{
    return (s->attr & (SEG_A_S | TYPE_CODE)) == (SEG_A_S | TYPE_CODE);
}
static inline bool seg_conforming(const struct seg *s)
{
    return (s->attr & (SEG_A_S | TYPE_CODE | TYPE_CONF)) == (SEG_A_S | TYPE_CODE | TYPE_CONF);
}
static inline bool seg_writable(const struct seg *s) /* as data */
{
    return (s->attr & (SEG_A_S | TYPE_CODE | TYPE_WRITE)) == (SEG_A_S | TYPE_WRITE);
}
/* A data segment, or code that may be read. */
static inline bool seg_readable(const struct seg *s)
{
    return s->attr & SEG_A_S && (!(s->attr & TYPE_CODE) || s->attr & TYPE_READ);
}

static inline bool long_mode(const struct emu *c)
{
    return c->efer & EFER_LMA;
}
static inline bool v86_mode(const struct emu *c)
{
    return c->rflags & FL_VM;
}
static inline bool real_mode(const struct emu *c)
{
    return !(c->cr0 & CR0_PE);
}
static inline bool protected_mode(const struct emu *c) /* long mode too; not virtual-8086 */
{
    return c->cr0 & CR0_PE && !v86_mode(c);
}
static inline bool code64(const struct emu *c)
{
    return (c->mode & MODE_CODE_MASK) == MODE_CODE64;
}

/* Raises a fault whose error code names a selector (SDM 6.13). Event delivery
 * adds the EXT bit. */
_Noreturn void seg_fault(struct emu *c, unsigned vector, uint16_t sel);

/* [off, off + size) lies within the segment's limit. */
bool seg_within(const struct seg *s, uint64_t off, uint64_t size);

/* Reads a descriptor. false: null, or outside its table. */
bool desc_read(struct emu *c, uint16_t sel, struct desc *d);
/* The second half of a 16-byte system descriptor. false: outside the table, or
 * its type bits are not 0 (SDM 3.5.2). */
bool desc_read_upper(struct emu *c, const struct desc *d, uint64_t *upper);
/* Sets the accessed bit, in memory too. */
void desc_mark_accessed(struct emu *c, struct desc *d);

/* Values of segment registers without a descriptor. */
void seg_set_real(struct emu *c, unsigned seg, uint16_t sel);
void seg_set_v86(struct emu *c, unsigned seg, uint16_t sel);
void seg_set_null(struct emu *c, unsigned seg, uint16_t sel);
void seg_set_flat(struct emu *c, unsigned seg, uint16_t sel, uint16_t attr, unsigned dpl);

/* Loads ES, SS, DS, FS or GS as MOV does, in any mode. The caller reports SS
 * with emu_mode_changed(). */
void seg_load(struct emu *c, unsigned seg, uint16_t sel);

/* The descriptor of a stack segment for privilege `cpl`; #SS when it is not
 * present, otherwise `bad` (#GP or #TS) when it cannot be one. */
void seg_read_stack(struct emu *c, uint16_t sel, unsigned cpl, unsigned bad, struct desc *d);

/* A code segment that a transfer ends in is 64-bit? #GP(sel) when its L and D
 * bits are both set in long mode. */
bool seg_code_is64(struct emu *c, const struct seg *cs);
/* #GP(0) unless ip lies in the code segment. */
void seg_check_ip(struct emu *c, const struct seg *cs, uint64_t ip);
/* Loads CS with that privilege. */
void seg_set_cs(struct emu *c, const struct seg *cs, unsigned cpl);
/* After a return to an outer ring: data segments that ring may not have. */
void seg_drop_inner(struct emu *c);

#endif
