/* SPDX-License-Identifier: MIT */
#include "node.h"
#include <stdlib.h>
#include <string.h>

struct xs_node *node_new(const char *name, size_t name_len)
{
    struct xs_node *n = calloc(1, sizeof *n + name_len + 1);
    if (!n)
        return NULL;
    n->refs = 1;
    memcpy(n->name, name, name_len);
    return n;
}

/* Recursion is as deep as paths may be: XS_DEPTH_MAX. */
void node_drop(struct xs_node *n)
{
    if (!n || --n->refs)
        return;
    for (uint32_t i = 0; i < n->nkids; i++)
        node_drop(n->kids[i]);
    free(n->kids);
    free(n->value);
    free(n);
}

bool node_set(struct xs_node *n, const void *value, size_t len)
{
    uint8_t *copy = NULL;
    if (len) {
        copy = malloc(len);
        if (!copy)
            return false;
        memcpy(copy, value, len);
    }
    free(n->value);
    n->value = copy;
    n->value_len = (uint32_t)len;
    return true;
}

static bool kids_reserve(struct xs_node *n, uint32_t want)
{
    if (want <= n->kids_cap)
        return true;
    uint32_t cap = n->kids_cap ? n->kids_cap * 2 : 4;
    if (cap < want)
        cap = want;
    struct xs_node **kids = realloc(n->kids, cap * sizeof *kids);
    if (!kids)
        return false;
    n->kids = kids;
    n->kids_cap = cap;
    return true;
}

bool node_own(struct xs_node **ref)
{
    struct xs_node *old = *ref;
    if (old->refs == 1)
        return true;
    struct xs_node *n = node_new(old->name, strlen(old->name));
    if (!n)
        return false;
    if (!node_set(n, old->value, old->value_len) || !kids_reserve(n, old->nkids)) {
        node_drop(n);
        return false;
    }
    n->gen = old->gen;
    n->kids_gen = old->kids_gen;
    n->nperms = old->nperms;
    memcpy(n->perms, old->perms, sizeof n->perms);
    for (; n->nkids < old->nkids; n->nkids++) {
        n->kids[n->nkids] = old->kids[n->nkids];
        n->kids[n->nkids]->refs++;
    }
    old->refs--;
    *ref = n;
    return true;
}

/* Names are compared as strings, though one of the two has no terminator. */
static int name_cmp(const char *name, size_t len, const char *kid)
{
    int d = strncmp(name, kid, len);
    return d ? d : kid[len] ? -1 : 0;
}

/* Where the name is, or would be. */
static uint32_t kid_place(const struct xs_node *n, const char *name, size_t len, bool *found)
{
    uint32_t lo = 0, hi = n->nkids;
    *found = false;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int d = name_cmp(name, len, n->kids[mid]->name);
        if (!d) {
            *found = true;
            return mid;
        }
        if (d < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct xs_node **node_kid(const struct xs_node *n, const char *name, size_t len)
{
    bool found;
    uint32_t at = kid_place(n, name, len, &found);
    return found ? &n->kids[at] : NULL;
}

bool node_add(struct xs_node *n, struct xs_node *kid)
{
    if (!kids_reserve(n, n->nkids + 1))
        return false;
    bool found;
    uint32_t at = kid_place(n, kid->name, strlen(kid->name), &found);
    memmove(&n->kids[at + 1], &n->kids[at], (n->nkids - at) * sizeof *n->kids);
    n->kids[at] = kid;
    n->nkids++;
    return true;
}

void node_del(struct xs_node *n, struct xs_node **kid)
{
    size_t at = (size_t)(kid - n->kids);
    struct xs_node *gone = *kid;
    n->nkids--;
    memmove(&n->kids[at], &n->kids[at + 1], (n->nkids - at) * sizeof *n->kids);
    node_drop(gone);
}
