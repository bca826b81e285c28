/* SPDX-License-Identifier: MIT
 * minivm's command line. */
#include "options.h"
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virtcore/pc.h>
#include <virtcore/vm.h>

void options_help(void)
{
    puts("Usage: minivm run --kernel FILE [OPTION]...   boot a kernel\n"
         "       minivm run [OPTION]... PROGRAM         run an ELF or flat program\n"
         "       minivm inspect FILE                    which kinds of guest a kernel or a\n"
         "                                              disk image can be, and why\n"
         "       minivm probe                           what each backend can do here\n"
         "\n"
         "  -k, --kernel FILE    bzImage, ELF with a PVH note, or multiboot kernel\n"
         "  -i, --initrd FILE    initial RAM disk, or multiboot module\n"
         "  -a, --append STRING  kernel command line (bzImage: \"console=ttyS0\", pv\n"
         "                       \"console=hvc0\", unless given; panic=-1 is added\n"
         "                       unless it has a panic=)\n"
         "  -f, --flat           PROGRAM is raw 64-bit code, loaded at 0x100000\n"
         "  -m, --memory SIZE    RAM: 512M, 2G; a plain number is in MiB (default 512M)\n"
         "  -c, --cpus N         virtual CPUs (default 1)\n"
         "  -b, --backend NAME   auto, kvm, emu or pv (default auto)\n"
         "      --boot pvgrub    start Debian's PV-GRUB (package grub-xen-host, or --kernel\n"
         "                       FILE) as a PV guest: it boots what the disk's grub.cfg says\n"
         "      --virt KIND      hvm, or a guest of Xen's: pv (default with -b pv), pvh\n"
         "      --irqchip WHERE  interrupt controllers: auto, kernel, user, or split:\n"
         "                       local APICs in the kernel (default auto)\n"
         "      --disk FILE[,ro] a raw image as the next disk (xvda...; pv guests)\n"
         "      --net LINK       a network link (eth0...; pv guests): user[,hostfwd=...],\n"
         "                       tap,ifname=NAME, stream,path=P, dgram,local=P,remote=P\n"
         "  -e, --engine NAME    how emu runs code: auto, interp, jit or lockstep (default auto)\n"
         "      --lockstep       -e lockstep: both, compared; ends at the first difference\n"
         "      --perf-map       name translated code for Linux' perf: /tmp/perf-PID.map\n"
         "      --symbols FILE   the same, with the names of the guest's System.map\n"
         "  -t, --timeout S      end the run after S seconds\n"
         "      --testdev        attach the test devices of kvm-unit-tests\n"
         "  -s, --stats          say at the end what the engine did\n"
         "  -v, --verbose        print the library's log\n"
         "  -h, --help           this text\n"
         "  -V, --version        the version\n"
         "\n"
         "The guest's first serial port is stdin and stdout. On a terminal, Ctrl-A x ends\n"
         "minivm, Ctrl-A h says what else there is.\n"
         "\n"
         "Exit status: 0 the guest powered off, 1 minivm or the engine failed, 2 wrong usage,\n"
         "3 the guest rebooted, 4 its kernel panicked, 5 triple fault, 124 timeout, 130 ended\n"
         "by Ctrl-A x, 128+N by signal N; a guest that writes V to the exit port 0xf4 ends\n"
         "with 2V+1. inspect: 0 it can be a guest of some kind, 6 it cannot or that is not\n"
         "known, 1 it cannot be read.");
}

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "minivm: %s%s%s\n", what, value ? ": " : "", value ? value : "");
    fputs("Try 'minivm --help'.\n", stderr);
    return STATUS_USAGE;
}

/* "512M", "2G", "1048576K"; a plain number counts MiB. */
static bool parse_size(const char *s, uint64_t *size)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    unsigned shift = 20;
    if (end == s || *s == '-' || errno)
        return false;
    switch (*end) {
    case 'k':
    case 'K': shift = 10; break;
    case 'm':
    case 'M':
    case '\0': shift = 20; break;
    case 'g':
    case 'G': shift = 30; break;
    default: return false;
    }
    if ((*end && end[1]) || n > (UINT64_MAX >> shift))
        return false;
    *size = (uint64_t)n << shift;
    return true;
}

