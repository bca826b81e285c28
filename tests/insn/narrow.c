/* SPDX-License-Identifier: MIT */
#include "insn.h"
void narrow_run(struct tally *t, const struct form *forms, size_t n, unsigned cases)
{
    (void)t, (void)forms, (void)n, (void)cases;
}
