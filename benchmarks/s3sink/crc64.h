/* CRC-64/NVME: polynomial 0xad93d23594c93659, reflected, all ones in and out. */
#ifndef CRC64_H
#define CRC64_H
#include <stddef.h>
#include <stdint.h>

/* Must be called once, before any thread. */
void crc64_prepare(void);

/* The checksum of what `crc` covers (0: nothing yet) followed by `size` more bytes. */
uint64_t crc64_of(uint64_t crc, const void *data, size_t size);

/* The checksum of two pieces in a row, the second of `size` bytes. */
uint64_t crc64_combine(uint64_t first, uint64_t second, uint64_t size);
#endif
