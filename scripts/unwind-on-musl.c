/* What gcc's unwinder asks of the C library, for static programs on musl.
 *
 * Debian's libgcc_eh is built for glibc and finds a function's unwinding table by _dl_find_object (glibc 2.35,
 * dlfcn.h), which musl does not have. A static program is one object, so the answer is its own table, as its
 * program headers tell. scripts/build-static compiles this where it builds with Debian's own compiler. */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>

/* The layout of glibc's struct dl_find_object on x86-64. */
struct found {
    unsigned long long flags;
    void *map_start;
    void *map_end;
    void *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

static int look(struct dl_phdr_info *object, size_t size, void *out)
{
    struct found *found = out;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        char *start = (char *)object->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_GNU_EH_FRAME)
            found->eh_frame = start;
        if (part->p_type == PT_LOAD) {
            if (found->map_start == NULL || start < (char *)found->map_start)
                found->map_start = start;
            if (start + part->p_memsz > (char *)found->map_end)
                found->map_end = start + part->p_memsz;
        }
    }
    return 1;
}

int _dl_find_object(void *address, struct found *found)
{
    *found = (struct found){0};
    dl_iterate_phdr(look, found);
    if (found->eh_frame == NULL || address < found->map_start || address >= found->map_end)
        return -1;
    return 0;
}
