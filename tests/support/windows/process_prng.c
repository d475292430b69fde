/* ProcessPrng() of bcryptprimitives.dll, which Wine 8 lacks, by the system's older function. */

#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG length); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    while (length > 0) {
        ULONG some = length > 0x10000 ? 0x10000 : (ULONG)length;
        if (!SystemFunction036(data, some))
            return FALSE;
        data += some;
        length -= some;
    }
    return TRUE;
}
