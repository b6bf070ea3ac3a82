/* SPDX-License-Identifier: Apache-2.0
 *
 * fake.h: a stand-in for libcuda.so.1 with no GPU: memory is the host's, and kernels run on the emulator. Only an explicit setting loads it (see driver.h);
 * its file name, libcuda_fake.so, is none that a program would find by accident.
 *
 * It is stricter than a driver, so that what a test passes holds on hardware:
 *   - without a current context on the thread a call answers 201;
 *   - an address is offset, so the host cannot read it; a kernel's pointers have to lie in live memory of its device, or be null or an end, else 700;
 *   - asynchronous work is held until something waits for it, stream by stream; pinned sources are read then, pageable ones at once;
 *   - synchronous copies wait for the default stream and blocking streams, not for the others;
 *   - the image is PTX, for the device and no newer than the driver, and has each kernel that is asked for with the parameters that the code has;
 *   - memory starts as NaN and has guards around it, looked at after every kernel and when it is freed: an overrun is a line on stderr and 700.
 * Kernels take plain pointers: one inside a struct, or in device memory, would keep its offset, and pinned memory is theirs only if it was mapped
 * (cuMemHostAlloc, flag 2).
 *
 * Controls, also for other processes by SETUN_CUFAKE="memory=64M,devices=2,driver=12040,capability=80,fault=cuMemAlloc_v2:3:2,hang=1,order=2". */
#ifndef SETUN_CUDA_TEST_FAKE_H
#define SETUN_CUDA_TEST_FAKE_H

#include <stddef.h>
#include <stdint.h>

#define SETUN_FAKE_API extern "C" __attribute__((visibility("default")))

/* Everything as at the start of the process: contexts end, controls are as the environment has them. Only cuInit needs no repeating. */
SETUN_FAKE_API void cufake_reset();
/* The nth call of a function from now on, or the nth run of a kernel of that name, fails with the code. n = 0 takes the faults of that name back. */
SETUN_FAKE_API void cufake_fault(const char *function, long nth, int code);
SETUN_FAKE_API void cufake_memory(unsigned long long bytes); /* of each device */
SETUN_FAKE_API void cufake_devices(int count);               /* 0 to 8 */
SETUN_FAKE_API void cufake_driver(int version);              /* 12040 is 12.4 */
SETUN_FAKE_API void cufake_capability(int number);           /* 90 is 9.0 */
/* Kernels that are queued, or will be, never end: queries answer 600 and what waits does so until this is taken back. */
SETUN_FAKE_API void cufake_hang(int on);
SETUN_FAKE_API long cufake_live();     /* allocations, pinned blocks, streams, events, modules and references to contexts */
SETUN_FAKE_API void cufake_order(int); /* of threads and blocks: 0 forward, 1 backward, above: a seed */
SETUN_FAKE_API long cufake_launches(); /* kernels that have run */
SETUN_FAKE_API long cufake_uploaded(); /* bytes that have been copied, or will be, from the host to devices */

/* For libraries on top of the driver: the code that a fault of that name has now; where the host finds a range of the current context's memory, null where that
 * is not a live one; and work in stream order, which may not call the driver, as a kernel of that name. end is called with the data when they are not needed
 * any more, and whatever becomes of the work. */
SETUN_FAKE_API int cufake_due(const char *function);
SETUN_FAKE_API void *cufake_host(unsigned long long at, size_t bytes);
SETUN_FAKE_API int cufake_work(void *stream, const char *name, void (*run)(void *), void (*end)(void *), void *data);

#endif
