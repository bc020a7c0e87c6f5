/* Copying and comparing memory, for static programs on musl.
 *
 * musl's memcpy starts `rep movsq` for every copy and its memcmp looks at one byte after the other: right for small
 * code, slow for the copies of some dozen bytes that SQLite and Rust make by the hundred for every decision. With these
 * the keeper makes a tenth more decisions a second. x86-64 always has SSE2. scripts/build.rs has it linked
 * before musl's own; one file, because musl's memmove would bring its memcpy along.
 *
 * Every function reads and writes only what it was given: pieces at both ends overlap in the middle instead of
 * reaching beyond. All of a piece is read before any of it is written where the places may overlap. */
#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>

#ifdef UNDER_TEST
/* Beside those of the C library, for tests. */
#define memcpy ours_memcpy
#define memmove ours_memmove
#define memcmp ours_memcmp
void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
int memcmp(const void *one, const void *other, size_t n);
#endif

/* A piece at any address. The compiler makes one instruction of each. */
typedef struct { uint64_t is; } __attribute__((packed, may_alias)) eight;
typedef struct { uint32_t is; } __attribute__((packed, may_alias)) four;

static inline __m128i load(const char *from) { return _mm_loadu_si128((const __m128i *)from); }
static inline void store(char *to, __m128i piece) { _mm_storeu_si128((__m128i *)to, piece); }

/* At most 32 bytes, which may overlap. */
static inline void copy_little(char *to, const char *from, size_t n)
{
    if (n >= 16) {
        __m128i first = load(from), last = load(from + n - 16);
        store(to, first);
        store(to + n - 16, last);
    } else if (n >= 8) {
        uint64_t first = ((const eight *)from)->is, last = ((const eight *)(from + n - 8))->is;
        ((eight *)to)->is = first;
        ((eight *)(to + n - 8))->is = last;
    } else if (n >= 4) {
        uint32_t first = ((const four *)from)->is, last = ((const four *)(from + n - 4))->is;
        ((four *)to)->is = first;
        ((four *)(to + n - 4))->is = last;
    } else if (n > 0) {
        char first = from[0], middle = from[n / 2], last = from[n - 1];
        to[0] = first;
        to[n / 2] = middle;
        to[n - 1] = last;
    }
}

/* More than 32 bytes, from the beginning to the end: right where `to` does not lie behind the beginning of `from`. */
static inline void copy_upwards(char *to, const char *from, size_t n)
{
    /* Read first: where the places overlap the loop may write over it. */
    __m128i last_but_one = load(from + n - 32), last = load(from + n - 16);
    char *end = to + n;
    for (; n > 32; n -= 32, to += 32, from += 32) {
        __m128i one = load(from), two = load(from + 16);
        store(to, one);
        store(to + 16, two);
    }
    store(end - 32, last_but_one);
    store(end - 16, last);
}

/* More than 32 bytes, from the end to the beginning: right where `to` does not lie before `from`. */
static inline void copy_downwards(char *to, const char *from, size_t n)
{
    __m128i first = load(from), second = load(from + 16);
    for (; n > 32; n -= 32) {
        __m128i one = load(from + n - 32), two = load(from + n - 16);
        store(to + n - 32, one);
        store(to + n - 16, two);
    }
    store(to, first);
    store(to + 16, second);
}

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    if (n <= 32)
        copy_little(to, from, n);
    else
        copy_upwards(to, from, n);
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    if (n <= 32)
        copy_little(to, from, n);
    else if ((uintptr_t)to - (uintptr_t)from >= n)
        copy_upwards(to, from, n);
    else
        copy_downwards(to, from, n);
    return to;
}

/* The sign of one - other at the first byte that differs, bytes as numbers from 0 to 255. */
int memcmp(const void *one, const void *other, size_t n)
{
    const unsigned char *a = one, *b = other;
    for (; n >= 16; n -= 16, a += 16, b += 16) {
        int same = _mm_movemask_epi8(_mm_cmpeq_epi8(load((const char *)a), load((const char *)b)));
        if (same != 0xffff) {
            int at = __builtin_ctz(~(unsigned)same);
            return a[at] - b[at];
        }
    }
    if (n >= 8) {
        /* The first byte counts most. */
        uint64_t p = __builtin_bswap64(((const eight *)a)->is), q = __builtin_bswap64(((const eight *)b)->is);
        if (p != q)
            return p < q ? -1 : 1;
        n -= 8, a += 8, b += 8;
    }
    for (; n > 0; n--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}
