/* SPDX-License-Identifier: MIT
 *
 * virtcore/base.h - what every call shares: error codes, messages, the log.
 *
 * Every function that can fail returns a negative VC_E* code, or NULL where it
 * returns a handle. The sentence that says what was wrong and what to do is
 * read with vc_errmsg() on the same thread.
 *
 * Every options or result structure starts with `size`, which the caller sets
 * to sizeof the structure it was compiled with; fields that a caller's older
 * structure does not have take their defaults. A size of 0 is refused.
 */
#ifndef VIRTCORE_BASE_H
#define VIRTCORE_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(VC_BUILD)
#define VC_API __attribute__((visibility("default")))
#else
#define VC_API
#endif

#define VC_VERSION_MAJOR 0
#define VC_VERSION_MINOR 1
#define VC_VERSION_PATCH 0

/* Error codes. Stable: a code never changes its meaning or its number. */
#define VC_EINVAL (-1)    /* an argument is wrong, or a handle is NULL */
#define VC_ENOMEM (-2)    /* the host has no memory (or address space) left */
#define VC_ENOTSUP (-3)   /* this backend or build cannot do that */
#define VC_EBUSY (-4)     /* in use: by another thread, or not yet detached */
#define VC_EEXIST (-5)    /* overlaps something that is already there */
#define VC_ENOENT (-6)    /* nothing there by that name, number or address */
#define VC_ERANGE (-7)    /* out of range: too large, wraps, or unaligned */
#define VC_EFAULT (-8)    /* a guest address is not mapped, or not so */
#define VC_EPERM (-9)     /* the host's kernel refused */
#define VC_EIO (-10)      /* a host file or device failed */
#define VC_EFORMAT (-11)  /* an image is truncated, lying or of no known kind */
#define VC_ESTATE (-12)   /* not in this state (a VM that failed, a VM that runs) */
#define VC_ELIMIT (-13)   /* a limit of the partition is reached */
#define VC_ECALLBACK (-14) /* a callback of the embedder's asked to stop the run */
#define VC_EINTERNAL (-15) /* the engine contradicts itself; a bug worth reporting */
#define VC_EKICKED (-16)   /* vc_kick ended it */

typedef struct vc_vm vc_vm;
typedef struct vc_cpu vc_cpu;
typedef struct vc_dev vc_dev;
typedef struct vc_pool vc_pool;

/* The sentence of the first failure in the current chain of this thread. A
 * chain starts with the first failure after vc_errclear() or after a
 * successful vc_open(); a later failure that only passes a NULL handle on does
 * not replace it. Never NULL; "" when nothing failed. Valid until this
 * thread's next library call. Any thread. */
VC_API const char *vc_errmsg(void);

/* The code that belongs to vc_errmsg(); 0 when nothing failed. Any thread. */
VC_API int vc_errcode(void);

/* Forgets this thread's failure. Any thread. */
VC_API void vc_errclear(void);

/* The name of a code: "VC_EINVAL". Never NULL. Any thread. */
VC_API const char *vc_errname(int code);

/* "0.1.0". Any thread. */
VC_API const char *vc_version(void);

/* Log levels, most urgent first. */
enum vc_log_level { VC_LOG_ERROR = 0, VC_LOG_WARN = 1, VC_LOG_INFO = 2, VC_LOG_DEBUG = 3 };

/* Receives one line without its newline. May be called from any thread that is
 * inside the library, never from two at once for one VM. It must not call the
 * library. */
typedef void vc_log_fn(void *ud, int level, const char *line);

#ifdef __cplusplus
}
#endif
#endif
