// SPDX-License-Identifier: Apache-2.0
//
// fake_device.cpp: devices, contexts and errors of the fake driver, and its controls.
#include "fake_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace fake {

/* The current contexts of a thread. Plain data: a thread may come here while it ends. */
static thread_local struct {
    Context *list[16];
    int count;
} stack;

Context *current() { return stack.count > 0 ? stack.list[stack.count - 1] : nullptr; }
static Result push(Context *c) {
    if (stack.count == 16) return NO_MEMORY;
    stack.list[stack.count++] = c;
    return OK;
}
bool usable(const Context *c) {
    for (const Context &d : driver().contexts)
        if (c == &d) return c->references > 0;
    return false;
}
static bool is_device(int d) { return d >= 0 && d < driver().devices; }

Driver &driver() {
    static Driver *d = new Driver;
    return *d;
}
Driver::Driver() {
    for (int i = 0; i < DEVICES; i++) contexts[i].ordinal = i;
    configure();
}

void Driver::configure() {
    hang = false, version = 13000, devices = 1, capability = 90, order = 0, memory = size_t(256) << 20, launches = uploaded = 0;
    faults.clear();
    const char *p = getenv("SETUN_CUFAKE");
    while (p && *p) {
        const std::string item(p, strcspn(p, ","));
        p += item.size() + (p[item.size()] == ',');
        const size_t equals = item.find('=');
        const std::string key = item.substr(0, equals), value = equals == std::string::npos ? "" : item.substr(equals + 1);
        char *rest = nullptr;
        const unsigned long long number = strtoull(value.c_str(), &rest, 10);
        if (key == "memory")
            memory = size_t(number) << (*rest == 'K' ? 10 : *rest == 'M' ? 20 : *rest == 'G' ? 30 : 0);
        else if (key == "devices")
            devices = number > DEVICES ? int(DEVICES) : int(number);
        else if (key == "driver")
            version = int(number);
        else if (key == "capability")
            capability = int(number);
        else if (key == "hang")
            hang = number != 0;
        else if (key == "order")
            order = int(number);
        else if (key == "fault" && value.find(':') != std::string::npos) {
            Fault f = {value.substr(0, value.find(':')), 0, 0};
            if (sscanf(value.c_str() + f.name.size(), ":%ld:%d", &f.nth, &f.code) == 2 && f.nth > 0) faults.push_back(f);
        } else if (!item.empty())
            fprintf(stderr, "libcuda_fake: SETUN_CUFAKE: %s is not known\n", item.c_str());
    }
}

void Context::end() {
    for (auto &m : memory) guarded_delete(static_cast<char *>(host(m.first)), m.second.bytes);
    for (auto &m : pinned) guarded_delete(reinterpret_cast<char *>(m.first), m.second.bytes);
    standard->work.clear();
    for (auto &s : streams) s.second->work.clear();
    memory.clear(), pinned.clear(), streams.clear(), events.clear(), functions.clear(), modules.clear();
    used = 0, references = 0, sticky = OK;
}

/* Errors after which a context answers nothing else. */
bool is_sticky(Result r) { return r == 214 || r == 700 || r == 702 || r == 710 || (r >= 714 && r <= 719); }

Result fault(const char *name) {
    std::vector<Fault> &all = driver().faults;
    Result due = OK;
    for (size_t i = 0; i < all.size();) {
        if (all[i].name == name && --all[i].nth == 0) {
            due = all[i].code;
            all.erase(all.begin() + long(i));
        } else
            i++;
    }
    return due;
}

Result enter(const char *name, Need need) {
    Context *c = current();
    if (Result r = fault(name)) {
        if (is_sticky(r) && usable(c)) c->sticky = r;
        return r;
    }
    if (need == NOTHING) return OK;
    if (!driver().initialized) return NOT_INITIALIZED;
    if (need == INITIALIZED) return OK;
    return usable(c) ? c->sticky : Result(INVALID_CONTEXT);
}

} // namespace fake

