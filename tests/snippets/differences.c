/* SPDX-License-Identifier: MIT
 * The whole list of what differs between the backends, and why. On kvm anywhere: what KVM
 * or the processor does in another way, which their manuals allow. In tests/kvm-lab: what
 * QEMU's software processor (7.2), which stands for a real one there, does not have or
 * does wrong with AMD's extensions; kvm shows what its processor does. */
#include "snip.h"
#include <stdio.h>
#include <stdlib.h>

static const struct difference {
    const char *snippet;
    bool lab; /* there only */
    const char *why;
} list[] = {
    /* SDM 7.3: processors switch tasks. emu has no tasks, and says #GP. */
    {"prot: task gates are refused", false, "processors switch tasks there, emu does not"},
    {"prot: calls to a TSS are refused", false, "processors switch tasks there, emu does not"},
    {"prot: IRET from a nested task", false, "processors switch tasks there, emu does not"},
    /* Documentation/virt/kvm/x86/hypercalls.rst: VMCALL is KVM's, and answers -1000. */
    {"hypercall: nobody takes them", false, "KVM answers by itself"},

    /* Segments' limits and rights are looked at where one is loaded, not where it is used. */
    {"real: a word at the segment's last byte", true, "QEMU does not check segments"},
    {"real: a push that wraps within a word", true, "QEMU does not check segments"},
    {"prot: segment limit", true, "QEMU does not check segments"},
    {"prot: expand-down limit", true, "QEMU does not check segments"},
    {"prot: read-only data", true, "QEMU does not check segments"},
    {"prot: null segment used", true, "QEMU does not check segments"},
    {"prot: write through CS", true, "QEMU does not check segments"},
    {"prot: stack limit", true, "QEMU does not check segments"},
    {"triple fault: a stack that takes no frame", true, "QEMU does not check segments"},
    /* APM 15.12: RIP is the instruction's that faulted. */
    {"prot: INT through a gate of ring 0", true,
     "an intercepted #GP has the next instruction in QEMU"},
    {"prot: INT through an absent gate", true,
     "an intercepted #GP has the next instruction in QEMU"},
    {"long: IRETQ to a non-canonical address", true, "QEMU faults one instruction late"},
    {"long: SSE invalid operation", true, "QEMU raises no SSE exceptions"},
    {"long: alignment check", true, "QEMU does not check alignment"},
    {"page: reserved bit", true, "the error code of QEMU's nested tables"},
    {"page: SMAP, STAC, CLAC", true, "the lab's processor has no SMAP (tests/kvm-lab/lab)"},
    {"debug: breakpoint on reads and writes", true, "QEMU crashes"},
    {"debug: breakpoint on a port", true, "QEMU crashes"},
    {"debug: general detect", true, "QEMU crashes"},
    {"debug: INT1", true, "INT1 is QEMU's own breakpoint"},
    {"debug: MOV SS holds a data breakpoint off", true, "QEMU does not hold it off"},
};

const char *difference(const char *snippet, const char *backend)
{
    if (strcmp(backend, "kvm") != 0)
        return NULL;
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++)
        if (!strcmp(list[i].snippet, snippet) && (!list[i].lab || getenv("VC_TEST_LAB")))
            return list[i].why;
    return NULL;
}

bool differences_exist(const struct snippets *const *groups, unsigned n)
{
    bool all = true;
    for (unsigned i = 0; i < sizeof list / sizeof *list; i++) {
        bool found = false;
        for (unsigned g = 0; g < n; g++)
            for (unsigned s = 0; s < groups[g]->n; s++)
                found |= !strcmp(groups[g]->list[s].name, list[i].snippet);
        if (!found)
            printf("no snippet is called \"%s\"\n", list[i].snippet);
        all &= found;
    }
    return all;
}
