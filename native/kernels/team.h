/* SPDX-License-Identifier: Apache-2.0
 *
 * team.h: the threads that share an op. An op cuts its work into parts whose borders depend on the sizes alone, so the
 * result cannot depend on how many threads there are or on who does what. */
#ifndef SETUN_TEAM_H
#define SETUN_TEAM_H

#include <stdint.h>

typedef struct setun_team setun_team;
struct setun_team {
    int32_t threads; /* that take part, the caller among them */
    /* Calls part(arg, i) once for each i in 0 .. parts-1, on any thread, several at once; returns when all are done. */
    void (*run)(const setun_team *team, void (*part)(void *arg, int64_t i), void *arg, int64_t parts);
};

static inline int64_t setun_threads(const setun_team *team) { return team ? team->threads : 1; }

/* The caller alone when there is no team. */
static inline void setun_each(const setun_team *team, int64_t parts, void (*part)(void *arg, int64_t i), void *arg) {
    if (team && parts > 1)
        team->run(team, part, arg, parts);
    else
        for (int64_t i = 0; i < parts; i++) part(arg, i);
}

/* The few things that threads of a job do to what they share. */
#define SETUN_CLAIM(p) __atomic_fetch_add(p, 1, __ATOMIC_RELAXED)
#define SETUN_ADD(p, v) __atomic_fetch_add(p, v, __ATOMIC_RELAXED)
#define SETUN_STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

#endif
