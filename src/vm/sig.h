/* SPDX-License-Identifier: MIT
 * Signatures of functions that are called between host and guest. */
#ifndef VM_SIG_H
#define VM_SIG_H

#include <stdbool.h>
#include <stdint.h>
#include <virtcore/call.h>

enum sig_type {
    SIG_VOID,
    SIG_I8,
    SIG_I16,
    SIG_I32,
    SIG_I64,
    SIG_U8,
    SIG_U16,
    SIG_U32,
    SIG_U64,
    SIG_F32,
    SIG_F64,
    SIG_ADDR,
    SIG_BUF,
    SIG_CBUF,
    SIG_OBUF,
    SIG_CSTR,
    SIG_UD,
    SIG_CPU,
};

struct sig {
    uint8_t ret; /* enum sig_type */
    uint8_t nargs;
    uint8_t arg[VC_SIG_ARGS_MAX];
};

/* VC_EINVAL with a sentence that says where. guest: of a function of the guest's. */
int sig_parse(const char *text, bool guest, struct sig *sig);

static inline bool sig_is_buf(uint8_t type)
{
    return type >= SIG_BUF && type <= SIG_OBUF;
}
static inline bool sig_is_float(uint8_t type)
{
    return type == SIG_F32 || type == SIG_F64;
}
/* Argument words in the guest, of 8 bytes or of 4. */
unsigned sig_words(const struct sig *sig, unsigned word);
unsigned sig_type_words(uint8_t type, unsigned word);
/* An integer of that type from a word, extended. */
uint64_t sig_extend(uint8_t type, uint64_t word);

#endif
