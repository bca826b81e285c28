/* SPDX-License-Identifier: MIT
 * guest_function GUEST [BACKEND]: loads a static ELF program into a partition, calls its
 * functions by name, and answers its calls. */
#include <stdio.h>
#include <stdlib.h>
#include <virtcore/virtcore.h>

static const char *image;
static size_t image_len;

static int read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *bytes = n > 0 ? malloc((size_t)n) : NULL;
    image_len = bytes ? fread(bytes, 1, (size_t)n, f) : 0;
    image = bytes;
    fclose(f);
    return image_len ? 0 : -1;
}

/* What the guest may call: plain C functions. */
static int64_t say(const void *text, size_t len)
{
    printf("the guest says: %.*s\n", (int)len, (const char *)text);
    return (int64_t)len;
}
static uint32_t is_prime(uint32_t n)
{
    for (uint32_t i = 2; i * i <= n; i++)
        if (n % i == 0)
            return 0;
    return n > 1;
}

static int call(vc_cpu *cpu, const char *name, const char *signature, struct vc_value *args,
                unsigned nargs, struct vc_value *result)
{
    uint64_t address;
    int rc = vc_elf_symbol(image, image_len, name, &address);
    return rc ? rc : vc_call(cpu, address, signature, args, nargs, result, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2 || read_file(argv[1])) {
        fprintf(stderr, "usage: guest_function GUEST [BACKEND]\n");
        return 2;
    }
    vc_vm *vm = vc_open(argc > 2 ? argv[2] : "auto", NULL);
    uint64_t entry = 0;
    vc_map(vm, 0x200000, 0x200000, VC_MEM_RWX);
    int rc = vc_elf_load(vm, image, image_len, &entry);
    vc_cpu *cpu = vc_cpu_new(vm, VC_MODE_LONG64, entry);
    if (!rc)
        rc = vc_reg_set(cpu, VC_REG_RSP, 0x400000);
    if (!rc)
        rc = vc_hcall(vm, 1, "i64(cbuf)", VC_FN(say), NULL);
    if (!rc)
        rc = vc_hcall(vm, 2, "u32(u32)", VC_FN(is_prime), NULL);

    double numbers[] = {1, 2, 3, 10};
    struct vc_value result, array = {.v.p = numbers, .len = sizeof numbers};
    struct vc_value name = {.v.p = "inside"}, below = {.v.u = 100};
    if (!rc)
        rc = call(cpu, "mean", "f64(cbuf)", &array, 1, &result);
    if (!rc)
        printf("mean %.2f\n", result.v.f);
    if (!rc)
        rc = call(cpu, "hello", "i64(cstr)", &name, 1, &result);
    if (!rc)
        rc = call(cpu, "count_primes", "u32(u32)", &below, 1, &result);
    if (!rc)
        printf("primes: %u\n", (unsigned)result.v.u);
    if (rc)
        fprintf(stderr, "guest_function: %s\n", vc_errmsg());
    else if (call(cpu, "crash", "i64()", NULL, 0, &result))
        printf("crash: %s\n", vc_errmsg());
    vc_close(vm);
    free((void *)image);
    return rc != 0;
}
