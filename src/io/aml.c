/* SPDX-License-Identifier: MIT
 * AML encoding; see aml.h. */
#include "aml.h"
#include "../base/util.h"

void acpi_put(struct acpi_buf *b, const void *bytes, size_t n)
{
    if (n > b->cap - b->len) {
        b->overflow = true;
        return;
    }
    memcpy(b->data + b->len, bytes, n);
    b->len += n;
}

void acpi_u8(struct acpi_buf *b, unsigned v)
{
    uint8_t x = (uint8_t)v;
    acpi_put(b, &x, 1);
}

void acpi_u16(struct acpi_buf *b, unsigned v)
{
    uint8_t x[2];
    put_le16(x, (uint16_t)v);
    acpi_put(b, x, sizeof x);
}

void acpi_u32(struct acpi_buf *b, uint32_t v)
{
    uint8_t x[4];
    put_le32(x, v);
    acpi_put(b, x, sizeof x);
}

void acpi_u64(struct acpi_buf *b, uint64_t v)
{
    uint8_t x[8];
    put_le64(x, v);
    acpi_put(b, x, sizeof x);
}

/* PkgLength counts itself (20.2.4): one byte up to 63, else 4 bits there and 8 in
 * each byte that follows. It is put before the body once that is known. */
void aml_end(struct acpi_buf *b, size_t begin)
{
    size_t body = b->len - begin, n = 1, total;
    uint8_t enc[4];

    while (body + n >= (n == 1 ? 64u : 1u << (4 + 8 * (n - 1))))
        n++;
    total = body + n;
    if (n == 1) {
        enc[0] = (uint8_t)total;
    } else {
        enc[0] = (uint8_t)((n - 1) << 6 | (total & 15));
        for (size_t i = 1; i < n; i++)
            enc[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
    }
    if (n > b->cap - b->len) {
        b->overflow = true;
        return;
    }
    memmove(b->data + begin + n, b->data + begin, body);
    memcpy(b->data + begin, enc, n);
    b->len += n;
}

size_t aml_scope(struct acpi_buf *b, const char *path)
{
    acpi_u8(b, 0x10);
    size_t begin = b->len;
    acpi_put(b, path, strlen(path));
    return begin;
}

size_t aml_device(struct acpi_buf *b, const char *name)
{
    acpi_put(b, "\x5b\x82", 2);
    size_t begin = b->len;
    acpi_put(b, name, 4);
    return begin;
}

size_t aml_package(struct acpi_buf *b, unsigned elements)
{
    acpi_u8(b, 0x12);
    size_t begin = b->len;
    acpi_u8(b, elements);
    return begin;
}

void aml_name(struct acpi_buf *b, const char *name)
{
    acpi_u8(b, 0x08);
    acpi_put(b, name, 4);
}

void aml_int(struct acpi_buf *b, uint64_t v)
{
    if (v <= 1) {
        acpi_u8(b, (unsigned)v); /* ZeroOp, OneOp */
    } else if (v <= 0xff) {
        acpi_u8(b, 0x0a);
        acpi_u8(b, (unsigned)v);
    } else if (v <= 0xffff) {
        acpi_u8(b, 0x0b);
        acpi_u16(b, (unsigned)v);
    } else if (v <= 0xffffffff) {
        acpi_u8(b, 0x0c);
        acpi_u32(b, (uint32_t)v);
    } else {
        acpi_u8(b, 0x0e);
        acpi_u64(b, v);
    }
}

void aml_str(struct acpi_buf *b, const char *s)
{
    acpi_u8(b, 0x0d);
    acpi_put(b, s, strlen(s) + 1);
}

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of 5 bits, four hexadecimal digits, most significant byte first
 * (6.1.5 with 19.3.4). */
void aml_eisaid(struct acpi_buf *b, const char *id)
{
    unsigned letters = (id[0] & 31u) << 10 | (id[1] & 31u) << 5 | (id[2] & 31u);
    acpi_u8(b, 0x0c);
    acpi_u8(b, letters >> 8);
    acpi_u8(b, letters);
    acpi_u8(b, hex(id[3]) << 4 | hex(id[4]));
    acpi_u8(b, hex(id[5]) << 4 | hex(id[6]));
}

void aml_resources(struct acpi_buf *b, const struct acpi_buf *res)
{
    acpi_u8(b, 0x11);
    size_t begin = b->len;
    aml_int(b, res->len + 2);
    acpi_put(b, res->data, res->len);
    acpi_put(b, "\x79\x00", 2); /* end tag; checksum 0 counts as right (6.4.2.9) */
    aml_end(b, begin);
    b->overflow |= res->overflow;
}

/* I/O port descriptor, 16-bit decode (6.4.2.5). */
void res_io(struct acpi_buf *r, unsigned base, unsigned len)
{
    acpi_u8(r, 0x47);
    acpi_u8(r, 1);
    acpi_u16(r, base);
    acpi_u16(r, base);
    acpi_u8(r, 1);
    acpi_u8(r, len);
}

/* IRQ descriptor, edge-triggered, active high (6.4.2.1). */
void res_irq(struct acpi_buf *r, unsigned irq)
{
    acpi_u8(r, 0x22);
    acpi_u16(r, 1u << irq);
}

/* 32-bit fixed memory range, writable (6.4.3.4). */
void res_mem32(struct acpi_buf *r, uint32_t base, uint32_t len)
{
    acpi_u8(r, 0x86);
    acpi_u16(r, 9);
    acpi_u8(r, 1);
    acpi_u32(r, base);
    acpi_u32(r, len);
}

/* Word address space descriptor (6.4.3.5.3): positive decode, fixed ends. */
static void window16(struct acpi_buf *r, unsigned type, unsigned flags, unsigned first,
                     unsigned last)
{
    acpi_u8(r, 0x88);
    acpi_u16(r, 13);
    acpi_u8(r, type);
    acpi_u8(r, 0x0c);
    acpi_u8(r, flags);
    acpi_u16(r, 0);
    acpi_u16(r, first);
    acpi_u16(r, last);
    acpi_u16(r, 0);
    acpi_u16(r, last - first + 1);
}

void res_bus(struct acpi_buf *r, unsigned first, unsigned last)
{
    window16(r, 2, 0, first, last);
}

void res_io_window(struct acpi_buf *r, unsigned first, unsigned last)
{
    window16(r, 1, 3, first, last);
}

/* DWord address space descriptor (6.4.3.5.2): memory, writable, not cacheable. */
void res_mem_window(struct acpi_buf *r, uint32_t first, uint32_t last)
{
    acpi_u8(r, 0x87);
    acpi_u16(r, 23);
    acpi_u8(r, 0);
    acpi_u8(r, 0x0c);
    acpi_u8(r, 1);
    acpi_u32(r, 0);
    acpi_u32(r, first);
    acpi_u32(r, last);
    acpi_u32(r, 0);
    acpi_u32(r, last - first + 1);
}
