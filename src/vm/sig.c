/* SPDX-License-Identifier: MIT
 * Parsing "i64(u32,buf,cstr)". */
#include "sig.h"
#include "../base/err.h"
#include "../base/util.h"

static const char *const names[] = {
    [SIG_VOID] = "void", [SIG_I8] = "i8",     [SIG_I16] = "i16",   [SIG_I32] = "i32",
    [SIG_I64] = "i64",   [SIG_U8] = "u8",     [SIG_U16] = "u16",   [SIG_U32] = "u32",
    [SIG_U64] = "u64",   [SIG_F32] = "f32",   [SIG_F64] = "f64",   [SIG_ADDR] = "addr",
    [SIG_BUF] = "buf",   [SIG_CBUF] = "cbuf", [SIG_OBUF] = "obuf", [SIG_CSTR] = "cstr",
    [SIG_UD] = "ud",     [SIG_CPU] = "cpu",
};

static const char *skip(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* The type that begins at *p, which moves behind it; -1: none. */
static int take_type(const char **p)
{
    const char *start = skip(*p);
    size_t n = 0;
    while ((start[n] >= 'a' && start[n] <= 'z') || (start[n] >= '0' && start[n] <= '9'))
        n++;
    *p = start;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) == n && !memcmp(names[i], start, n)) {
            *p = skip(start + n);
            return (int)i;
        }
    }
    return -1;
}

static int bad(const char *text, const char *at, const char *what)
{
    return err_set(VC_EINVAL, "signature \"%.60s\": %s at character %zu", text, what,
                   (size_t)(at - text) + 1);
}

static int parse_args(const char *text, const char *p, bool guest, struct sig *sig)
{
    for (;;) {
        const char *at = skip(p);
        int type = take_type(&p);
        if (type < 0)
            return bad(text, at, "there is no such type");
        if (type == SIG_VOID)
            return bad(text, at, "an argument cannot be void");
        if (guest && (type == SIG_UD || type == SIG_CPU))
            return bad(text, at, "a function of the guest's knows neither ud nor cpu");
        if (sig->nargs == VC_SIG_ARGS_MAX)
            return bad(text, at, "there are more than 16 arguments");
        sig->arg[sig->nargs++] = (uint8_t)type;
        if (*p == ')')
            break;
        if (*p != ',')
            return bad(text, p, "',' or ')' is missing");
        p++;
    }
    p = skip(p + 1);
    return *p ? bad(text, p, "nothing may follow the ')'") : 0;
}

int sig_parse(const char *text, bool guest, struct sig *sig)
{
    const char *p = text;
    *sig = (struct sig){0};
    int type = take_type(&p);
    if (type < 0)
        return bad(text, p, "there is no such type");
    if (type > SIG_ADDR)
        return bad(text, skip(text), "a result is void, a number or addr");
    sig->ret = (uint8_t)type;
    if (*p != '(')
        return bad(text, p, "'(' is missing");
    const char *first = skip(p + 1);
    if (*first == ')') {
        first = skip(first + 1);
        return *first ? bad(text, first, "nothing may follow the ')'") : 0;
    }
    return parse_args(text, first, guest, sig);
}

unsigned sig_type_words(uint8_t type, unsigned word)
{
    switch (type) {
    case SIG_VOID:
    case SIG_UD:
    case SIG_CPU: return 0;
    case SIG_BUF:
    case SIG_CBUF:
    case SIG_OBUF: return 2;
    case SIG_I64:
    case SIG_U64:
    case SIG_F64: return word == 8 ? 1 : 2;
    default: return 1;
    }
}

unsigned sig_words(const struct sig *sig, unsigned word)
{
    unsigned n = 0;
    for (unsigned i = 0; i < sig->nargs; i++)
        n += sig_type_words(sig->arg[i], word);
    return n;
}

uint64_t sig_extend(uint8_t type, uint64_t word)
{
    switch (type) {
    case SIG_VOID: return 0;
    case SIG_I8: return (uint64_t)(int64_t)(int8_t)word;
    case SIG_I16: return (uint64_t)(int64_t)(int16_t)word;
    case SIG_I32: return (uint64_t)(int64_t)(int32_t)word;
    case SIG_U8: return (uint8_t)word;
    case SIG_U16: return (uint16_t)word;
    case SIG_U32:
    case SIG_F32: return (uint32_t)word;
    default: return word;
    }
}
