/* SPDX-License-Identifier: MIT */
#include "node.h"
#include <errno.h>
#include <string.h>
#include <xen/io/xs_wire.h>

int tree_init(struct xs_tree *t, const uint16_t *doms, uint64_t *gen)
{
    *t = (struct xs_tree){.root = node_new("", 0), .doms = doms, .gen = gen};
    if (!t->root)
        return ENOMEM;
    t->root->nperms = 1; /* domain 0's; others may not look */
    t->root->gen = t->root->kids_gen = ++*gen;
    return 0;
}

struct xs_tree tree_hold(const struct xs_tree *t)
{
    t->root->refs++;
    return *t;
}

void tree_drop(struct xs_tree *t)
{
    node_drop(t->root);
    t->root = NULL;
}

/* ---- paths -------------------------------------------------------------------- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '@';
}

bool path_valid(const char *path)
{
    if (path[0] != '/')
        return false;
    if (!path[1])
        return true;
    unsigned depth = 0;
    size_t i = 0;
    for (; path[i]; i++) {
        if (i >= XENSTORE_ABS_PATH_MAX)
            return false;
        if (path[i] == '/' ? !name_char(path[i + 1]) || ++depth > XS_DEPTH_MAX
                           : !name_char(path[i]))
            return false;
    }
    return true;
}

/* The next component; false at the end. `*path` is behind it then. */
static bool next_name(const char **path, const char **name, size_t *len)
{
    const char *p = *path;
    while (*p == '/')
        p++;
    *name = p;
    while (*p && *p != '/')
        p++;
    *len = (size_t)(p - *name);
    *path = p;
    return *len > 0;
}

/* Follows the path as far as there are nodes; `*path` is the rest. */
static struct xs_node *deepest(const struct xs_tree *t, const char **path)
{
    struct xs_node *n = t->root;
    const char *p = *path, *name;
    size_t len;
    while (next_name(&p, &name, &len)) {
        struct xs_node **kid = node_kid(n, name, len);
        if (!kid)
            return n;
        n = *kid;
        *path = p;
    }
    *path = p;
    return n;
}

const struct xs_node *tree_find(const struct xs_tree *t, const char *path)
{
    const struct xs_node *n = deepest(t, &path);
    return *path ? NULL : n;
}

/* ---- permissions ---------------------------------------------------------------- */

bool node_allows(const struct xs_node *n, uint16_t domid, uint32_t bits)
{
    if (!domid || n->perms[0].domid == domid)
        return true;
    for (uint32_t i = 1; i < n->nperms; i++) {
        if (n->perms[i].domid == domid)
            return (n->perms[i].bits & bits) == bits;
    }
    return (n->perms[0].bits & bits) == bits;
}

/* ENOENT, or EACCES when who asks may not see what is missing there. */
static int missing(const struct xs_node *parent, uint16_t domid, uint32_t bits)
{
    return node_allows(parent, domid, bits) ? ENOENT : EACCES;
}

int tree_get(const struct xs_tree *t, uint16_t domid, const char *path, const struct xs_node **out)
{
    const struct xs_node *n = deepest(t, &path);
    if (*path)
        return missing(n, domid, XS_R);
    *out = n;
    return node_allows(n, domid, XS_R) ? 0 : EACCES;
}

/* ---- changes -------------------------------------------------------------------- */

static uint32_t *owned(struct xs_tree *t, uint16_t domid)
{
    for (unsigned i = 0; domid && i < XS_DOMAINS_MAX; i++) {
        if (t->doms[i] == domid)
            return &t->owned[i];
    }
    return NULL;
}

static void count(struct xs_tree *t, const struct xs_node *n, int by)
{
    uint32_t *c = owned(t, n->perms[0].domid);
    if (c)
        *c += (uint32_t)by;
    for (uint32_t i = 0; i < n->nkids; i++)
        count(t, n->kids[i], by);
}

void tree_recount(struct xs_tree *t)
{
    memset(t->owned, 0, sizeof t->owned);
    count(t, t->root, 1);
}

/* The reference to the node of a path that exists, with all above it nobody else's. */
static struct xs_node **own_path(struct xs_tree *t, const char *path, size_t path_len)
{
    struct xs_node **ref = &t->root;
    const char *p = path, *name;
    size_t len;
    while (node_own(ref)) {
        if (p >= path + path_len || !next_name(&p, &name, &len))
            return ref;
        ref = node_kid(*ref, name, len);
    }
    return NULL;
}

