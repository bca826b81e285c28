/* SPDX-License-Identifier: MIT
 * A few instructions and a port write, on the backend named as argument. */
#include <stdio.h>
#include <virtcore/virtcore.h>

int main(int argc, char **argv)
{
    static const unsigned char code[] = {
        0xb0, 6,    /* mov al, 6 */
        0xb1, 7,    /* mov cl, 7 */
        0xf6, 0xe1, /* mul cl */
        0xe6, 0x10, /* out 0x10, al */
        0xf4,       /* hlt */
    };
    vc_vm *vm = vc_open(argc > 1 ? argv[1] : "auto", NULL);
    vc_map(vm, 0x1000, 0x1000, VC_MEM_RWX);
    vc_write(vm, 0x1000, code, sizeof code);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, 0x1000);
    struct vc_exit exit = {.size = sizeof exit};
    while (!vc_run(cpu, NULL, &exit) && exit.kind == VC_EXIT_PORT)
        printf("the guest writes %u to port %#x\n", exit.u.port.data, exit.u.port.port);
    if (vc_errcode())
        fprintf(stderr, "hello: %s\n", vc_errmsg());
    vc_close(vm);
    return exit.kind != VC_EXIT_HLT;
}
