/* cmd.c - finding, ranking and checking commands of a table. */
#include "tui/cmd.h"
#include "tui/input.h"
#include "tui/width.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct cmd *cmd_find(const struct cmd *c, int n, const char *id) {
    for (int i = 0; i < n; i++)
        if (strcmp(c[i].id, id) == 0)
            return &c[i];
    return NULL;
}

static bool same_word(const char *a, const char *b, size_t nb) {
    for (size_t i = 0; i < nb; i++)
        if (!a[i] ||
            tolower((unsigned char)a[i]) != tolower((unsigned char)b[i]))
            return false;
    return a[nb] == 0 || a[nb] == ' ';
}

const struct cmd *cmd_parse(const struct cmd *c, int n, const char *line,
                            const char **args) {
    while (*line == ' ')
        line++;
    size_t k = strcspn(line, " ");
    const struct cmd *found = NULL;
    *args = line + k + strspn(line + k, " ");
    if (k == 0)
        return NULL;
    /* An exact id first, then last parts, then first words of titles. */
    for (int pass = 0; pass < 3; pass++) {
        int hits = 0;
        for (int i = 0; i < n; i++) {
            const char *dot = strrchr(c[i].id, '.');
            const char *name = pass == 0   ? c[i].id
                               : pass == 1 ? (dot ? dot + 1 : c[i].id)
                                           : c[i].title;
            if (same_word(name, line, k)) {
                found = &c[i];
                hits++;
            }
        }
        if (hits == 1)
            return found;
        if (hits > 1)
            return NULL;
    }
    return NULL;
}

/* Subsequence score: word starts and runs count more, gaps less. */
static int fuzzy(const char *text, const char *search) {
    int score = 0, run = 0;
    const char *s = search;
    for (size_t i = 0; text[i] && *s; i++) {
        while (*s == ' ')
            s++;
        if (!*s)
            break;
        if (tolower((unsigned char)text[i]) == tolower((unsigned char)*s)) {
            bool is_start = i == 0 || !isalnum((unsigned char)text[i - 1]);
            score += is_start ? 12 : run ? 8 : 2;
            run++;
            s++;
        } else {
            run = 0;
        }
    }
    while (*s == ' ')
        s++;
    return *s ? 0 : score;
}

int cmd_score(const struct cmd *c, const char *search) {
    if (!search || !*search)
        return 1;
    int t = fuzzy(c->title, search) * 4, i = fuzzy(c->id, search) * 3;
    int best = t > i ? t : i;
    if (best == 0 && strcasestr(c->doc, search))
        best = 1;
    return best;
}

int cmd_keys_next(const char **keys, uint32_t key[CMD_CHORD_MAX]) {
    const char *s = *keys + strspn(*keys, " ");
    int n = 0;
    bool is_chord = *s == '(' && s[1] && s[1] != ' ';
    if (!*s) {
        *keys = s;
        return 0;
    }
    s += is_chord;
    do {
        s += strspn(s, " ");
        size_t k = strcspn(s, is_chord ? " )" : " ");
        if (k == 0 && is_chord && *s == ')')
            break;
        if (k == 0 || n == CMD_CHORD_MAX ||
            (key[n++] = key_parse(s, k)) == KEY_NONE)
            return -1;
        s += k;
    } while (is_chord && *s != ')');
    *keys = s + is_chord;
    return n;
}

struct faults {
    int n;
    char *why;
    size_t cap;
};

__attribute__((format(printf, 2, 3))) static void fault(struct faults *f,
                                                        const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (f->n++ == 0 && f->cap > 0)
        vsnprintf(f->why, f->cap, fmt, ap);
    va_end(ap);
}

static void check_letter(struct faults *f, const struct cmd *c, uint32_t key) {
    bool acts = c->flags & CMD_MUTATES;
    if (key >= 'A' && key <= 'Z' && !acts && !(c->flags & CMD_MOTION))
        fault(f, "%s: only looks, but sits on the capital %c", c->id,
              (char)key);
    if (acts && key > ' ' && key < 0x7f && !(key >= 'A' && key <= 'Z'))
        fault(f, "%s: changes things, but sits on %c", c->id, (char)key);
}

/* The same keys, or one the beginning of the other, in the same context. */
static void check_twice(struct faults *f, const struct cmd *a,
                        const struct cmd *b) {
    uint32_t ka[CMD_CHORD_MAX], kb[CMD_CHORD_MAX];
    int na, nb, k;
    if (strcmp(a->context, b->context) != 0)
        return;
    for (const char *pa = a->keys; (na = cmd_keys_next(&pa, ka)) > 0;)
        for (const char *pb = b->keys; (nb = cmd_keys_next(&pb, kb)) > 0;) {
            for (k = 0; k < na && k < nb && ka[k] == kb[k]; k++) {
            }
            if (k == na || k == nb)
                fault(f, "%s and %s: the same key in %s", a->id, b->id,
                      a->context);
        }
}

int cmd_check(const struct cmd *c, int n, char *why, size_t cap) {
    struct faults f = {0, why, cap};
    if (cap > 0)
        why[0] = 0;
    for (int i = 0; i < n; i++) {
        uint32_t key[CMD_CHORD_MAX];
        int k;
        const char *keys = c[i].keys;
        while ((k = cmd_keys_next(&keys, key)) > 0)
            for (int j = 0; j < k; j++)
                check_letter(&f, &c[i], key[j]);
        if (k < 0)
            fault(&f, "%s: no such key in \"%s\"", c[i].id, c[i].keys);
        if (text_width(c[i].title) > 40 || !*c[i].title)
            fault(&f, "%s: title empty or longer than 40 cells", c[i].id);
        if (!*c[i].doc || strchr(c[i].doc, '\n'))
            fault(&f, "%s: doc is not one line", c[i].id);
        if (!c[i].run)
            fault(&f, "%s: does nothing", c[i].id);
        for (int j = 0; j < i; j++) {
            if (strcmp(c[i].id, c[j].id) == 0)
                fault(&f, "%s: id used twice", c[i].id);
            check_twice(&f, &c[j], &c[i]);
        }
    }
    return f.n;
}
