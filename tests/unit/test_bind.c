/* SPDX-License-Identifier: MIT
 * Event descriptors tied to the guest: vc_bind_fd. */
#include "api.h"
#include <poll.h>
#include <sys/eventfd.h>

static uint64_t count_of(int fd)
{
    uint64_t n = 0;
    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static struct vc_bind port_bind(int fd)
{
    return (struct vc_bind){.size = sizeof(struct vc_bind),
                            .kind = VC_BIND_WRITE,
                            .space = VC_SPACE_PORT,
                            .addr = 0x10,
                            .len = 1,
                            .fd = fd};
}

Test(bind, arguments)
{
    vc_vm *vm = open_vm();
    int fd = eventfd(0, EFD_NONBLOCK);
    struct vc_bind b = port_bind(fd);
    fails(vc_bind_fd(NULL, &b), VC_EINVAL);
    fails(vc_bind_fd(vm, NULL), VC_EINVAL);
    b.kind = 3;
    fails(vc_bind_fd(vm, &b), VC_EINVAL);
    b = port_bind(0);
    fails(vc_bind_fd(vm, &b), VC_EINVAL);
    b = port_bind(fd);
    b.len = 3;
    fails(vc_bind_fd(vm, &b), VC_EINVAL);
    b = port_bind(fd);
    b.len = 8;
    fails(vc_bind_fd(vm, &b), VC_EINVAL);
    b = port_bind(fd);
    b.addr = 0x10000;
    fails(vc_bind_fd(vm, &b), VC_ERANGE);
    b = port_bind(fd);
    b.flags = 2;
    fails(vc_bind_fd(vm, &b), VC_EINVAL);
    b = port_bind(fd);
    b.kind = VC_BIND_IRQ;
    fails(vc_bind_fd(vm, &b), VC_ENOTSUP);
    works(vc_map(vm, 0x10000, 0x1000, VC_MEM_RWX));
    b = port_bind(fd);
    b.space = VC_SPACE_MMIO;
    b.addr = 0x10004;
    fails(vc_bind_fd(vm, &b), VC_ERANGE);

    b = port_bind(fd);
    int id = vc_bind_fd(vm, &b);
    works(id);
    fails(vc_bind_fd(vm, &b), VC_EEXIST);
    fails(vc_unbind_fd(vm, id + 1), VC_ENOENT);
    works(vc_unbind_fd(vm, id));
    fails(vc_unbind_fd(vm, id), VC_ENOENT);
    works(vc_bind_fd(vm, &b));
    works(vc_close(vm));
    close(fd);
}

Test(bind, a_value_at_a_port)
{
    static const uint8_t code[] = {
        0xb0, 0x05, 0xe6, 0x10, /* mov al, 5; out 0x10, al */
        0xb0, 0x06, 0xe6, 0x10, /* mov al, 6; out 0x10, al */
        0xb0, 0x05, 0xe6, 0x10, /* mov al, 5; out 0x10, al */
        0xf4,
    };
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    int fd = eventfd(0, EFD_NONBLOCK);
    struct vc_bind b = port_bind(fd);
    b.flags = VC_BIND_MATCH;
    b.data = 5;
    int id = vc_bind_fd(vm, &b);
    works(id);
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    cr_assert_eq(x.u.port.data & 0xff, 6);
    cr_assert_eq(count_of(fd), 1);
    works(vc_unbind_fd(vm, id));
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_PORT);
    cr_assert_eq(x.u.port.data & 0xff, 5);
    cr_assert_eq(count_of(fd), 0);
    works(vc_close(vm));
    close(fd);
}

static int nobody(void *ud, struct vc_access *a)
{
    (void)a;
    ++*(int *)ud;
    return 0;
}

