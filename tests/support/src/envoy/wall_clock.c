/* Preloaded into an Envoy: its wall clock is ahead by as many seconds as stand in a file that is mapped into memory, so
 * that a change is a step that is seen at once. Every other clock is the kernel's. Waits until a wall time are the
 * kernel's too; Envoy's timers do not wait so.
 *
 * libfaketime would do the same, but Envoy's allocator calls poll while it sets itself up, and libfaketime looks its
 * symbols up there, which allocates: a deadlock before main. So nothing is looked up here, the kernel is called. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *ahead;

__attribute__((constructor)) static void map_file(void) {
    const char *file = getenv("WALL_CLOCK_AHEAD");
    int opened = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, opened, 0);
    if (mapped == MAP_FAILED)
        abort();
    ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now) != 0)
        return -1;
    /* The allocator asks before there is a file. */
    if (ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += *ahead;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    if (now)
        *now = exact.tv_sec;
    return exact.tv_sec;
}
