/* SPDX-License-Identifier: MIT
 * Host memory that partitions share: how much of it they took. Any thread. */
#ifndef MMU_POOL_H
#define MMU_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct vc_pool {
    pthread_mutex_t lock;
    uint64_t bytes, taken;
    unsigned users;
};

/* A partition belongs to it. */
void pool_join(struct vc_pool *pool);
void pool_leave(struct vc_pool *pool);
/* NULL for a pool, here and below: there is always room. */
bool pool_take(struct vc_pool *pool, uint64_t bytes);
void pool_give(struct vc_pool *pool, uint64_t bytes);
/* The same with the error set: VC_ELIMIT. */
int pool_ask(struct vc_pool *pool, uint64_t bytes);

#endif
