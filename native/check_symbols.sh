#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A library exports setun_backend and nothing else, and calls nothing that could end, print or leave the process. Threads and memory are for
# libraries that say so, and finding a driver is for one: check_symbols.sh LIBRARY [threads|driver].
set -eu
lib=$1
exported=$(nm -D --defined-only "$lib" | awk '{print $3}')
if [ "$exported" != setun_backend ]; then
    echo "$lib exports: $exported" >&2
    exit 1
fi
for symbol in $(nm -D -u "$lib" | awk '{print $NF}' | sed 's/@.*//'); do
    case $symbol in
    getauxval | memcpy | memset | memmove | memcmp | strlen | sqrt | sqrtf | frexp | ldexp | __stack_chk_fail | __stack_chk_guard | __cxa_finalize | __gmon_start__ | _ITM_*) ;;
    malloc | free | clock_gettime | sigfillset | pthread_create | pthread_join | pthread_sigmask | sched_yield | pthread_mutex_* | pthread_cond_*)
        [ -n "${2:-}" ] || {
            echo "$lib calls $symbol, which only a library with threads may" >&2
            exit 1
        } ;;
    dlopen | dlsym | secure_getenv | getuid | geteuid | getgid | getegid | sysconf | nanosleep | realloc | vsnprintf | snprintf)
        [ "${2:-}" = driver ] || {
            echo "$lib calls $symbol, which only a library that finds a driver may" >&2
            exit 1
        } ;;
    *)
        echo "$lib calls $symbol, which is not on the list" >&2
        exit 1
        ;;
    esac
done
# Tables that the loader fills in are read-only afterwards, the stack holds no code, and other libraries are not looked for in folders of the builder's.
headers=$(readelf -lW "$lib")
dynamic=$(readelf -dW "$lib")
case $headers in *GNU_RELRO*) ;; *) echo "$lib is built without -z relro" >&2 && exit 1 ;; esac
case $headers in *GNU_STACK*) ;; *) echo "$lib does not say that its stack holds no code" >&2 && exit 1 ;; esac
case $headers in *GNU_STACK*RWE*) echo "$lib wants a stack that can hold code" >&2 && exit 1 ;; esac
case $dynamic in *BIND_NOW* | *"Flags: NOW"*) ;; *) echo "$lib is built without -z now" >&2 && exit 1 ;; esac
case $dynamic in *RPATH* | *RUNPATH*) echo "$lib has a run path" >&2 && exit 1 ;; esac
echo "$lib: one exported symbol, no call that is not on the list, read-only tables"
