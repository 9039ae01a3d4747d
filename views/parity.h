/*
 * parity - the stored comparisons of models' renderers with their chat
 * templates: HOME/models/NAME.parity.json, as render_parity() makes them.
 *
 *     json_t *j = parity_read(home, "Qwen/Qwen3-0.6B");   // NULL: none
 *     char *line = parity_line(j);   // "qwen3: 40 of 51 scenarios equal …"
 *
 * A struct parity_cache belongs to one thread; what it gives is immutable.
 */
#ifndef FETTLE_VIEWS_PARITY_H
#define FETTLE_VIEWS_PARITY_H

#include <jansson.h>

/* These two are the caller's. */
char *parity_path(const char *home, const char *name);
json_t *parity_read(const char *home, const char *name);
/* One line, the caller's: counts, and scenarios that differ. */
char *parity_line(const json_t *report);
/* "40/51", with "!" where differences are not known ones; "-" for none. */
void parity_brief(const json_t *report, char *buf, size_t cap);

/* Reports that are read again only when their file changed. */
struct parity_cache;
struct parity_cache *parity_cache_new(void);
void parity_cache_free(struct parity_cache *c);
/* The caller's reference, or NULL. */
json_t *parity_cached(struct parity_cache *c, const char *home,
                      const char *name);

#endif