using namespace fake;

SETUN_FAKE_API Result cuInit(unsigned flags) {
    FAKE_ENTER(NOTHING);
    if (flags) return INVALID_VALUE;
    if (driver().devices == 0) return NO_DEVICE;
    driver().initialized = true;
    return OK;
}
SETUN_FAKE_API Result cuDriverGetVersion(int *version) {
    FAKE_ENTER(NOTHING);
    *version = driver().version;
    return OK;
}
SETUN_FAKE_API Result cuDeviceGetCount(int *count) {
    FAKE_ENTER(INITIALIZED);
    *count = driver().devices;
    return OK;
}
SETUN_FAKE_API Result cuDeviceGet(int *device, int ordinal) {
    FAKE_ENTER(INITIALIZED);
    if (!is_device(ordinal)) return INVALID_DEVICE;
    *device = ordinal;
    return OK;
}
SETUN_FAKE_API Result cuDeviceGetName(char *name, int size, int device) {
    FAKE_ENTER(INITIALIZED);
    if (!is_device(device)) return INVALID_DEVICE;
    if (size <= 0) return INVALID_VALUE;
    snprintf(name, size_t(size), "fake device %d", device);
    return OK;
}
SETUN_FAKE_API Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
    FAKE_ENTER(INITIALIZED);
    if (!is_device(device)) return INVALID_DEVICE;
    *bytes = driver().memory;
    return OK;
}
static Result uuid(unsigned char *bytes, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    for (int i = 0; i < 16; i++) bytes[i] = static_cast<unsigned char>(i < 15 ? 0xFA + i : device);
    return OK;
}
SETUN_FAKE_API Result cuDeviceGetUuid(unsigned char *bytes, int device) {
    FAKE_ENTER(INITIALIZED);
    return uuid(bytes, device);
}
SETUN_FAKE_API Result cuDeviceGetUuid_v2(unsigned char *bytes, int device) {
    FAKE_ENTER(INITIALIZED);
    return uuid(bytes, device);
}
/* Those of an H100 in the main, with few multiprocessors. What is not listed is 0: the device does not have it. */
SETUN_FAKE_API Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    FAKE_ENTER(INITIALIZED);
    if (!is_device(device)) return INVALID_DEVICE;
    if (attribute < 1 || attribute > 160) return INVALID_VALUE;
    static const int list[][2] = {
        {1, 1024},  {2, 1024},     {3, 1024},    {4, 64},        {5, 0x7fffffff}, {6, 65535},   {7, 65535}, {8, 49152}, /* threads, grid, shared memory */
        {9, 65536}, {10, 32},      {12, 65536},  {13, 1980000},  {14, 512},       {15, 1},      {16, 4},    {19, 1},    /* constants, warp, registers, units */
        {31, 1},    {36, 2619000}, {37, 5120},   {38, 50 << 20}, {39, 2048},      {40, 3},      {41, 1},    {78, 1},    /* memory, L2, threads of a unit */
        {79, 1},    {80, 1},       {81, 233472}, {82, 65536},    {95, 1},         {97, 232448}, {106, 32},  {111, 1024}};
    *value = attribute == 75 ? driver().capability / 10 : attribute == 76 ? driver().capability % 10 : attribute == 33 ? device + 1 : 0;
    for (auto &l : list)
        if (l[0] == attribute) *value = l[1];
    return OK;
}

