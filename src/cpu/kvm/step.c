/* SPDX-License-Identifier: MIT
 * Instructions that KVM cannot do, because they touch a device's memory in a way that
 * it cannot decode: the emu engine's interpreter does one, and KVM goes on. */
#include "engine.h"
#include "../../base/err.h"
#include "../../base/util.h"
#include <stdio.h>

static const enum vc_reg singles[] = {VC_REG_PKRU, VC_REG_DR0, VC_REG_DR1, VC_REG_DR2,
                                      VC_REG_DR3,  VC_REG_DR6, VC_REG_DR7};

/* The partition's part of the interpreter, on the first need. */
static int emu_ready(struct kvm_cpu *c)
{
    struct kvm_vm *vm = c->vm;
    int rc = 0;
    pthread_mutex_lock(&vm->lock);
    if (!vm->emu) {
        const struct vc_vm_opts opts = {
            .size = sizeof opts, .cpu_model = "host", .engine = VC_ENGINE_INTERP};
        rc = backend_emu.open(&opts, &vm->env, &vm->emu);
    }
    pthread_mutex_unlock(&vm->lock);
    if (!rc && !c->emu) {
        c->emu_mail.inject = -1;
        rc = backend_emu.cpu_new(vm->emu, c->handle, c->index, &c->emu_mail, &c->emu);
    }
    return rc;
}

/* The state from one engine to the other. */
static int copy_state(const struct backend *from, struct backend_cpu *f, const struct backend *to,
                      struct backend_cpu *t)
{
    struct vc_sregs s = {.size = sizeof s};
    struct vc_gprs g = {.size = sizeof g};
    struct vc_fpu x = {.size = sizeof x};
    int rc = from->sregs(f, false, &s);
    if (!rc)
        rc = from->gprs(f, false, &g);
    if (!rc)
        rc = from->fpu(f, false, &x);
    if (!rc)
        rc = to->sregs(t, true, &s);
    if (!rc)
        rc = to->fpu(t, true, &x);
    for (unsigned i = 0; i < ARRAY_LEN(singles) && !rc; i++) {
        uint64_t v = 0;
        rc = from->reg(f, false, singles[i], &v);
        if (!rc)
            to->reg(t, true, singles[i], &v); /* what it has not is 0 */
    }
    return rc ? rc : to->gprs(t, true, &g);
}

int kvm_step_begin(struct kvm_cpu *c)
{
    int rc = emu_ready(c);
    if (rc)
        return rc;
    /* What it decoded or translated last time may have changed without its notice. */
    backend_emu.map_changed(c->vm->emu);
    rc = copy_state(&backend_kvm, (struct backend_cpu *)c, &backend_emu, c->emu);
    if (rc)
        return rc;
    c->in_emu = true;
    memset(c->exit, 0, sizeof *c->exit);
    c->exit->size = sizeof *c->exit;
    return kvm_step_go(c);
}

/* One instruction, or the rest of one that left for the embedder. */
int kvm_step_go(struct kvm_cpu *c)
{
    const struct vc_budget one = {.size = sizeof one, .insns = 1};
    int rc = backend_emu.run(c->emu, &one, c->exit);
    if (rc)
        return rc;
    if (c->exit->kind != VC_EXIT_BUDGET && c->exit->kind != VC_EXIT_SHUTDOWN)
        return NEXT_LEAVE;
    bool down = c->exit->kind == VC_EXIT_SHUTDOWN;
    c->in_emu = false;
    rc = copy_state(&backend_emu, c->emu, &backend_kvm, (struct backend_cpu *)c);
    if (rc || down)
        return rc ? rc : NEXT_LEAVE;
    c->exit->kind = VC_EXIT_NONE;
    return NEXT_GO;
}

/* An instruction that repeats stays where its last repetition left it. */
int kvm_step_finish(struct kvm_cpu *c)
{
    int rc = backend_emu.finish(c->emu, c->exit);
    if (rc)
        return rc;
    c->in_emu = false;
    return copy_state(&backend_emu, c->emu, &backend_kvm, (struct backend_cpu *)c);
}

void kvm_step_free(struct kvm_cpu *c)
{
    if (c->emu)
        backend_emu.cpu_free(c->emu);
    c->emu = NULL;
    c->in_emu = false;
}
