/* SPDX-License-Identifier: MIT
 * The part of Criterion's interface that the unit tests use, for sanitizer
 * builds. Criterion itself runs every test in a forked process over an arena
 * at a fixed address: the thread sanitizer does not allow that, and the leak
 * checker sees Criterion's leaks rather than ours. Here the tests of a file run
 * in one process, one after the other; a per-test timeout is ctest's business.
 *
 * usage: test_x [SUITE/NAME | NAME]...  (options are accepted and do nothing) */
#ifndef CRITERION_CRITERION_H
#define CRITERION_CRITERION_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cr_extra_data {
    int sentinel; /* so that a list of nothing is a valid initializer */
    void (*init)(void);
    void (*fini)(void);
    double timeout;
    bool disabled;
    const char *description;
};

struct cr_test {
    const char *suite, *name;
    void (*fn)(void); /* NULL: what a suite's tests share */
    struct cr_extra_data extra;
    struct cr_test *next;
};

static struct {
    struct cr_test *first, **last;
    jmp_buf out;
    pthread_t thread;
    bool failed;
} cr_run;

static inline void cr_register(struct cr_test *t)
{
    if (!cr_run.last)
        cr_run.last = &cr_run.first;
    *cr_run.last = t;
    cr_run.last = &t->next;
}

#define CR_TEST(id, ...)                                                                           \
    static struct cr_test id##_entry = {__VA_ARGS__};                                              \
    __attribute__((constructor)) static void id##_register(void)                                   \
    {                                                                                              \
        cr_register(&id##_entry);                                                                  \
    }
#define Test(suite, name, ...)                                                                     \
    static void suite##_##name##_impl(void);                                                       \
    CR_TEST(suite##_##name, #suite, #name, suite##_##name##_impl, {.sentinel = 0, ##__VA_ARGS__},  \
            NULL)                                                                                  \
    static void suite##_##name##_impl(void)
#define TestSuite(suite, ...)                                                                      \
    CR_TEST(suite, #suite, NULL, NULL, {.sentinel = 0, ##__VA_ARGS__}, NULL)                       \
    struct cr_test /* takes the semicolon */

/* ---- what a test says ------------------------------------------------------- */

__attribute__((format(printf, 5, 6))) static inline void
cr_failure(bool fatal, const char *file, int line, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s:%d: %s:", file, line, what);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    cr_run.failed = true;
    if (!fatal)
        return;
    if (!pthread_equal(pthread_self(), cr_run.thread))
        abort();
    longjmp(cr_run.out, 1);
}

#define CR_CHECK(fatal, ok, what, ...)                                                             \
    ((ok) ? (void)0 : cr_failure(fatal, __FILE__, __LINE__, what, " " __VA_ARGS__))

#define cr_assert(x, ...)            CR_CHECK(true, x, #x, __VA_ARGS__)
#define cr_assert_not(x, ...)        CR_CHECK(true, !(x), "not: " #x, __VA_ARGS__)
#define cr_assert_null(x, ...)       CR_CHECK(true, (x) == NULL, "NULL: " #x, __VA_ARGS__)
#define cr_assert_not_null(x, ...)   CR_CHECK(true, (x) != NULL, "not NULL: " #x, __VA_ARGS__)
#define cr_assert_eq(a, b, ...)      CR_CHECK(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)     CR_CHECK(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)      CR_CHECK(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)     CR_CHECK(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)      CR_CHECK(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)     CR_CHECK(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)  CR_CHECK(true, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) CR_CHECK(true, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...)                                                             \
    CR_CHECK(true, !memcmp(a, b, n), #a " equals " #b, __VA_ARGS__)
#define cr_assert_arr_neq(a, b, n, ...)                                                            \
    CR_CHECK(true, memcmp(a, b, n), #a " differs from " #b, __VA_ARGS__)
#define cr_assert_fail(...) cr_failure(true, __FILE__, __LINE__, "failed", " " __VA_ARGS__)

#define cr_expect(x, ...)            CR_CHECK(false, x, #x, __VA_ARGS__)
#define cr_expect_not(x, ...)        CR_CHECK(false, !(x), "not: " #x, __VA_ARGS__)
#define cr_expect_null(x, ...)       CR_CHECK(false, (x) == NULL, "NULL: " #x, __VA_ARGS__)
#define cr_expect_not_null(x, ...)   CR_CHECK(false, (x) != NULL, "not NULL: " #x, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)      CR_CHECK(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)     CR_CHECK(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)      CR_CHECK(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)     CR_CHECK(false, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)      CR_CHECK(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)     CR_CHECK(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)  CR_CHECK(false, !strcmp(a, b), #a " is " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) CR_CHECK(false, strcmp(a, b), #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)                                                             \
    CR_CHECK(false, !memcmp(a, b, n), #a " equals " #b, __VA_ARGS__)
#define cr_expect_arr_neq(a, b, n, ...)                                                            \
    CR_CHECK(false, memcmp(a, b, n), #a " differs from " #b, __VA_ARGS__)
#define cr_expect_fail(...) cr_failure(false, __FILE__, __LINE__, "failed", " " __VA_ARGS__)

#define cr_log_info(fmt, ...)  fprintf(stderr, fmt "\n", ##__VA_ARGS__)
#define cr_log_warn(fmt, ...)  fprintf(stderr, "warning: " fmt "\n", ##__VA_ARGS__)
#define cr_log_error(fmt, ...) fprintf(stderr, "error: " fmt "\n", ##__VA_ARGS__)
#define cr_skip_test(...)                                                                          \
    (fprintf(stderr, "skipped: " __VA_ARGS__), fputc('\n', stderr), longjmp(cr_run.out, 1))
#define cr_skip(...) cr_skip_test(__VA_ARGS__)

/* ---- running ------------------------------------------------------------------ */

static inline const struct cr_extra_data *cr_suite(const char *suite)
{
    for (const struct cr_test *t = cr_run.first; t; t = t->next)
        if (!t->fn && !strcmp(t->suite, suite))
            return &t->extra;
    return NULL;
}

static inline void cr_steps(const struct cr_test *t, const struct cr_extra_data *s)
{
    if (s && s->init)
        s->init();
    if (t->extra.init)
        t->extra.init();
    t->fn();
    if (t->extra.fini)
        t->extra.fini();
    if (s && s->fini)
        s->fini();
}

/* A test that failed half way leaks; it has failed anyway. */
static inline bool cr_run_test(const struct cr_test *t)
{
    cr_run.failed = false;
    if (!setjmp(cr_run.out))
        cr_steps(t, cr_suite(t->suite));
    return !cr_run.failed;
}

static inline bool cr_chosen(const struct cr_test *t, int argc, char **argv)
{
    char full[256];
    bool any = false;
    snprintf(full, sizeof full, "%s/%s", t->suite, t->name);
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            continue;
        any = true;
        if (!strcmp(argv[i], full) || !strcmp(argv[i], t->name))
            return true;
    }
    return !any;
}

int main(int argc, char **argv)
{
    unsigned done = 0, bad = 0;
    cr_run.thread = pthread_self();
    for (const struct cr_test *t = cr_run.first; t; t = t->next) {
        if (!t->fn || t->extra.disabled || !cr_chosen(t, argc, argv))
            continue;
        done++;
        if (!cr_run_test(t)) {
            bad++;
            fprintf(stderr, "FAILED: %s/%s\n", t->suite, t->name);
        }
    }
    fprintf(stderr, "%u tests, %u failed\n", done, bad);
    return bad != 0;
}

#endif
