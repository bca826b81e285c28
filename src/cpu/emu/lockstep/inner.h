/* SPDX-License-Identifier: MIT
 * What lockstep's files share. */
#ifndef LOCKSTEP_INNER_H
#define LOCKSTEP_INNER_H

#include "lockstep.h"
#include "../run.h"

#define LOG_MAX     8192u /* answers in one piece */
#define STORES_MAX  4096u /* stores in one piece whose places are compared at once */
#define OUTSIDE_MAX 256u

/* What happened to the first vCPU from outside, in order. */
enum answer_kind {
    ANS_ACCESS,
    ANS_MSR,
    ANS_CR8_GET,
    ANS_CR8_SET,
    ANS_HCALL,
    ANS_VALUE,
    ANS_FLAGS,
    ANS_WRITE
};
struct answer {
    uint8_t kind, space;
    bool write;
    int rc;
    uint64_t addr; /* port, address, MSR, hypercall number, or where a device wrote */
    uint64_t len;
    uint64_t in, out;
};

struct range {
    uint64_t gpa, len;
};

struct lockstep {
    struct emu_vm *vm, *ref_vm;
    struct emu *model, *ref; /* translated; interpreted */
    struct cpu_env env;      /* the partition's own */
    struct cpu_env noting, telling;
    struct mem shadow; /* the reference's RAM */
    struct cpu_mail mail;
    struct vc_exit exit;   /* the reference's */
    _Atomic uint64_t ones; /* stands for every page's code word: see store_watch */

    bool running; /* the model's answers are to be noted */
    bool event;   /* an interrupt or NMI was delivered to the model */
    enum emu_event event_type;
    unsigned event_vector;
    bool fresh; /* the model's state is to be taken over */
    bool failed;
    pthread_t thread; /* of the run */
    struct answer log[LOG_MAX];
    unsigned logged, told;
    bool log_full;
    bool asked_else; /* the reference asked what the model had not */
    char question[96];

    struct range store[STORES_MAX];
    unsigned nstores;
    bool stores_full;

    /* RAM written from outside the vCPU, by other threads. */
    pthread_mutex_t lock;
    struct range outside[OUTSIDE_MAX];
    unsigned noutside;
    bool sync_all; /* under the lock too */
    _Atomic bool map_changed;

    struct emu_goal goal; /* where the reference goes in this piece */
    uint64_t start_icount, start_rip;
    uint64_t random;
    uint64_t last_full; /* instruction count when all RAM was compared */
    bool known;         /* the shadow holds the partition's RAM, but for what was noted */
    void (*tamper)(struct emu *c, void *ud);
    void *tamper_ud;
};

/* answers.c: both tables of functions; the model's side of mem->wrote. */
void answers_setup(struct lockstep *ls);
/* Device writes that the reference has not seen yet, up to the next answer. */
void answers_writes(struct lockstep *ls);
void lockstep_wrote(void *ctx, uint64_t gpa, uint64_t len);

/* The next answer, when the question is the same; else one that says nothing. */
const struct answer *answers_tell(struct lockstep *ls, struct answer question);
void answers_note(struct lockstep *ls, struct answer a);

/* shadow.c */
int shadow_open(struct lockstep *ls, uint64_t quota);
/* Makes the shadow's map, and RAM where it may differ, the partition's. */
bool shadow_sync_map(struct lockstep *ls);
/* May RAM change without notice? */
bool shadow_lent(struct lockstep *ls);
void shadow_sync_ram(struct lockstep *ls);
void shadow_copy(struct lockstep *ls, uint64_t gpa, uint64_t len);
/* Writes of other threads: are there any? They are copied. */
bool shadow_outside(struct lockstep *ls);
/* The first byte of a range, widened to its neighbours, that differs. */
bool shadow_differs(struct lockstep *ls, uint64_t gpa, uint64_t len, uint64_t *where);
/* The same for all RAM. */
bool shadow_differs_anywhere(struct lockstep *ls, uint64_t *where);

/* fields.c: registers by name. */
void fields_copy(struct emu *to, const struct emu *from);
/* The often used ones; all. */
bool fields_equal(const struct emu *a, const struct emu *b, bool all);
/* Calls fn for each that differs. */
void fields_differences(const struct emu *a, const struct emu *b,
                        void (*fn)(void *ud, const char *name, unsigned i, uint64_t a, uint64_t b),
                        void *ud);

/* code.c: bytes of the reference's code from a step on; how many. */
unsigned code_bytes(struct lockstep *ls, const struct emu_step *step, uint8_t *bytes, unsigned max);
ZydisMachineMode code_mode(const struct lockstep *ls);

/* report.c: the sentence and the log lines. */
void report_difference(struct lockstep *ls, const char *what);

#endif
