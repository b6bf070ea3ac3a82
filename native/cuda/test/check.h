/* SPDX-License-Identifier: Apache-2.0
 *
 * check.h: named checks, a line each, and their count. */
#ifndef SETUN_CUDA_TEST_CHECK_H
#define SETUN_CUDA_TEST_CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

static int passed, failed;

/* One line; the note says what was seen. */
__attribute__((format(printf, 3, 4))) static inline bool check(bool good, const char *name, const char *note, ...) {
    char text[400];
    va_list args;
    va_start(args, note);
    vsnprintf(text, sizeof text, note, args);
    va_end(args);
    printf("%s %s%s%s\n", good ? "ok  " : "FAIL", name, *text ? ": " : "", text);
    (good ? passed : failed)++;
    return good;
}

static inline bool check(bool good, const char *name) { return check(good, name, "%s", ""); }

static inline int summary() {
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

/* Runs something that may end the process in a child; what it wrote to stderr, and how it ended. */
template <class F> std::string in_child(F f, int *status) {
    int ends[2];
    fflush(stdout);
    if (pipe(ends)) abort();
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2), close(ends[0]), close(ends[1]);
        f();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char b[4096];
    for (ssize_t n; (n = read(ends[0], b, sizeof b)) > 0;) text.append(b, size_t(n));
    close(ends[0]);
    waitpid(child, status, 0);
    return text;
}

#endif
