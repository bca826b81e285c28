/* SPDX-License-Identifier: MIT
 * minivm's command line. */
#ifndef MINIVM_OPTIONS_H
#define MINIVM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* How minivm ends. Each way has its own status, so that scripts need not read
 * the guest's output. */
enum status {
    STATUS_OFF = 0,      /* the guest powered off */
    STATUS_ERROR = 1,    /* the engine, an image or the host failed */
    STATUS_USAGE = 2,    /* the command line is wrong */
    STATUS_RESET = 3,    /* the guest rebooted */
    STATUS_PANIC = 4,    /* the guest's kernel panicked */
    STATUS_SHUTDOWN = 5, /* triple fault */
    STATUS_NONE = 6,     /* inspect: the image can be no kind of guest, as far as is known */
    STATUS_TIMEOUT = 124,
    STATUS_ESCAPE = 130, /* Ctrl-A x */
};

#define DISKS_MAX 16u
#define LINKS_MAX 8u

enum command { COMMAND_RUN, COMMAND_PROBE, COMMAND_INSPECT, COMMAND_HELP, COMMAND_VERSION };

struct options {
    enum command command;
    const char *backend;
    const char *image; /* --kernel, PROGRAM, or what to inspect */
    const char *initrd;
    const char *append;
    uint64_t ram;
    unsigned cpus;
    unsigned engine;     /* enum vc_engine */
    unsigned irqchip;    /* enum vc_irqchip */
    int virt;            /* enum vc_virt; -1: as the backend suggests */
    double timeout;      /* seconds; 0: none */
    const char *symbols; /* for perf */
    const char *disk[DISKS_MAX], *link[LINKS_MAX];
    unsigned ndisks, nlinks;
    bool flat, pvgrub, testdev, stats, verbose, perf_map;
};

/* Parses the command line. 0, or a status to end with; what is wrong was said. */
int options_parse(struct options *o, int argc, char **argv);
void options_help(void);

#endif
