/*
 * clock - the one place that reads time. Any thread.
 *
 * Deadlines, leases and rates use the monotonic clock; rows keep wall time
 * for display only, since order never depends on it.
 */
#ifndef FETTLE_CORE_CLOCK_H
#define FETTLE_CORE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_us(void); /* never goes back; no epoch */
int64_t clock_wall_us(void); /* since 1970, UTC */
void clock_sleep_ms(int ms); /* returns early on a signal */

#endif
