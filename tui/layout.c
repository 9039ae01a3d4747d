/*
 * layout.c - each box places its kids: drop what does not fit, give all their
 * minimum, share the rest by weight up to the maximums.
 */
#include "tui/layout.h"

#include <limits.h>
#include <stddef.h>

static int maxi(int a, int b) { return a > b ? a : b; }
static int mini(int a, int b) { return a < b ? a : b; }

/* The least size of a box with all its kids, along x or y. */
static int least(const struct lay *b, bool x) {
    int own = x ? b->min_w : b->min_h, need = 0, n = 0;
    if (b->dir == LAY_PANE)
        return own;
    for (int i = 0; i < b->n; i++) {
        const struct lay *k = b->kid[i];
        if (k->hidden)
            continue;
        int v = least(k, x);
        if ((b->dir == LAY_ROW) == x)
            need += v + (n > 0 ? b->gap : 0);
        else
            need = maxi(need, v);
        n++;
    }
    return maxi(own, need);
}

static void hide(struct lay *b) {
    b->shown = false;
    b->r = (struct rect){0};
    for (int i = 0; i < b->n && b->dir != LAY_PANE; i++)
        hide(b->kid[i]);
}

/* Index of the kid to drop: lowest prio, the later among equals. across > 0:
 * only those that need more than that crosswise. */
static int weakest(const struct lay *b, bool x, int across) {
    int found = -1;
    for (int i = 0; i < b->n; i++) {
        const struct lay *k = b->kid[i];
        /* A box can drop kids of its own; a pane that is too high cannot. */
        bool is_bad =
            across < 0 || (k->dir == LAY_PANE && least(k, !x) > across);
        if (k->shown && is_bad && (found < 0 || k->prio <= b->kid[found]->prio))
            found = i;
    }
    return found;
}

static int count_shown(const struct lay *b, bool x, int *need) {
    int n = 0;
    *need = 0;
    for (int i = 0; i < b->n; i++)
        if (b->kid[i]->shown) {
            *need += least(b->kid[i], x) + (n > 0 ? b->gap : 0);
            n++;
        }
    return n;
}

static void drop(struct lay *b, bool x, int room, int across) {
    int need, n = count_shown(b, x, &need), i;
    while (n > 1 && (i = weakest(b, x, across)) >= 0) {
        hide(b->kid[i]);
        n--;
    }
    while ((n = count_shown(b, x, &need)) > 1 && need > room)
        hide(b->kid[weakest(b, x, -1)]);
}

/* Gives what is left to who may grow, by weight. */
static void share(const struct lay *b, bool x, int left, int *size) {
    while (left > 0) {
        int sum = 0, given = 0;
        for (int i = 0; i < b->n; i++) {
            const struct lay *k = b->kid[i];
            int max = x ? k->max_w : k->max_h;
            if (k->shown && (max <= 0 || size[i] < max))
                sum += maxi(k->weight, 1);
        }
        if (sum == 0)
            return;
        for (int i = 0; i < b->n && given < left; i++) {
            const struct lay *k = b->kid[i];
            int max = x ? k->max_w : k->max_h;
            if (!k->shown || (max > 0 && size[i] >= max))
                continue;
            int part = (int)((int64_t)left * maxi(k->weight, 1) / sum);
            part = mini(maxi(part, 1), left - given);
            if (max > 0)
                part = mini(part, max - size[i]);
            size[i] += part;
            given += part;
        }
        left -= given;
    }
}

static void place(struct lay *b, struct rect area) {
    b->shown = area.w > 0 && area.h > 0;
    b->r = area;
    if (!b->shown) {
        hide(b);
        return;
    }
    if (b->dir == LAY_PANE)
        return;
    bool x = b->dir == LAY_ROW;
    int room = x ? area.w : area.h, across = x ? area.h : area.w;
    int size[LAY_KIDS_MAX] = {0}, need, n;
    if (b->n > LAY_KIDS_MAX)
        b->n = LAY_KIDS_MAX;
    for (int i = 0; i < b->n; i++) {
        hide(b->kid[i]);
        b->kid[i]->shown = !b->kid[i]->hidden;
    }
    drop(b, x, room, across);
    n = count_shown(b, x, &need);
    for (int i = 0; i < b->n; i++)
        if (b->kid[i]->shown)
            size[i] =
                n == 1 ? mini(least(b->kid[i], x), room) : least(b->kid[i], x);
    share(b, x, room - mini(need, room), size);
    int at = x ? area.x : area.y;
    for (int i = 0; i < b->n; i++) {
        struct lay *k = b->kid[i];
        if (!k->shown)
            continue;
        int wide = x ? k->max_h : k->max_w;
        wide = wide > 0 ? mini(wide, across) : across;
        place(k, x ? (struct rect){at, area.y, size[i], wide}
                   : (struct rect){area.x, at, wide, size[i]});
        at += size[i] + b->gap;
    }
}

void lay_solve(struct lay *root, struct rect area) {
    if (root->hidden)
        hide(root);
    else
        place(root, area);
}

struct lay *lay_find(struct lay *root, int id) {
    if (root->id == id)
        return root;
    for (int i = 0; i < root->n && root->dir != LAY_PANE; i++) {
        struct lay *f = lay_find(root->kid[i], id);
        if (f)
            return f;
    }
    return NULL;
}

struct lay *lay_at(struct lay *root, int x, int y) {
    if (!root->shown || !rect_has(root->r, x, y))
        return NULL;
    if (root->dir == LAY_PANE)
        return root;
    for (int i = 0; i < root->n; i++) {
        struct lay *f = lay_at(root->kid[i], x, y);
        if (f)
            return f;
    }
    return NULL;
}

void lay_lines(const struct lay *root, struct surf *s) {
    if (!root->shown || root->dir == LAY_PANE)
        return;
    bool is_first = true;
    for (int i = 0; i < root->n; i++) {
        const struct lay *k = root->kid[i];
        if (!k->shown)
            continue;
        if (!is_first && root->dir == LAY_ROW && root->gap > 0)
            surf_vline(s, k->r.x - 1, root->r.y, root->r.h, ROLE_RULE);
        is_first = false;
        lay_lines(k, s);
    }
}
