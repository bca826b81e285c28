/* SPDX-License-Identifier: MIT
 * Thread-local failure: the first of a chain is the one kept. */
#include "err.h"
#include "util.h"
#include <stdarg.h>
#include <stdio.h>

static _Thread_local struct {
    int code;
    char text[256];
} failure;

int err_set(int code, const char *fmt, ...)
{
    if (failure.code)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(failure.text, sizeof failure.text, fmt, ap);
    va_end(ap);
    failure.code = code;
    return code;
}

void err_begin(void)
{
    failure.code = 0;
    failure.text[0] = 0;
}

int err_null(const char *what)
{
    return failure.code ? failure.code : err_set(VC_EINVAL, "%s is NULL", what);
}

const char *vc_errmsg(void)
{
    return failure.text;
}

int vc_errcode(void)
{
    return failure.code;
}

void vc_errclear(void)
{
    err_begin();
}

const char *vc_errname(int code)
{
    static const char *const names[] = {
        "0",         "VC_EINVAL", "VC_ENOMEM",    "VC_ENOTSUP",   "VC_EBUSY", "VC_EEXIST",
        "VC_ENOENT", "VC_ERANGE", "VC_EFAULT",    "VC_EPERM",     "VC_EIO",   "VC_EFORMAT",
        "VC_ESTATE", "VC_ELIMIT", "VC_ECALLBACK", "VC_EINTERNAL",
        "VC_EKICKED",
    };
    return code <= 0 && code > -(int)ARRAY_LEN(names) ? names[-code] : "unknown";
}

#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)

const char *vc_version(void)
{
    return TEXT(VC_VERSION_MAJOR) "." TEXT(VC_VERSION_MINOR) "." TEXT(VC_VERSION_PATCH);
}
