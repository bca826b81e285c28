/* SPDX-License-Identifier: MIT
 * Xenstore's tree: nodes with a value, permissions and children.
 *
 * Nodes are shared by the tree and the snapshots of open transactions; a change copies
 * what is shared on its path and nothing else. So a snapshot costs one reference, and
 * a change that fails in the middle is undone by dropping it.
 *
 * All functions that can fail return 0 or one of the protocol's errors (xs_wire.h), as
 * the host's errno number. */
#ifndef PV_XENSTORE_TREE_H
#define PV_XENSTORE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XS_R 1u
#define XS_W 2u

struct xs_perm {
    uint16_t domid;
    uint8_t bits; /* of XS_R, XS_W */
};

/* What a guest may own or do; domain 0 is the embedder and is not limited, except by
 * the protocol's own limits. */
#define XS_QUOTA_NODES     1000u /* nodes that it owns */
#define XS_QUOTA_VALUE     2048u /* bytes of a value */
#define XS_QUOTA_WATCHES   128u
#define XS_QUOTA_TXNS      10u   /* open at once */
#define XS_QUOTA_TXN_OPS   1024u /* reads and changes in one transaction */
#define XS_QUOTA_TXN_BYTES 262144u
#define XS_PERMS_MAX       8u   /* of a node */
#define XS_DEPTH_MAX       128u /* components of a path: bounds recursion */
#define XS_DOMAINS_MAX     16u
#define XS_DOMID_NONE      0x7ff0u /* DOMID_FIRST_RESERVED and above are no domains */

struct xs_node {
    uint32_t refs;
    uint32_t nkids, kids_cap, value_len;
    struct xs_node **kids; /* sorted by name */
    uint8_t *value;
    uint64_t gen;      /* changes with the value, the permissions, the node's making */
    uint64_t kids_gen; /* changes when a child comes or goes */
    uint32_t nperms;
    struct xs_perm perms[XS_PERMS_MAX]; /* the first: owner, and what all others may */
    char name[];
};

struct xs_tree {
    struct xs_node *root;
    uint32_t owned[XS_DOMAINS_MAX]; /* nodes, by the domain's place in `doms` */
    const uint16_t *doms;           /* XS_DOMID_NONE: free */
    uint64_t *gen;                  /* the last generation given out */
};

int tree_init(struct xs_tree *t, const uint16_t *doms, uint64_t *gen);
/* Another reference to the same nodes, and its end. */
struct xs_tree tree_hold(const struct xs_tree *t);
void tree_drop(struct xs_tree *t);

/* A path is absolute and valid: path_valid(). */
bool path_valid(const char *path);
const struct xs_node *tree_find(const struct xs_tree *t, const char *path);
bool node_allows(const struct xs_node *n, uint16_t domid, uint32_t bits);
/* The node, if domid may read it; else ENOENT, or EACCES where it may not even know. */
int tree_get(const struct xs_tree *t, uint16_t domid, const char *path, const struct xs_node **out);

/* Changes, as domid. Parents that are missing are made. */
int tree_write(struct xs_tree *t, uint16_t domid, const char *path, const void *value, size_t len);
int tree_mkdir(struct xs_tree *t, uint16_t domid, const char *path);
int tree_rm(struct xs_tree *t, uint16_t domid, const char *path);
int tree_set_perms(struct xs_tree *t, uint16_t domid, const char *path, const struct xs_perm *perms,
                   uint32_t n);
/* Counts anew what each domain owns. */
void tree_recount(struct xs_tree *t);

#endif
