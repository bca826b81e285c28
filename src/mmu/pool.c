/* SPDX-License-Identifier: MIT
 * Host memory that partitions share. */
#include "pool.h"
#include "../base/err.h"

static void count_users(struct vc_pool *pool, int by)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->users += (unsigned)by;
    pthread_mutex_unlock(&pool->lock);
}

void pool_join(struct vc_pool *pool)
{
    count_users(pool, 1);
}

void pool_leave(struct vc_pool *pool)
{
    count_users(pool, -1);
}

bool pool_take(struct vc_pool *pool, uint64_t bytes)
{
    if (!pool)
        return true;
    pthread_mutex_lock(&pool->lock);
    /* It may have been made smaller than what was taken. */
    bool room = pool->taken <= pool->bytes && bytes <= pool->bytes - pool->taken;
    if (room)
        pool->taken += bytes;
    pthread_mutex_unlock(&pool->lock);
    return room;
}

void pool_give(struct vc_pool *pool, uint64_t bytes)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->taken -= bytes;
    pthread_mutex_unlock(&pool->lock);
}

int pool_ask(struct vc_pool *pool, uint64_t bytes)
{
    if (pool_take(pool, bytes))
        return 0;
    pthread_mutex_lock(&pool->lock);
    unsigned long long all = pool->bytes, taken = pool->taken;
    pthread_mutex_unlock(&pool->lock);
    return err_set(VC_ELIMIT,
                   "%llu bytes of RAM are asked for, and of the pool's %llu are %llu taken: let a "
                   "guest give some back (vc_balloon_target), or vc_pool_resize() it",
                   (unsigned long long)bytes, all, taken);
}
