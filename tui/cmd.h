/*
 * cmd - commands as data. Keys, hint bar, help, palette and the `:` line all
 * come from one table of these.
 *
 * The rule of the whole screen: lower-case looks, upper-case acts. A command
 * that changes the world says CMD_MUTATES and sits on capital letters (or on
 * none); cmd_check() proves it for a table. vim's motions G and N are the one
 * exception and say CMD_MOTION.
 *
 *     static const struct cmd cmds[] = {
 *         {"view.jobs", "Jobs", "all runs", "1", "global", 0, "", NULL, go},
 *         {"job.pause", "Pause or resume", "…", "Z", "jobs", CMD_MUTATES,
 *          "pause", can_pause, pause},
 *     };
 *
 * Constant tables, borrowed for ever. Any thread.
 */
#ifndef FETTLE_TUI_CMD_H
#define FETTLE_TUI_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CMD_MUTATES 1     /* changes something outside this screen */
#define CMD_DESTRUCTIVE 2 /* asks for the name to be typed */
#define CMD_SPENDS 4      /* uses money or device time */
#define CMD_HIDDEN 8      /* not in help or palette */
#define CMD_MOTION 16     /* moves only, though its key is a capital */
#define CMD_ARGS 32       /* wants arguments: the palette opens the `:` line */

struct cmd {
    const char *id;      /* "job.pause", unique */
    const char *title;   /* <= 40 cells */
    const char *doc;     /* one line */
    const char *keys;    /* "j Down", chords in parentheses: "(g g) Home"; "" */
    const char *context; /* where the keys mean this: "global", "list", … */
    unsigned flags;
    const char *hint; /* for the hint bar: "open", or with keys of its own
                         before a blank, "h/l cursor"; "" = not there */
    /* NULL when it can run now, else why not (shown greyed). May be NULL. */
    const char *(*enabled)(void *app);
    /* args: what followed the command on the `:` line, or "". */
    void (*run)(void *app, const char *args);
};

/* The command with this id, or NULL. */
const struct cmd *cmd_find(const struct cmd *c, int n, const char *id);
/* Finds the command that a `:` line names: its id, the id's last part, or the
 * first word of its title in lower case ("pause", "job.pause"); *args is set
 * behind it. NULL when none or more than one fit. */
const struct cmd *cmd_parse(const struct cmd *c, int n, const char *line,
                            const char **args);
/* Fuzzy score of a search over title, id and doc; 0 = no match, more is
 * better. The empty search scores 1. */
int cmd_score(const struct cmd *c, const char *search);

#define CMD_CHORD_MAX 4
/* Takes the next alternative off a `keys` text: returns how many keys it has
 * (a chord has more than one), 0 at the end, -1 when it names no key. */
int cmd_keys_next(const char **keys, uint32_t key[CMD_CHORD_MAX]);

/* Walks a table: unique ids, keys that exist, no key twice in one context,
 * capitals act and nothing else does, titles and docs in bounds. Returns the
 * number of faults; the first is described in why. */
int cmd_check(const struct cmd *c, int n, char *why, size_t cap);

#endif
