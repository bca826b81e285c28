/* SPDX-License-Identifier: MIT
 * grub.cfg, line by line. */
#include "grubcfg.h"
#include "../base/util.h"
#include <stdio.h>

#define LINE_MAX_LEN 4096u

/* The next word of a line, without its quotes; a backslash takes the next character as it is.
 * false: there is none. */
static bool word(const char **at, char *out, size_t room)
{
    const char *p = *at + strspn(*at, " \t");
    char quote = 0;
    size_t n = 0;
    bool any = false;
    for (; *p && (quote || !strchr(" \t;{}", *p)); p++) {
        any = true;
        if (!quote && (*p == '\'' || *p == '"')) {
            quote = *p;
            continue;
        }
        if (*p == quote) {
            quote = 0;
            continue;
        }
        if (*p == '\\' && quote != '\'' && p[1])
            p++;
        if (n < room - 1)
            out[n++] = *p;
    }
    out[n] = 0;
    *at = p;
    return any;
}

static bool is_one_of(const char *s, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(s, *list))
            return true;
    return false;
}

/* "(hd0,msdos1)/boot/vmlinuz" */
static void take_path(struct grub_kernel *k, const char *path)
{
    const char *end = path[0] == '(' ? strchr(path, ')') : NULL;
    if (end) {
        snprintf(k->device, sizeof k->device, "%.*s", (int)(end - path - 1), path + 1);
        path = end + 1;
    }
    snprintf(k->path, sizeof k->path, "%.255s", path);
    k->computed = strchr(path, '$') != NULL || path[0] != '/';
}

static void take_line(const char *line, char *title, size_t title_room, struct grubcfg *cfg)
{
    static const char *const linux_words[] = {"linux",     "linux16",    "linuxefi",
                                              "multiboot", "multiboot2", NULL};
    static const char *const initrd_words[] = {"initrd", "initrd16", "initrdefi", NULL};
    char w[512];
    if (!word(&line, w, sizeof w) || w[0] == '#')
        return;
    if (!strcmp(w, "menuentry")) {
        if (word(&line, w, sizeof w))
            snprintf(title, title_room, "%.90s", w);
    } else if (is_one_of(w, linux_words)) {
        if (cfg->n == GRUB_KERNELS_MAX || !word(&line, w, sizeof w))
            return;
        struct grub_kernel *k = &cfg->kernel[cfg->n++];
        *k = (struct grub_kernel){0};
        snprintf(k->title, sizeof k->title, "%s", title);
        take_path(k, w);
        snprintf(k->params, sizeof k->params, "%s", line + strspn(line, " \t"));
    } else if (is_one_of(w, initrd_words)) {
        if (cfg->n && word(&line, w, sizeof w) && !*cfg->kernel[cfg->n - 1].initrd)
            snprintf(cfg->kernel[cfg->n - 1].initrd, sizeof cfg->kernel->initrd, "%.250s", w);
    }
}

void grubcfg_parse(const uint8_t *text, size_t len, struct grubcfg *cfg)
{
    char line[LINE_MAX_LEN], title[96] = "";
    size_t n = 0;
    cfg->n = 0;
    for (size_t i = 0; i <= len; i++) {
        uint8_t c = i < len ? text[i] : '\n';
        if (c == '\n' || c == '\r' || !c) {
            line[n] = 0;
            take_line(line, title, sizeof title, cfg);
            n = 0;
        } else if (n < sizeof line - 1) {
            line[n++] = (char)c;
        }
    }
}