Test(bind, memory_comes_before_a_trap)
{
    static const uint8_t code[] = {
        0xc7, 0x04, 0x25, 0x04, 0x00, 0x02, 0x00, 0x07, 0, 0, 0, /* mov dword [0x20004], 7 */
        0xc7, 0x04, 0x25, 0x04, 0x00, 0x02, 0x00, 0x08, 0, 0, 0, /* and 8 */
        0xc6, 0x04, 0x25, 0x04, 0x00, 0x02, 0x00, 0x09,          /* mov byte [0x20004], 9 */
        0xf4,
    };
    vc_vm *vm = open_vm();
    vc_cpu *cpu = code_cpu(vm, code, sizeof code);
    int fd = eventfd(0, EFD_NONBLOCK), trapped = 0;
    works(vc_trap(vm, VC_SPACE_MMIO, 0x20000, 0x100, nobody, &trapped));
    struct vc_bind b = port_bind(fd);
    b.space = VC_SPACE_MMIO;
    b.addr = 0x20004;
    b.len = 4;
    works(vc_bind_fd(vm, &b));
    struct vc_exit x = {.size = sizeof x};
    works(vc_run(cpu, NULL, &x));
    cr_assert_eq(x.kind, VC_EXIT_HLT);
    cr_assert_eq(count_of(fd), 2);
    cr_assert_eq(trapped, 1);
    works(vc_close(vm));
    close(fd);
}

static int note_port(void *ud, struct vc_access *a)
{
    *(uint64_t *)ud = a->addr;
    return vc_kick(a->cpu);
}

/* The guest sets up the 8259, says so on port 0x10, and halts; its handler says so on
 * port 0x11. */
static void interrupt(uint32_t where)
{
    static const uint8_t code[] = {
        0xb0, 0x11, 0xe6, 0x20, 0xb0, 0x20, 0xe6, 0x21, /* ICW1, ICW2: from 0x20 on */
        0xb0, 0x04, 0xe6, 0x21, 0xb0, 0x01, 0xe6, 0x21, /* ICW3, ICW4 */
        0xb0, 0xdf, 0xe6, 0x21,                         /* all but IRQ 5 masked */
        0xe6, 0x10,                                     /* out 0x10, al */
        0xfb, 0xf4, 0xeb, 0xfc,                         /* sti; hlt; again */
    };
    static const uint8_t handler[] = {0xb0, 0x20, 0xe6, 0x20, 0xe6, 0x11, 0xcf};
    static const uint16_t vector[2] = {0x1100, 0};
    vc_vm *vm = open_vm();
    struct vc_pc_opts pc = {.size = sizeof pc, .ram = 1 << 20, .cpus = 1, .irqchip = where};
    works(vc_pc(vm, &pc));
    works(vc_write(vm, 0x1000, code, sizeof code));
    works(vc_write(vm, 0x1100, handler, sizeof handler));
    works(vc_write(vm, 4 * 0x25, vector, sizeof vector));
    uint64_t said = 0;
    works(vc_trap(vm, VC_SPACE_PORT, 0x10, 2, note_port, &said));
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_REAL16, 0x1000);
    cr_assert_not_null(cpu, "%s", vc_errmsg());
    int fd = eventfd(0, EFD_NONBLOCK);
    struct vc_bind b = port_bind(fd);
    b.kind = VC_BIND_IRQ;
    b.gsi = 24;
    fails(vc_bind_fd(vm, &b), VC_ERANGE);
    b.gsi = 5;
    int id = vc_bind_fd(vm, &b);
    works(id);

    struct vc_exit x = {.size = sizeof x};
    struct vc_budget budget = {.size = sizeof budget, .ns = 10000000000ull};
    works(vc_run(cpu, &budget, &x));
    cr_assert_eq(x.kind, VC_EXIT_KICK, "exit %u", x.kind);
    cr_assert_eq(said, 0x10);
    for (int i = 0; i < 3; i++) {
        const uint64_t one = 1;
        cr_assert_eq(write(fd, &one, sizeof one), sizeof one);
        said = 0;
        works(vc_run(cpu, &budget, &x));
        cr_assert_eq(x.kind, VC_EXIT_KICK, "exit %u", x.kind);
        cr_assert_eq(said, 0x11);
    }
    works(vc_unbind_fd(vm, id));
    works(vc_close(vm));
    close(fd);
}

Test(bind, an_interrupt)
{
    interrupt(VC_IRQCHIP_AUTO);
}

Test(bind, an_interrupt_of_our_own_controllers)
{
    interrupt(VC_IRQCHIP_USER);
}

Test(bind, an_interrupt_of_split_controllers)
{
    if (!strcmp(tested(), "kvm"))
        interrupt(VC_IRQCHIP_SPLIT);
}
