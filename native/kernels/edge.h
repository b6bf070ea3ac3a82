/* SPDX-License-Identifier: Apache-2.0
 *
 * edge.h: the edge between host and library, for the sanitizer of threads. Calls that use the same memory come one after the other, by the host's doing, which
 * the sanitizer does not see where the host is not built with it: so that is told here. Each call comes after all that have ended when it begins; calls that
 * are on at the same time are in no order. */
#ifndef SETUN_EDGE_H
#define SETUN_EDGE_H

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern char **environ; /* something that all libraries of a process have in common */
static inline void setun_enter(void) { __tsan_acquire(&environ); }
static inline void setun_leave(void) { __tsan_release(&environ); }
#else
static inline void setun_enter(void) {}
static inline void setun_leave(void) {}
#endif

#endif
