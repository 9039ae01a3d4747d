/* keymap.c - the table's keys parsed once, looked up by context. */
#include "tui/keymap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bind {
    const struct cmd *cmd;
    uint32_t key[CMD_CHORD_MAX];
    int n;
};

struct keymap {
    const struct cmd *cmd;
    int ncmd;
    struct bind *bind;
    int nbind;
    uint32_t pending[CMD_CHORD_MAX];
    int npending;
    char shown[64];
};

struct keymap *keymap_new(const struct cmd *c, int n) {
    struct keymap *km = calloc(1, sizeof *km);
    int total = 0;
    uint32_t key[CMD_CHORD_MAX];
    if (!km)
        return NULL;
    for (int i = 0; i < n; i++)
        for (const char *k = c[i].keys; cmd_keys_next(&k, key) > 0;)
            total++;
    km->cmd = c;
    km->ncmd = n;
    km->bind = calloc((size_t)total + 1, sizeof *km->bind);
    if (!km->bind) {
        free(km);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        const char *k = c[i].keys;
        for (;;) {
            struct bind *b = &km->bind[km->nbind];
            b->n = cmd_keys_next(&k, b->key);
            if (b->n <= 0)
                break;
            b->cmd = &c[i];
            km->nbind++;
        }
    }
    return km;
}

void keymap_free(struct keymap *km) {
    if (!km)
        return;
    free(km->bind);
    free(km);
}

void keymap_reset(struct keymap *km) { km->npending = 0; }

/* The first binding of n keys along the path; *is_more: one begins so. */
static const struct cmd *look_up(const struct keymap *km,
                                 const char *const *path, int npath,
                                 const uint32_t *key, int n, bool *is_more) {
    *is_more = false;
    for (int p = 0; p < npath; p++)
        for (int i = 0; i < km->nbind; i++) {
            const struct bind *b = &km->bind[i];
            if (b->n < n || strcmp(b->cmd->context, path[p]) != 0 ||
                memcmp(b->key, key, (size_t)n * sizeof *key) != 0)
                continue;
            if (b->n == n)
                return b->cmd;
            *is_more = true;
            return NULL;
        }
    return NULL;
}

const struct cmd *keymap_key(struct keymap *km, const char *const *path,
                             int npath, uint32_t key, enum km_state *st) {
    bool is_more;
    km->pending[km->npending++] = key;
    const struct cmd *c =
        look_up(km, path, npath, km->pending, km->npending, &is_more);
    *st = c ? KM_FOUND : is_more ? KM_PENDING : KM_NONE;
    if (*st != KM_PENDING || km->npending == CMD_CHORD_MAX)
        km->npending = 0;
    return c;
}

const char *keymap_pending(const struct keymap *km) {
    struct keymap *w = (struct keymap *)km; /* shown is only a cache */
    size_t len = 0;
    w->shown[0] = 0;
    for (int i = 0; i < km->npending && len + 16 < sizeof w->shown; i++) {
        if (i > 0)
            w->shown[len++] = ' ';
        len += key_name(km->pending[i], w->shown + len, sizeof w->shown - len);
    }
    return w->shown;
}

size_t keymap_keys(const struct cmd *c, char *buf, size_t cap, bool all) {
    uint32_t key[CMD_CHORD_MAX];
    size_t len = 0;
    int n, alternatives = 0;
    if (cap == 0)
        return 0;
    buf[0] = 0;
    for (const char *k = c->keys; (n = cmd_keys_next(&k, key)) > 0;) {
        if (alternatives++ > 0 && !all)
            break;
        for (int i = 0; i < n; i++) {
            char name[32];
            key_name(key[i], name, sizeof name);
            size_t need = strlen(name) + 3;
            if (len + need >= cap)
                return len;
            len += (size_t)snprintf(buf + len, cap - len, "%s%s",
                                    len == 0 ? ""
                                    : i == 0 ? "  "
                                             : " ",
                                    name);
        }
    }
    return len;
}

/* ---- hint bar ---- */

struct hint {
    char key[24];
    const char *label;
    int w; /* cells of both with a blank between */
};

static struct hint hint_of(const struct cmd *c) {
    struct hint h = {.label = c->hint};
    const char *blank = strchr(c->hint, ' ');
    if (blank) { /* it brings its own keys */
        snprintf(h.key, sizeof h.key, "%.*s", (int)(blank - c->hint), c->hint);
        h.label = blank + 1;
    } else {
        keymap_keys(c, h.key, sizeof h.key, false);
        if (strcmp(h.key, "Enter") == 0)
            snprintf(h.key, sizeof h.key, "⏎");
        else if (strcmp(h.key, "Space") == 0)
            snprintf(h.key, sizeof h.key, "␣");
    }
    h.w = text_width(h.key) + 1 + text_width(h.label);
    return h;
}

/* Its key still means it here, and is not taken by an inner context. */
static bool reaches(const struct keymap *km, const char *const *path, int npath,
                    const struct cmd *c) {
    uint32_t key[CMD_CHORD_MAX];
    const char *k = c->keys;
    bool is_more;
    int n = cmd_keys_next(&k, key);
    return n > 0 && look_up(km, path, npath, key, n, &is_more) == c;
}

static int put_hint(const struct keymap *km, const struct cmd *c, void *app,
                    struct surf *s, int x, int y, int hit_cmd) {
    struct hint h = hint_of(c);
    bool is_off = c->enabled && c->enabled(app);
    int kw = surf_text(s, x, y, h.w, is_off ? ROLE_DIM : ROLE_KEY, h.key);
    surf_text(s, x + kw + 1, y, h.w - kw - 1, is_off ? ROLE_DIM : ROLE_TEXT,
              h.label);
    if (hit_cmd)
        surf_hit(s, (struct rect){x, y, h.w, 1}, hit_cmd, c - km->cmd);
    return h.w;
}

void keymap_hints(struct keymap *km, const char *const *path, int npath,
                  void *app, struct surf *s, int x, int y, int w, int hit_cmd) {
    const struct cmd *help = cmd_find(km->cmd, km->ncmd, "help");
    int end = x + w, at = x + 1;
    if (help && *help->hint)
        end -= hint_of(help).w + 2;
    else
        help = NULL;
    for (int p = 0; p < npath; p++)
        for (int i = 0; i < km->ncmd; i++) {
            const struct cmd *c = &km->cmd[i];
            if (c == help || !*c->hint || c->flags & CMD_HIDDEN ||
                strcmp(c->context, path[p]) != 0 ||
                !reaches(km, path, npath, c))
                continue;
            if (at + hint_of(c).w > end)
                continue;
            at += put_hint(km, c, app, s, at, y, hit_cmd) + 2;
        }
    if (help && at + hint_of(help).w <= x + w)
        put_hint(km, help, app, s, at, y, hit_cmd);
}

int keymap_help(struct keymap *km, const char *const *path, int npath,
                const char *search, const struct cmd **out, int max) {
    int n = 0;
    for (int p = 0; p < npath; p++)
        for (int i = 0; i < km->ncmd && n < max; i++) {
            const struct cmd *c = &km->cmd[i];
            if (!(c->flags & CMD_HIDDEN) && *c->keys &&
                strcmp(c->context, path[p]) == 0 && cmd_score(c, search) > 0)
                out[n++] = c;
        }
    return n;
}