/* The nodes of a path that are missing below `parent`, the last with the value. */
static int grow(struct xs_tree *t, uint16_t domid, const struct xs_node *parent, const char *rest,
                const void *value, size_t len, struct xs_node **out)
{
    struct xs_node *top = NULL, *leaf = NULL;
    const char *name;
    size_t name_len;
    uint32_t made = 0;
    while (next_name(&rest, &name, &name_len)) {
        struct xs_node *n = node_new(name, name_len);
        if (!n || (leaf && !node_add(leaf, n))) {
            node_drop(n);
            node_drop(top);
            return ENOMEM;
        }
        /* The parent's permissions; a guest owns what it makes. */
        n->nperms = parent->nperms;
        memcpy(n->perms, parent->perms, sizeof n->perms);
        if (domid)
            n->perms[0].domid = domid;
        n->gen = n->kids_gen = ++*t->gen;
        top = top ? top : n;
        leaf = n;
        made++;
    }
    uint32_t *have = owned(t, leaf->perms[0].domid);
    int rc = domid && have && *have + made > XS_QUOTA_NODES ? ENOSPC
             : node_set(leaf, value, len)                   ? 0
                                                            : ENOMEM;
    if (rc) {
        node_drop(top);
        return rc;
    }
    *out = top;
    return 0;
}

static int make(struct xs_tree *t, uint16_t domid, const char *path, const char *rest,
                const struct xs_node *parent, const void *value, size_t len)
{
    struct xs_node *top;
    int rc = grow(t, domid, parent, rest, value, len, &top);
    if (rc)
        return rc;
    struct xs_node **ref = own_path(t, path, (size_t)(rest - path));
    if (!ref || !node_add(*ref, top)) {
        node_drop(top);
        return ENOMEM;
    }
    (*ref)->kids_gen = ++*t->gen;
    count(t, top, 1);
    return 0;
}

/* Of the node, or of what is above it when it is missing. */
static int writable(const struct xs_tree *t, uint16_t domid, const char *path, const char **rest,
                    const struct xs_node **n)
{
    *rest = path;
    *n = deepest(t, rest);
    return node_allows(*n, domid, XS_W) ? 0 : EACCES;
}

int tree_write(struct xs_tree *t, uint16_t domid, const char *path, const void *value, size_t len)
{
    const char *rest;
    const struct xs_node *n;
    int rc = writable(t, domid, path, &rest, &n);
    if (rc)
        return rc;
    if (len > (domid ? XS_QUOTA_VALUE : XENSTORE_PAYLOAD_MAX))
        return ENOSPC;
    if (*rest)
        return make(t, domid, path, rest, n, value, len);
    struct xs_node **ref = own_path(t, path, strlen(path));
    if (!ref || !node_set(*ref, value, len))
        return ENOMEM;
    (*ref)->gen = ++*t->gen;
    return 0;
}

int tree_mkdir(struct xs_tree *t, uint16_t domid, const char *path)
{
    const char *rest;
    const struct xs_node *n;
    int rc = writable(t, domid, path, &rest, &n);
    return rc || !*rest ? rc : make(t, domid, path, rest, n, NULL, 0);
}

int tree_rm(struct xs_tree *t, uint16_t domid, const char *path)
{
    const char *slash = strrchr(path, '/'), *rest;
    const struct xs_node *n;
    if (!slash[1])
        return EINVAL; /* the root */
    int rc = writable(t, domid, path, &rest, &n);
    if (*rest) /* what is not there need not be removed, if there is where it would be */
        return strrchr(rest, '/') == rest ? rc : missing(n, domid, XS_R);
    if (rc)
        return rc;
    struct xs_node **ref = own_path(t, path, (size_t)(slash - path));
    if (!ref)
        return ENOMEM;
    count(t, n, -1);
    node_del(*ref, node_kid(*ref, slash + 1, strlen(slash + 1)));
    (*ref)->kids_gen = ++*t->gen;
    return 0;
}

int tree_set_perms(struct xs_tree *t, uint16_t domid, const char *path, const struct xs_perm *perms,
                   uint32_t n)
{
    const char *rest;
    const struct xs_node *node;
    int rc = writable(t, domid, path, &rest, &node);
    if (*rest)
        return missing(node, domid, XS_R);
    /* The owner decides who may what; only domain 0, who owns it. */
    if (rc || (domid && node->perms[0].domid != domid))
        return EACCES;
    if (domid && perms[0].domid != domid)
        return EPERM;
    if (!n || n > XS_PERMS_MAX)
        return n ? ENOSPC : EINVAL;
    struct xs_node **ref = own_path(t, path, strlen(path));
    if (!ref)
        return ENOMEM;
    uint32_t *from = owned(t, (*ref)->perms[0].domid), *to = owned(t, perms[0].domid);
    if (from)
        --*from;
    if (to)
        ++*to;
    (*ref)->nperms = n;
    memcpy((*ref)->perms, perms, n * sizeof *perms);
    (*ref)->gen = ++*t->gen;
    return 0;
}
