/* SPDX-License-Identifier: MIT
 * The loaders on hostile images. The first byte picks the kind; then comes the
 * image, which serves as its own initrd. Whatever is accepted starts in RAM. */
#include "base/err.h"
#include "boot/boot.h"
#include <stdlib.h>
#include <string.h>
#include <virtcore/vm.h>

#define LOW  (32ull << 20)
#define HIGH (4ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mem mem;

static void open_guest(void)
{
    if (mem.base)
        return;
    if (mem_init(&mem, LOW + HIGH) || mem_add(&mem, 0, LOW, VC_MEM_RWX, NULL) ||
        mem_add(&mem, 1ull << 32, HIGH, VC_MEM_RWX, NULL))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    open_guest();
    struct boot_ram ram = {.low = LOW, .high = HIGH, .rsdp = 0xf0000};
    struct boot_state st;
    struct vc_boot_opts opts = {
        .size = sizeof opts,
        .kind = data[0] % (VC_IMAGE_FLAT + 1),
        .kernel = data + 1,
        .kernel_len = size - 1,
        .initrd = data[0] & 0x80 ? data : NULL,
        .initrd_len = data[0] & 0x80 ? size : 0,
        .cmdline = data[0] & 0x40 ? "console=ttyS0" : NULL,
    };
    err_begin();
    int rc = boot_load(&mem, &ram, &opts, &st);
    if (rc != vc_errcode() || (rc != 0) != (vc_errmsg()[0] != 0))
        abort();
    if (!rc && !mem_ptr(&mem, st.gprs.rip, 1))
        abort();
    return 0;
}
