/*
 * seam - places between characters that no token lies across. Merges on both
 * sides of one know nothing of each other, so that a long word is encoded part
 * by part, and the parts are few and remembered.
 *
 *     struct seams *m = seams_new();
 *     seams_add(m, "\xe4\xb8\xad\xe5", 4);        for each token, as bytes
 *     end = seams_next(m, s, at, len);            the part that begins at `at`
 *
 * Immutable after the last seams_add(); any thread.
 */
#ifndef FETTLE_CORE_TEXT_SEAM_H
#define FETTLE_CORE_TEXT_SEAM_H

#include <stddef.h>

struct seams;
struct seams *seams_new(void);
void seams_free(struct seams *m);
void seams_add(struct seams *m, const char *token, size_t len);
/* s: (len) of valid UTF-8. The first place behind `at` where no token that was
 * added can lie across, or len. */
size_t seams_next(const struct seams *m, const char *s, size_t at, size_t len);

#endif