SETUN_FAKE_API Result cuDevicePrimaryCtxRetain(Context **c, int device) {
    FAKE_ENTER(INITIALIZED);
    if (!is_device(device)) return INVALID_DEVICE;
    *c = driver().contexts + device;
    (*c)->references++;
    return OK;
}
SETUN_FAKE_API Result cuDevicePrimaryCtxRelease_v2(int device) {
    FAKE_ENTER(INITIALIZED);
    if (device < 0 || device >= DEVICES) return INVALID_DEVICE;
    Context &c = driver().contexts[device];
    if (c.references == 0) return INVALID_CONTEXT;
    if (c.references == 1 && c.sticky == OK) drain_all(lock, c);
    if (c.references > 0 && --c.references == 0) c.end();
    return OK;
}
SETUN_FAKE_API Result cuCtxGetCurrent(Context **c) {
    FAKE_ENTER(INITIALIZED);
    *c = current();
    return OK;
}
SETUN_FAKE_API Result cuCtxSetCurrent(Context *c) {
    FAKE_ENTER(INITIALIZED);
    if (c && !usable(c)) return INVALID_CONTEXT;
    if (stack.count > 0) stack.count--;
    return c ? push(c) : Result(OK);
}
SETUN_FAKE_API Result cuCtxPushCurrent_v2(Context *c) {
    FAKE_ENTER(INITIALIZED);
    if (!usable(c)) return INVALID_CONTEXT;
    return push(c);
}
SETUN_FAKE_API Result cuCtxPopCurrent_v2(Context **c) {
    FAKE_ENTER(INITIALIZED);
    if (!current()) return INVALID_CONTEXT;
    if (c) *c = current();
    stack.count--;
    return OK;
}

static const struct {
    Result code;
    const char *name, *text;
} errors[] = {{0, "CUDA_SUCCESS", "no error"},
              {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
              {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
              {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
              {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
              {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
              {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
              {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
              {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
              {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
              {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
              {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
              {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
              {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
              {600, "CUDA_ERROR_NOT_READY", "device not ready"},
              {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
              {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
              {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
              {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
              {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
              {999, "CUDA_ERROR_UNKNOWN", "unknown error"}};
SETUN_FAKE_API Result cuGetErrorName(Result r, const char **name) {
    for (auto &e : errors)
        if (e.code == r) return *name = e.name, OK;
    return *name = nullptr, INVALID_VALUE;
}
SETUN_FAKE_API Result cuGetErrorString(Result r, const char **text) {
    for (auto &e : errors)
        if (e.code == r) return *text = e.text, OK;
    return *text = nullptr, INVALID_VALUE;
}

/* ---- controls ------------------------------------------------------------------------------------------------------ */

void cufake_reset() {
    Lock lock(driver().mutex);
    for (Context &c : driver().contexts) c.end();
    driver().configure();
}
void cufake_fault(const char *function, long nth, int code) {
    Lock lock(driver().mutex);
    std::vector<Fault> &all = driver().faults;
    if (nth > 0) return all.push_back({function, nth, code});
    for (size_t i = all.size(); i-- > 0;)
        if (all[i].name == function) all.erase(all.begin() + long(i));
}
int cufake_due(const char *function) {
    Lock lock(driver().mutex);
    return fault(function);
}
#define FAKE_CONTROL(name, type, what)                                                                                                                         \
    void name(type value) {                                                                                                                                    \
        Lock lock(driver().mutex);                                                                                                                             \
        what;                                                                                                                                                  \
    }
FAKE_CONTROL(cufake_memory, unsigned long long, driver().memory = size_t(value))
FAKE_CONTROL(cufake_devices, int, driver().devices = value < 0 ? 0 : value > DEVICES ? int(DEVICES) : value)
FAKE_CONTROL(cufake_driver, int, driver().version = value)
FAKE_CONTROL(cufake_capability, int, driver().capability = value)
FAKE_CONTROL(cufake_hang, int, driver().hang = value != 0)
FAKE_CONTROL(cufake_order, int, driver().order = value)
long cufake_launches() {
    Lock lock(driver().mutex);
    return driver().launches;
}
long cufake_uploaded() {
    Lock lock(driver().mutex);
    return driver().uploaded;
}
long cufake_live() {
    Lock lock(driver().mutex);
    size_t n = 0;
    for (const Context &c : driver().contexts)
        n += c.memory.size() + c.pinned.size() + c.streams.size() + c.events.size() + c.modules.size() + size_t(c.references);
    return long(n);
}
