/* SPDX-License-Identifier: MIT
 * Thread-local failure: the first of a chain is the one kept. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <virtcore/base.h>

/* Records code and sentence unless a failure is already kept; returns code. */
int err_set(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A public call starts afresh: forgets an older failure. Not called on the NULL
 * handle path, so that the cause of a NULL handle stays readable. */
void err_begin(void);
/* For a NULL handle: keeps the failure that made it, or says what is NULL. */
int err_null(const char *what);

#endif
