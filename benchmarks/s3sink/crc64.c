/* Polynomials over GF(2) have their highest power in the lowest bit here ("reflected"). */
#include "crc64.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const uint64_t POLYNOMIAL = 0x9a6c9329ac4bc9b5u; /* reflected, x^64 left out */
static const uint64_t ONE = 1ull << 63;                 /* x^0 */
enum { SLICES = 8 };
static uint64_t table[SLICES][256];
static bool can_fold;
static uint64_t fold_near[2], fold_far[2]; /* by 128 and by 512 bits; [0] is for the low half */

static uint64_t times_x(uint64_t value) {
    return (value >> 1) ^ (value & 1 ? POLYNOMIAL : 0);
}

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t product = 0;
    for (uint64_t bit = ONE; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = times_x(b);
    }
    return product;
}

static uint64_t power_of_x(uint64_t exponent) {
    uint64_t result = ONE, square = times_x(ONE);
    for (; exponent; exponent >>= 1) {
        if (exponent & 1) result = times(result, square);
        square = times(square, square);
    }
    return result;
}

void crc64_prepare(void) {
    for (int byte = 0; byte < 256; byte++) {
        uint64_t value = (uint64_t)byte;
        for (int bit = 0; bit < 8; bit++) value = times_x(value);
        table[0][byte] = value;
    }
    for (int slice = 1; slice < SLICES; slice++)
        for (int byte = 0; byte < 256; byte++) {
            uint64_t value = table[slice - 1][byte];
            table[slice][byte] = (value >> 8) ^ table[0][value & 255];
        }
    /* A carry-less product of two reflected values is one power of x too high. */
    fold_near[0] = power_of_x(128 + 63);
    fold_near[1] = power_of_x(128 - 1);
    fold_far[0] = power_of_x(512 + 63);
    fold_far[1] = power_of_x(512 - 1);
#if defined(__x86_64__)
    can_fold = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
}

static uint64_t by_table(uint64_t state, const unsigned char *data, size_t size) {
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        state ^= word;
        uint64_t next = 0;
        for (int slice = 0; slice < SLICES; slice++)
            next ^= table[SLICES - 1 - slice][(state >> (8 * slice)) & 255];
        state = next;
    }
    for (; size; data++, size--) state = (state >> 8) ^ table[0][(state ^ *data) & 255];
    return state;
}

#if defined(__x86_64__)
typedef __m128i Lane;

__attribute__((target("pclmul,sse4.1"))) static inline Lane fold(Lane lane, Lane by, Lane next) {
    Lane low = _mm_clmulepi64_si128(lane, by, 0x00), high = _mm_clmulepi64_si128(lane, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/* `size` is at least 64; what is left over comes back through `data` and `size`. */
__attribute__((target("pclmul,sse4.1"))) static uint64_t by_folding(uint64_t state,
                                                                    const unsigned char **data,
                                                                    size_t *size) {
    const Lane *at = (const Lane *)*data;
    const Lane far = _mm_set_epi64x((long long)fold_far[1], (long long)fold_far[0]);
    const Lane near = _mm_set_epi64x((long long)fold_near[1], (long long)fold_near[0]);
    Lane lanes[4];
    for (int i = 0; i < 4; i++) lanes[i] = _mm_loadu_si128(at + i);
    lanes[0] = _mm_xor_si128(lanes[0], _mm_set_epi64x(0, (long long)state));
    for (at += 4, *size -= 64; *size >= 64; at += 4, *size -= 64)
        for (int i = 0; i < 4; i++) lanes[i] = fold(lanes[i], far, _mm_loadu_si128(at + i));
    Lane sum = lanes[0];
    for (int i = 1; i < 4; i++) sum = fold(sum, near, lanes[i]);
    *data = (const unsigned char *)at;
    unsigned char last[16];
    _mm_storeu_si128((Lane *)last, sum);
    return by_table(0, last, sizeof last);
}
#endif

uint64_t crc64_of(uint64_t crc, const void *bytes, size_t size) {
    const unsigned char *data = bytes;
    uint64_t state = ~crc;
#if defined(__x86_64__)
    if (can_fold && size >= 64) state = by_folding(state, &data, &size);
#endif
    return ~by_table(state, data, size);
}

uint64_t crc64_combine(uint64_t first, uint64_t second, uint64_t size) {
    return times(first, power_of_x(8 * size)) ^ second;
}
