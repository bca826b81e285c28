/* SPDX-License-Identifier: MIT
 * The public calls on a partition's xenstore. */
#include "vm.h"
#include "../base/err.h"
#include <virtcore/xenstore.h>

#ifdef HAVE_XEN

#include "../pv/xenstore/xenstore.h"
#include <errno.h>

struct xs *vm_xs(struct vc_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    if (!vm->xs)
        vm->xs = xs_new();
    struct xs *xs = vm->xs;
    pthread_mutex_unlock(&vm->lock);
    if (!xs)
        err_set(VC_ENOMEM, "no memory for a xenstore");
    return xs;
}

void vm_xs_free(struct vc_vm *vm)
{
    xs_free(vm->xs);
    vm->xs = NULL;
}

/* What every call begins with. */
static int begin(vc_vm *vm, const char *path, struct xs **xs)
{
    if (!vm || !path)
        return err_null(vm ? "path" : "vm");
    err_begin();
    *xs = vm_xs(vm);
    return *xs ? 0 : VC_ENOMEM;
}

static int failed(int err, const char *path)
{
    switch (err) {
    case 0: return 0;
    case EINVAL: return err_set(VC_EINVAL, "\"%.100s\" is not a path in a xenstore", path);
    case ENOENT: return err_set(VC_ENOENT, "there is no \"%.100s\" in the xenstore", path);
    case ENOSPC: return err_set(VC_ERANGE, "too much for \"%.100s\" in a xenstore", path);
    default: return err_set(VC_ENOMEM, "no memory for \"%.100s\" in the xenstore", path);
    }
}

int vc_xs_read(vc_vm *vm, const char *path, void *buf, size_t cap, size_t *len)
{
    struct xs *xs;
    size_t n;
    int rc = begin(vm, path, &xs);
    if (rc)
        return rc;
    if (cap && !buf)
        return err_null("buf");
    rc = xs_read(xs, path, buf, cap, &n);
    if (!rc && len)
        *len = n;
    return failed(rc, path);
}

int vc_xs_list(vc_vm *vm, const char *path, char *buf, size_t cap, size_t *len)
{
    struct xs *xs;
    size_t n;
    int rc = begin(vm, path, &xs);
    if (rc)
        return rc;
    if (cap && !buf)
        return err_null("buf");
    rc = xs_list(xs, path, buf, cap, &n);
    if (!rc && len)
        *len = n;
    return failed(rc, path);
}

int vc_xs_write(vc_vm *vm, const char *path, const void *value, size_t len)
{
    struct xs *xs;
    int rc = begin(vm, path, &xs);
    if (rc)
        return rc;
    if (len && !value)
        return err_null("value");
    return failed(xs_write(xs, path, value, len), path);
}

int vc_xs_rm(vc_vm *vm, const char *path)
{
    struct xs *xs;
    int rc = begin(vm, path, &xs);
    return rc ? rc : failed(xs_rm(xs, path), path);
}

/* "n0 r1": false when it is not of that kind. */
static bool parse_perms(const char *s, struct xs_perm *perms, uint32_t *n)
{
    static const char letters[] = "nrwb"; /* by their bits */
    _Static_assert(XS_R == 1 && XS_W == 2, "the letters' order");
    for (*n = 0; *s; ++*n) {
        const char *letter = strchr(letters, *s);
        unsigned domid = 0, digits = 0;
        for (s++; *s >= '0' && *s <= '9' && digits < 6; s++, digits++)
            domid = domid * 10 + (unsigned)(*s - '0');
        if (!letter || !digits || domid >= XS_DOMID_NONE || (*s && *s != ' ') || *n == XS_PERMS_MAX)
            return false;
        perms[*n] = (struct xs_perm){(uint16_t)domid, (uint8_t)(letter - letters)};
        while (*s == ' ')
            s++;
    }
    return *n > 0;
}

int vc_xs_perms(vc_vm *vm, const char *path, const char *perms)
{
    struct xs *xs;
    struct xs_perm list[XS_PERMS_MAX];
    uint32_t n;
    int rc = begin(vm, path, &xs);
    if (rc)
        return rc;
    if (!perms)
        return err_null("perms");
    if (!parse_perms(perms, list, &n))
        return err_set(VC_EINVAL,
                       "permissions are up to %u of n, r, w or b and a domain: \"n0 r1\"",
                       XS_PERMS_MAX);
    return failed(xs_set_perms(xs, path, list, n), path);
}

int vc_xs_watch(vc_vm *vm, const char *path, vc_xs_watch_fn *fn, void *ud)
{
    struct xs *xs;
    int rc = begin(vm, path, &xs);
    if (rc)
        return rc;
    if (!fn)
        return err_null("fn");
    int id = xs_watch(xs, path, fn, ud);
    return id > 0 ? id : failed(-id, path);
}

int vc_xs_unwatch(vc_vm *vm, int id)
{
    struct xs *xs;
    int rc = begin(vm, "", &xs);
    if (rc)
        return rc;
    return xs_unwatch(xs, id) ? err_set(VC_ENOENT, "no watch has the id %d", id) : 0;
}

#else

static int none(vc_vm *vm)
{
    if (!vm)
        return err_null("vm");
    err_begin();
    return err_set(VC_ENOTSUP, "this library was built without Xen's headers: it has no xenstore");
}

void vm_xs_free(struct vc_vm *vm)
{
    (void)vm;
}

int vc_xs_read(vc_vm *vm, const char *path, void *buf, size_t cap, size_t *len)
{
    (void)path, (void)buf, (void)cap, (void)len;
    return none(vm);
}

int vc_xs_list(vc_vm *vm, const char *path, char *buf, size_t cap, size_t *len)
{
    (void)path, (void)buf, (void)cap, (void)len;
    return none(vm);
}

int vc_xs_write(vc_vm *vm, const char *path, const void *value, size_t len)
{
    (void)path, (void)value, (void)len;
    return none(vm);
}

int vc_xs_rm(vc_vm *vm, const char *path)
{
    (void)path;
    return none(vm);
}

int vc_xs_perms(vc_vm *vm, const char *path, const char *perms)
{
    (void)path, (void)perms;
    return none(vm);
}

int vc_xs_watch(vc_vm *vm, const char *path, vc_xs_watch_fn *fn, void *ud)
{
    (void)path, (void)fn, (void)ud;
    return none(vm);
}

int vc_xs_unwatch(vc_vm *vm, int id)
{
    (void)id;
    return none(vm);
}

#endif
