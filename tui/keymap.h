/*
 * keymap - from keys to commands, by context, innermost first.
 *
 *     struct keymap *km = keymap_new(cmds, ncmds);
 *     const char *path[] = {"chart", "run", "global"};
 *     enum km_state st;
 *     const struct cmd *c = keymap_key(km, path, 3, ev->key, &st);
 *     if (c && !(c->enabled && c->enabled(app))) c->run(app, "");
 *
 * A chord (g g) is remembered between calls; keymap_pending() shows it. UI
 * thread only.
 */
#ifndef FETTLE_TUI_KEYMAP_H
#define FETTLE_TUI_KEYMAP_H

#include "tui/cmd.h"
#include "tui/input.h"
#include "tui/surf.h"

struct keymap;

enum km_state {
    KM_NONE,    /* bound to nothing (a started chord is dropped) */
    KM_PENDING, /* a chord has begun */
    KM_FOUND
};

/* Borrows the table. NULL when memory is short. */
struct keymap *keymap_new(const struct cmd *c, int n);
void keymap_free(struct keymap *km);
const struct cmd *keymap_key(struct keymap *km, const char *const *path,
                             int npath, uint32_t key, enum km_state *st);
/* Forgets a started chord. */
void keymap_reset(struct keymap *km);
/* The keys of a started chord, "" when none; borrowed. */
const char *keymap_pending(const struct keymap *km);

/* The first key of a command as help shows it ("C-p", "g g"); "" = none. */
size_t keymap_keys(const struct cmd *c, char *buf, size_t cap, bool all);

/* Draws the hint bar of a path into one row: " ⏎ open  A add  ? help". Whole
 * hints only, the innermost context first, disabled ones dim. Each is a hit
 * region {hit_cmd, index into the table}. */
void keymap_hints(struct keymap *km, const char *const *path, int npath,
                  void *app, struct surf *s, int x, int y, int w, int hit_cmd);

/* What help lists: commands of the path in order, as (context, command);
 * search "" = all. Returns how many were written to out[max]. */
int keymap_help(struct keymap *km, const char *const *path, int npath,
                const char *search, const struct cmd **out, int max);

#endif
