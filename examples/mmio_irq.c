/* SPDX-License-Identifier: MIT
 * A device with two MMIO registers and an interrupt. The guest, in real mode,
 * writes a number to the first; the device squares it and interrupts; the guest's
 * handler reads the second register and writes it to a port. */
#include <stdint.h>
#include <stdio.h>
#include <virtcore/virtcore.h>

#define DEVICE 0xd0000 /* segment 0xd000 */
#define VECTOR 0x20

struct squarer {
    uint32_t result;
};

static int squarer_access(void *ud, struct vc_access *a)
{
    struct squarer *dev = ud;
    if (!a->write) {
        a->data = a->addr == DEVICE + 2 ? dev->result : 0;
        return 0;
    }
    if (a->addr == DEVICE) {
        uint32_t n = (uint16_t)a->data;
        dev->result = n * n;
        vc_inject_irq(a->cpu, VECTOR);
    }
    return 0;
}

static const struct vc_dev_ops squarer_ops = {
    .size = sizeof squarer_ops, .name = "squarer", .access = squarer_access};

static const uint8_t code[] = {
    0xb8, 0x00, 0xd0,                         /* mov ax, 0xd000 */
    0x8e, 0xc0,                               /* mov es, ax */
    0xbc, 0x00, 0x10,                         /* mov sp, 0x1000 */
    0xfb,                                     /* sti */
    0x26, 0xc7, 0x06, 0x00, 0x00, 0x0c, 0x00, /* mov word es:[0], 12 */
    0xf4,                                     /* hlt: the interrupt came before it */
};
static const uint8_t handler[] = {
    0x26, 0xa1, 0x02, 0x00, /* mov ax, es:[2] */
    0xe7, 0x80,             /* out 0x80, ax */
    0xcf,                   /* iret */
};

int main(int argc, char **argv)
{
    struct squarer dev = {0};
    const struct vc_dev_range range = {.space = VC_SPACE_MMIO, .base = DEVICE, .len = 4};
    const uint16_t vector[2] = {0x1100, 0x0000}; /* the handler's offset and segment */

    vc_vm *vm = vc_open(argc > 1 ? argv[1] : "auto", NULL);
    vc_map(vm, 0, 0x10000, VC_MEM_RWX);
    vc_write(vm, VECTOR * 4, vector, sizeof vector);
    vc_write(vm, 0x1000, code, sizeof code);
    vc_write(vm, 0x1100, handler, sizeof handler);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_REAL16, 0x1000);

    int answered = 0;
    struct vc_exit exit = {.size = sizeof exit};
    if (vc_dev_attach(vm, &squarer_ops, &range, 1, &dev)) {
        while (!vc_run(cpu, NULL, &exit) && exit.kind == VC_EXIT_PORT) {
            printf("12 squared is %u, says the guest\n", exit.u.port.data);
            answered = exit.u.port.data == 144;
        }
    }
    if (vc_errcode())
        fprintf(stderr, "mmio_irq: %s\n", vc_errmsg());
    vc_close(vm);
    return !answered;
}
