/* SPDX-License-Identifier: Apache-2.0
 *
 * The one function that a Go program needs of bcryptprimitives.dll, which older versions of wine lack. For `make test-windows` alone. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG size); /* RtlGenRandom, in advapi32 */

__declspec(dllexport) BOOL WINAPI ProcessPrng(unsigned char *data, SIZE_T size);
BOOL WINAPI ProcessPrng(unsigned char *data, SIZE_T size) {
    while (size > 0) {
        ULONG n = size < 1 << 20 ? (ULONG)size : 1 << 20;
        if (!SystemFunction036(data, n)) return FALSE;
        data += n, size -= n;
    }
    return TRUE;
}
