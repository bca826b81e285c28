/* SPDX-License-Identifier: MIT
 * Single nodes of the tree: making, sharing, children. */
#ifndef PV_XENSTORE_NODE_H
#define PV_XENSTORE_NODE_H

#include "tree.h"

/* NULL: no memory. The name needs no terminator. */
struct xs_node *node_new(const char *name, size_t name_len);
void node_drop(struct xs_node *n);
/* Makes the node behind the reference nobody else's; false: no memory, no change. */
bool node_own(struct xs_node **ref);

/* The reference to a child; NULL: none. */
struct xs_node **node_kid(const struct xs_node *n, const char *name, size_t len);
/* Adds a child that is not there yet, whose reference it takes; false: no memory. */
bool node_add(struct xs_node *n, struct xs_node *kid);
void node_del(struct xs_node *n, struct xs_node **kid);
/* Replaces the value; false: no memory, no change. */
bool node_set(struct xs_node *n, const void *value, size_t len);

#endif