static bool parse_count(const char *s, unsigned *count)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(s, &end, 10);
    if (end == s || *end || *s == '-' || errno || n < 1 || n > 4096)
        return false;
    *count = (unsigned)n;
    return true;
}

static bool parse_seconds(const char *s, double *seconds)
{
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end || !isfinite(v) || v <= 0 || v > 1e9)
        return false;
    *seconds = v;
    return true;
}

static bool parse_engine(const char *text, unsigned *engine)
{
    static const char *const names[] = {"auto", "interp", "jit", "lockstep"}; /* enum vc_engine */
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i])) {
            *engine = i;
            return true;
        }
    return false;
}

static bool parse_virt(const char *text, int *virt)
{
    static const char *const names[] = {"hvm", "pv", "pvh"}; /* enum vc_virt */
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (!strcmp(text, names[i])) {
            *virt = i;
            return true;
        }
    return false;
}

/* The names are in the order of enum vc_irqchip. */
static bool parse_irqchip(const char *text, unsigned *irqchip)
{
    static const char *const names[] = {"auto", "kernel", "user", "split"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i])) {
            *irqchip = i;
            return true;
        }
    return false;
}

enum {
    OPT_VIRT = 255,
    OPT_BOOT,
    OPT_DISK,
    OPT_NET,
    OPT_IRQCHIP,
    OPT_TESTDEV,
    OPT_LOCKSTEP,
    OPT_PERF_MAP,
    OPT_SYMBOLS
};

