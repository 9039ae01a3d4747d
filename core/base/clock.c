/* clock: time. */
#include "core/clock.h"

#include <time.h>

static int64_t clock_us(clockid_t id) {
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_mono_us(void) { return clock_us(CLOCK_BOOTTIME); }
int64_t clock_wall_us(void) { return clock_us(CLOCK_REALTIME); }

void clock_sleep_ms(int ms) {
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&ts, NULL);
}
