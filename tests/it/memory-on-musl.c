/* Holds scripts/memory-on-musl.c against loops that are too plain to be wrong. Every size up to a few pieces at every
 * place, in memory that ends where it ends: the compiler's own guard ends the program that reaches beyond.
 * Says how many checks held. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *ours_memcpy(void *restrict to, const void *restrict from, size_t n);
void *ours_memmove(void *to, const void *from, size_t n);
int ours_memcmp(const void *one, const void *other, size_t n);

static unsigned long checks;

static void holds(int does, const char *what, size_t n, size_t place)
{
    checks++;
    if (!does) {
        printf("%s of %zu bytes at %zu is wrong\n", what, n, place);
        exit(1);
    }
}

static unsigned char *filled(size_t n, unsigned seed)
{
    unsigned char *bytes = malloc(n ? n : 1);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        bytes[i] = (unsigned char)(seed >> 16);
    }
    return bytes;
}

static int sign(int number) { return (number > 0) - (number < 0); }

static void sizes(size_t n)
{
    /* Memory of just this size, so that the byte behind it is not ours. */
    unsigned char *from = filled(n, (unsigned)n + 1), *to = malloc(n ? n : 1);
    holds(ours_memcpy(to, from, n) == to, "memcpy's answer", n, 0);
    for (size_t i = 0; i < n; i++)
        holds(to[i] == from[i], "memcpy", n, i);
    holds(ours_memcmp(to, from, n) == 0, "memcmp of the same", n, 0);
    for (size_t i = 0; i < n; i++) {
        unsigned char was = to[i];
        to[i] ^= 0x80;
        /* What follows says the contrary and must not count. */
        if (i + 1 < n)
            to[i + 1] = (unsigned char)~to[i + 1];
        holds(sign(ours_memcmp(to, from, n)) == (to[i] > from[i] ? 1 : -1), "memcmp", n, i);
        to[i] = was;
        if (i + 1 < n)
            to[i + 1] = from[i + 1];
    }
    free(from);
    free(to);
}

static void overlaps(size_t n, size_t by)
{
    for (int upwards = 0; upwards < 2; upwards++) {
        unsigned char *bytes = filled(n + by, 7), *was = filled(n + by, 7);
        unsigned char *to = upwards ? bytes + by : bytes;
        holds(ours_memmove(to, upwards ? bytes : bytes + by, n) == to, "memmove's answer", n, by);
        for (size_t i = 0; i < n; i++)
            holds(to[i] == was[upwards ? i : i + by], upwards ? "memmove upwards" : "memmove downwards", n, by);
        for (size_t i = 0; i < by; i++)
            holds(bytes[upwards ? i : n + i] == was[upwards ? i : n + i], "memmove beside", n, by);
        free(bytes);
        free(was);
    }
}

int main(void)
{
    for (size_t n = 0; n <= 200; n++)
        sizes(n);
    sizes(4096);
    for (size_t n = 0; n <= 140; n++)
        for (size_t by = 0; by <= 140; by++)
            overlaps(n, by);
    overlaps(70000, 1);
    overlaps(70000, 4096);
    printf("%lu checks held\n", checks);
    return 0;
}