static const struct option long_options[] = {
    {"kernel", required_argument, NULL, 'k'},
    {"initrd", required_argument, NULL, 'i'},
    {"append", required_argument, NULL, 'a'},
    {"flat", no_argument, NULL, 'f'},
    {"memory", required_argument, NULL, 'm'},
    {"cpus", required_argument, NULL, 'c'},
    {"backend", required_argument, NULL, 'b'},
    {"timeout", required_argument, NULL, 't'},
    {"engine", required_argument, NULL, 'e'},
    {"lockstep", no_argument, NULL, OPT_LOCKSTEP},
    {"virt", required_argument, NULL, OPT_VIRT},
    {"boot", required_argument, NULL, OPT_BOOT},
    {"irqchip", required_argument, NULL, OPT_IRQCHIP},
    {"disk", required_argument, NULL, OPT_DISK},
    {"net", required_argument, NULL, OPT_NET},
    {"perf-map", no_argument, NULL, OPT_PERF_MAP},
    {"symbols", required_argument, NULL, OPT_SYMBOLS},
    {"testdev", no_argument, NULL, OPT_TESTDEV},
    {"stats", no_argument, NULL, 's'},
    {"verbose", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

static int parse_option(struct options *o, int c)
{
    switch (c) {
    case 'k': o->image = optarg; return 0;
    case 'i': o->initrd = optarg; return 0;
    case 'a': o->append = optarg; return 0;
    case 'b': o->backend = optarg; return 0;
    case 'e': return parse_engine(optarg, &o->engine) ? 0 : wrong("not an engine", optarg);
    case 'f': o->flat = true; return 0;
    case 's': o->stats = true; return 0;
    case 'v': o->verbose = true; return 0;
    case OPT_LOCKSTEP: o->engine = VC_ENGINE_LOCKSTEP; return 0;
    case OPT_PERF_MAP: o->perf_map = true; return 0;
    case OPT_SYMBOLS: o->symbols = optarg, o->perf_map = true; return 0;
    case OPT_VIRT: return parse_virt(optarg, &o->virt) ? 0 : wrong("not a kind of guest", optarg);
    case OPT_BOOT:
        o->pvgrub = !strcmp(optarg, "pvgrub");
        return o->pvgrub ? 0 : wrong("not a boot loader", optarg);
    case OPT_IRQCHIP: return parse_irqchip(optarg, &o->irqchip) ? 0 : wrong("not a place", optarg);
    case OPT_TESTDEV: o->testdev = true; return 0;
    case OPT_DISK:
        if (o->ndisks == DISKS_MAX)
            return wrong("one disk too many", optarg);
        o->disk[o->ndisks++] = optarg;
        return 0;
    case OPT_NET:
        if (o->nlinks == LINKS_MAX)
            return wrong("one network link too many", optarg);
        o->link[o->nlinks++] = optarg;
        return 0;
    case 'h': o->command = COMMAND_HELP; return 0;
    case 'V': o->command = COMMAND_VERSION; return 0;
    case 'm': return parse_size(optarg, &o->ram) ? 0 : wrong("not a size", optarg);
    case 'c': return parse_count(optarg, &o->cpus) ? 0 : wrong("not a number of CPUs", optarg);
    case 't': return parse_seconds(optarg, &o->timeout) ? 0 : wrong("not a time", optarg);
    default: fputs("Try 'minivm --help'.\n", stderr); return STATUS_USAGE;
    }
}

/* Where Debian's package grub-xen-host has the images for 64-bit PV and for PVH guests. */
#define PVGRUB_PATH  "/usr/lib/grub-xen/grub-x86_64-xen.bin"
#define PVHGRUB_PATH "/usr/lib/grub-xen/grub-i386-xen_pvh.bin"

/* --boot pvgrub: a boot loader that is a PV or PVH guest's kernel, and has all else from a
 * disk. */
static int take_pvgrub(struct options *o)
{
    if (o->virt == VC_VIRT_HVM)
        return wrong("--boot pvgrub is a PV or PVH guest, --virt says another", NULL);
    if (o->initrd || o->flat)
        return wrong("--boot pvgrub has its kernel and initrd from a disk", NULL);
    if (!o->ndisks)
        return wrong("--boot pvgrub needs a --disk", NULL);
    if (o->virt < 0)
        o->virt = VC_VIRT_PV;
    if (!o->image)
        o->image = o->virt == VC_VIRT_PV ? PVGRUB_PATH : PVHGRUB_PATH;
    return 0;
}

int options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.backend = "auto", .ram = 512u << 20, .cpus = 1, .virt = -1};
    argv[0] = "minivm"; /* what getopt's messages begin with */
    int c, rc = 0;
    while (!rc && (c = getopt_long(argc, argv, "k:i:a:fm:c:b:e:t:svhV", long_options, NULL)) != -1)
        rc = parse_option(o, c);
    if (rc || o->command == COMMAND_HELP || o->command == COMMAND_VERSION)
        return rc;

    const char *command = optind < argc ? argv[optind++] : NULL;
    if (!command)
        return wrong("a command is missing: run, inspect or probe", NULL);
    if (!strcmp(command, "help"))
        o->command = COMMAND_HELP;
    else if (!strcmp(command, "probe"))
        o->command = COMMAND_PROBE;
    else if (!strcmp(command, "inspect"))
        o->command = COMMAND_INSPECT;
    else if (strcmp(command, "run") != 0)
        return wrong("there is no such command", command);

    if (o->command == COMMAND_INSPECT && o->image)
        return wrong("inspect has no options, only a FILE", NULL);
    bool takes_file = o->command == COMMAND_RUN || o->command == COMMAND_INSPECT;
    if (takes_file && optind < argc && !o->image)
        o->image = argv[optind++];
    if (optind < argc)
        return wrong("one argument too many", argv[optind]);
    if (o->pvgrub && o->command == COMMAND_RUN && (rc = take_pvgrub(o)))
        return rc;
    if (o->virt > VC_VIRT_HVM && !strcmp(o->backend, "auto"))
        o->backend = "pv";
    if (o->virt < 0) /* backend pv is for PV guests, but raw code is none */
        o->virt = !strncmp(o->backend, "pv", 2) && !o->flat ? VC_VIRT_PV : VC_VIRT_HVM;
    if (o->command == COMMAND_INSPECT && !o->image)
        return wrong("what shall be looked at? FILE is missing", NULL);
    if (o->command == COMMAND_RUN && !o->image)
        return wrong("what shall run? --kernel FILE or PROGRAM is missing", NULL);
    return 0;
}
