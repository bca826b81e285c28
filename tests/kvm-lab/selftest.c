/* SPDX-License-Identifier: MIT
 * Is there a KVM that works? Without the library: a VM, a vCPU, and two instructions of
 * a guest: a port write, and the end. "tsc" instead says how fast the time-stamp counter
 * is, in kHz. */
#include "base/tsc.h"
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PAGE 4096
#define PORT 0x10

static int fail(const char *what)
{
    perror(what);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "tsc"))
        return printf("%llu\n", (unsigned long long)host_tsc_hz() / 1000) < 0;
    static const uint8_t code[] = {
        0xb0, 42,   /* mov al, 42 */
        0xe6, PORT, /* out PORT, al */
        0xf4,       /* hlt */
    };
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return fail("/dev/kvm");
    int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    int vm = ioctl(kvm, KVM_CREATE_VM, 0ul);
    if (vm < 0)
        return fail("KVM_CREATE_VM");
    uint8_t *ram = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED)
        return fail("mmap");
    memcpy(ram, code, sizeof code);
    struct kvm_userspace_memory_region slot = {
        .guest_phys_addr = PAGE, .memory_size = PAGE, .userspace_addr = (uintptr_t)ram};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot))
        return fail("KVM_SET_USER_MEMORY_REGION");

    int cpu = ioctl(vm, KVM_CREATE_VCPU, 0ul);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (cpu < 0 || size < 0)
        return fail("KVM_CREATE_VCPU");
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    if (run == MAP_FAILED)
        return fail("mmap of the vCPU");
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = PAGE, .rflags = 2};
    if (ioctl(cpu, KVM_GET_SREGS, &sregs))
        return fail("KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0; /* real mode, where a reset leaves it */
    if (ioctl(cpu, KVM_SET_SREGS, &sregs) || ioctl(cpu, KVM_SET_REGS, &regs))
        return fail("KVM_SET_SREGS");

    if (ioctl(cpu, KVM_RUN, 0))
        return fail("KVM_RUN");
    uint8_t data = *((uint8_t *)run + run->io.data_offset);
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT || data != 42) {
        printf("the first exit is %u, not the port write\n", run->exit_reason);
        return 1;
    }
    if (ioctl(cpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_HLT) {
        printf("the second exit is %u, not the halt\n", run->exit_reason);
        return 1;
    }
    printf("KVM, API version %d: a guest wrote %u and halted\n", version, data);
    return 0;
}
