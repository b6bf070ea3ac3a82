// SPDX-License-Identifier: Apache-2.0
//
// fake_module.cpp: images of the fake driver. Their code is not run, only compared with the kernels that are built in.
#include "fake_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace fake {
namespace {

/* The sizes of the parameters from "(" to ")", each like ".param .u64 .ptr .align 1 name" or ".param .align 8 .b8 name[24]". */
std::vector<size_t> parameter_sizes(const char *at, const char *end) {
    std::vector<size_t> sizes;
    while ((at = strstr(at, ".param")) && at < end) {
        const char *next = strstr(at + 1, ".param");
        if (!next || next > end) next = end;
        size_t size = 0;
        for (const char *p = at + 6; p < next; p++)
            if (*p == '.' && strchr("busf", p[1]) && p[2] >= '1' && p[2] <= '9')
                size = size_t(atoi(p + 2)) / 8;
            else if (*p == '[')
                size *= size_t(atoi(p + 1));
        sizes.push_back(size);
        at = next;
    }
    return sizes;
}

/* The most threads of a block, from a line like ".maxntid 256, 1, 1" between the parameters and the code. */
unsigned most_threads(const char *at) {
    const char *code = strchr(at, '{');
    for (const char *name : {".maxntid", ".reqntid"}) {
        const char *p = strstr(at, name);
        unsigned n[3] = {1, 1, 1};
        if (p && code && p < code && sscanf(p + 8, "%u , %u , %u", n, n + 1, n + 2) > 0) return n[0] * n[1] * n[2];
    }
    return 1024;
}

Result compile(Module &m, const char *ptx, std::string *log) {
    const char *version = strstr(ptx, ".version "), *target = strstr(ptx, ".target sm_");
    int major = 0, minor = 0;
    if (!version || !target || sscanf(version, ".version %d.%d", &major, &minor) != 2) {
        *log = "no .version or .target: this is no PTX (the fake driver takes nothing else)";
        return memcmp(ptx, "\177ELF", 4) == 0 || memcmp(ptx, "\x50\xed\x55\xba", 4) == 0 ? INVALID_IMAGE : INVALID_PTX;
    }
    /* CUDA 10.x takes PTX up to 6.3 + x, from 11.0 on the major number is four less. */
    const int has = driver().version / 1000, x = driver().version % 1000 / 10, newest = has < 11 ? 63 + x : (has - 4) * 10 + x;
    if (10 * major + minor > newest) {
        *log = "PTX that is newer than the driver";
        return NEWER_PTX;
    }
    if (atoi(target + 11) > driver().capability) {
        *log = "a target that the device does not have";
        return NO_BINARY;
    }
    for (const Kernel &k : kernels()) {
        const char *at = strstr(ptx, (std::string(".entry ") + k.name + "(").c_str()), *end = at ? strchr(at, ')') : nullptr;
        if (!end) continue;
        if (parameter_sizes(at, end) != k.sizes) {
            *log = std::string("kernel ") + k.name + ": the parameters are not those of the code";
            return INVALID_PTX;
        }
        m.functions[k.name].reset(new Function{&k, most_threads(end)});
    }
    return OK;
}

/* Options 3 and 5 are buffers for a log, 4 and 6 their sizes, which become what was written. */
void write_log(unsigned n, const int *options, void **values, int buffer, const std::string &log) {
    char *to = nullptr;
    void **size = nullptr;
    for (unsigned i = 0; i < n; i++) {
        if (options[i] == buffer) to = static_cast<char *>(values[i]);
        if (options[i] == buffer + 1) size = values + i;
    }
    if (!size) return;
    const size_t room = size_t(reinterpret_cast<uintptr_t>(*size) & 0xffffffffu), used = !to || room == 0 ? 0 : log.size() < room ? log.size() : room - 1;
    if (to && room > 0) memcpy(to, log.data(), used), to[used] = 0;
    *size = reinterpret_cast<void *>(uintptr_t(used));
}

} // namespace
} // namespace fake

using namespace fake;

SETUN_FAKE_API Result cuModuleLoadDataEx(Module **m, const void *image, unsigned n, int *options, void **values) {
    FAKE_ENTER(CONTEXT);
    if (!image || (n > 0 && (!options || !values))) return INVALID_VALUE;
    auto made = std::make_unique<Module>();
    std::string log;
    const Result r = compile(*made, static_cast<const char *>(image), &log);
    write_log(n, options, values, 3, "");
    write_log(n, options, values, 5, log);
    if (r != OK) return r;
    for (auto &f : made->functions) current()->functions.insert(f.second.get());
    *m = made.get();
    current()->modules[*m] = std::move(made);
    return OK;
}
SETUN_FAKE_API Result cuModuleUnload(Module *m) {
    FAKE_ENTER(CONTEXT);
    Context &c = *current();
    if (!c.modules.count(m)) return INVALID_HANDLE;
    const Result r = drain_all(lock, c);
    if (!c.modules.count(m)) return INVALID_HANDLE;
    for (auto &f : m->functions) c.functions.erase(f.second.get());
    c.modules.erase(m);
    return r;
}
SETUN_FAKE_API Result cuModuleGetFunction(Function **f, Module *m, const char *name) {
    FAKE_ENTER(CONTEXT);
    if (!current()->modules.count(m)) return INVALID_HANDLE;
    auto i = m->functions.find(name);
    if (i == m->functions.end()) return NOT_FOUND;
    *f = i->second.get();
    return OK;
}
