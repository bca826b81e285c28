/* SPDX-License-Identifier: MIT
 * Disks and network links, as the public calls take and refuse them. */
#include "api.h"

#define RAM (16ull << 20)

static unsigned freed;

static int no_read(void *ud, uint64_t offset, const struct iovec *iov, unsigned n)
{
    (void)ud, (void)offset, (void)iov, (void)n;
    return VC_EIO;
}

static void on_free(void *ud)
{
    freed += ud == &freed;
}

static const struct vc_disk_ops ops = {.size = sizeof ops, .read = no_read, .free = on_free};
static const struct vc_disk_opts mine = {
    .size = sizeof mine, .ops = &ops, .ud = &freed, .bytes = 1 << 20, .flags = VC_DISK_READ_ONLY};
static const struct vc_net_opts pair = {.size = sizeof pair, .link = "nothing"};

static vc_vm *pc(const char *backend)
{
    const struct vc_pc_opts opts = {.size = sizeof opts, .ram = RAM, .cpus = 1};
    struct vc_probe_info info = {.size = sizeof info};
    works(vc_probe(backend, &info));
    if (!info.usable)
        cr_skip_test("%s", info.reason);
    vc_vm *vm = vc_open(backend, NULL);
    cr_assert_not_null(vm, "%s", vc_errmsg());
    works(vc_pc(vm, &opts));
    return vm;
}

Test(api_disk, refused)
{
    vc_vm *vm = pc("pv");
    fails(vc_disk_add(NULL, &mine), VC_EINVAL);
    fails(vc_disk_add(vm, NULL), VC_EINVAL);
    struct vc_disk_opts o = {.size = sizeof o};
    fails(vc_disk_add(vm, &o), VC_EINVAL); /* neither */
    o = mine;
    o.path = "/dev/zero";
    fails(vc_disk_add(vm, &o), VC_EINVAL); /* both */
    o = mine;
    o.flags = 0;
    fails(vc_disk_add(vm, &o), VC_EINVAL); /* no write */
    o.flags = 1u << 31;
    fails(vc_disk_add(vm, &o), VC_EINVAL);
    o = mine;
    o.bytes = 513;
    fails(vc_disk_add(vm, &o), VC_ERANGE);
    o = (struct vc_disk_opts){.size = sizeof o, .path = "/nonexistent/disk"};
    fails(vc_disk_add(vm, &o), VC_ENOENT);
    o.path = "/tmp";
    fails(vc_disk_add(vm, &o), VC_EFORMAT);
    o.size = 3;
    fails(vc_disk_add(vm, &o), VC_EINVAL);

    fails(vc_net_add(NULL, &pair), VC_EINVAL);
    fails(vc_net_add(vm, NULL), VC_EINVAL);
    fails(vc_net_add(vm, &pair), VC_EINVAL); /* not a link */
    struct vc_net_opts n = {.size = sizeof n};
    fails(vc_net_add(vm, &n), VC_EINVAL);
    n.link = "user";
    n.mac[0] = 1;
    fails(vc_net_add(vm, &n), VC_EINVAL);
    cr_expect_eq(freed, 0); /* what was refused stays the caller's */
    vc_close(vm);
}

Test(api_disk, a_number_each_and_an_end)
{
    vc_vm *vm = pc("pv");
    for (int i = 0; i < 16; i++)
        cr_expect_eq(vc_disk_add(vm, &mine), i, "%s", vc_errmsg());
    fails(vc_disk_add(vm, &mine), VC_ELIMIT);
    cr_expect_eq(freed, 0);
    vc_close(vm);
    cr_expect_eq(freed, 16);
}

Test(api_disk, an_unmodified_guest_has_no_device)
{
    vc_vm *vm = pc("pv");
    cr_assert_not_null(vc_cpu_new(vm, VC_MODE_RESET, 0));
    works(vc_disk_add(vm, &mine));
    const struct vc_boot_opts boot = {
        .size = sizeof boot, .kind = VC_IMAGE_FLAT, .kernel = "\xf4", .kernel_len = 1};
    fails(vc_boot(vm, &boot), VC_ENOTSUP);
    vc_close(vm);
}

Test(api_disk, where_there_are_none)
{
    vc_vm *vm = pc("emu");
    fails(vc_disk_add(vm, &mine), VC_ENOTSUP);
    fails(vc_net_add(vm, &pair), VC_ENOTSUP);
    vc_close(vm);
    vm = vc_open("pv", NULL);
    if (vm) {
        fails(vc_disk_add(vm, &mine), VC_ESTATE);
        fails(vc_net_add(vm, &pair), VC_ESTATE);
    }
    vc_close(vm);
}
