/* flow: pieces are in the order of lines, so that drawing finds its first by
 * halving. A newline is shown as ↵ where it stands, then ends the line. */
#include "views/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUTTER 1
#define TEXT_MAX (1u << 30)

enum role flow_role(uint8_t origin, bool is_control, bool is_trained) {
    static const enum role roles[2][ORIGIN_NONE + 2] = {
        {ROLE_FORM, ROLE_FRAME, ROLE_BODY, ROLE_BODY, ROLE_SIGNAL},
        {ROLE_FORM_ON, ROLE_FRAME_ON, ROLE_BODY_ON, ROLE_BODY_ON,
         ROLE_SIGNAL_ON},
    };
    return roles[is_trained][is_control ? ORIGIN_NONE + 1 : origin];
}

static void end_line(struct flow *f) {
    f->lines++;
    f->x = 0;
}

/* Room for a piece of w cells on this line, or on the next. */
static void need(struct flow *f, int w) {
    if (f->x > 0 && f->x + w > f->w - GUTTER)
        end_line(f);
}

static struct flow_piece *add(struct flow *f, enum role role,
                              const struct inspect_token *t, const char *s,
                              size_t len) {
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : 256;
        f->piece = realloc(f->piece, f->cap * sizeof *f->piece);
        CHECK(f->piece, "out of memory for %zu pieces", f->cap);
    }
    struct flow_piece *p = &f->piece[f->n++];
    *p = (struct flow_piece){.line = f->lines,
                             .x = f->x + GUTTER,
                             .at = f->text.len,
                             .len = len,
                             .role = role,
                             .is_token = t != NULL,
                             .is_trained = t && t->weight != 0};
    buf_bytes(&f->text, s, len);
    return p;
}

/* The text of tokens that look alike, cut where lines end. */
static void put_text(struct flow *f, enum role role,
                     const struct inspect_token *t, const char *s, size_t n) {
    struct cluster c;
    for (size_t from = 0, i = 0; i < n; from = i) {
        int x = f->x;
        bool is_end = false;
        while (i < n && !is_end) {
            size_t step = text_next(s + i, n - i, &c);
            is_end = s[i] == '\n';
            if (!is_end && x + c.width > f->w - GUTTER)
                break;
            x += is_end ? 0 : c.width;
            i += step;
        }
        if (i == from && x == 0) /* wider than the line: as the grid cuts it */
            i += text_next(s + i, n - i, &c);
        size_t len = i - from - is_end;
        if (len > 0 || is_end)
            add(f, role, t, s + from, len);
        if (is_end)
            buf_puts(&f->text, "↵");
        if (is_end)
            f->piece[f->n - 1].len += strlen("↵");
        f->x = x;
        if (is_end || i < n)
            end_line(f);
    }
}

static enum role role_of(const struct inspect_token *t) {
    return flow_role(t->origin, t->is_control, t->weight != 0);
}

static void flow_text(struct flow *f, const struct inspect *x) {
    for (size_t i = 0, end; i < x->n; i = end) {
        const struct inspect_token *t = &x->token[i];
        end = inspect_run(x, i);
        const struct inspect_token *last = &x->token[end - 1];
        put_text(f, role_of(t), t, x->text + t->text,
                 last->text + last->len - t->text);
    }
}

static void flow_ids(struct flow *f, const struct inspect *x) {
    char id[16];
    for (size_t i = 0; i < x->n; i++) {
        int n = snprintf(id, sizeof id, "%u", x->token[i].id);
        need(f, n);
        add(f, role_of(&x->token[i]), &x->token[i], id, (size_t)n);
        f->x += n + 1;
    }
}

/* A token's text with its blanks seen. */
static void put_seen(struct flow *f, const struct inspect_token *t,
                     const char *text) {
    struct flow_piece *p = add(f, role_of(t), t, "", 0);
    for (const char *s = text; s < text + t->len; s++)
        if (*s == '\n')
            buf_puts(&f->text, "↵");
        else if (*s == ' ')
            buf_puts(&f->text, "·");
        else if (*s == '\t')
            buf_puts(&f->text, "→");
        else
            buf_bytes(&f->text, s, 1);
    p->len = f->text.len - p->at;
    if (t->len)
        return;
    static const char part[] = "(part of the next)";
    p->role = ROLE_DIM;
    p->len = strlen(part);
    buf_puts(&f->text, part);
}

static void flow_facts(struct flow *f, const struct inspect *x) {
    char facts[96];
    int n = snprintf(facts, sizeof facts, "%5s %6s %4s %-8s  %s", "TOKEN", "ID",
                     "W", "ORIGIN", "TEXT");
    add(f, ROLE_HEAD, NULL, facts, (size_t)n);
    end_line(f);
    for (size_t i = 0; i < x->n; i++) {
        const struct inspect_token *t = &x->token[i];
        n = snprintf(facts, sizeof facts, "%5zu %6u %4g %-8s%c ", i, t->id,
                     (double)t->weight, inspect_origin(t->origin),
                     t->is_control ? '*' : ' ');
        add(f, ROLE_DIM, t, facts, (size_t)n);
        f->x += n;
        put_seen(f, t, x->text + t->text);
        end_line(f);
    }
}

static void put_head(struct flow *f, const struct inspect *x, size_t i,
                     size_t n) {
    char head[160];
    size_t len = (size_t)snprintf(head, sizeof head,
                                  "example %zu of %zu: %zu tokens, %zu trained",
                                  i + 1, n, x->n + x->hidden, x->trained);
    if (x->lost)
        len += (size_t)snprintf(head + len, sizeof head - len, ", %zu cut off",
                                x->lost);
    add(f, ROLE_TITLE, NULL, head, len);
    end_line(f);
}

static void put_hidden(struct flow *f, const struct inspect *x) {
    char text[80];
    size_t n = (size_t)snprintf(text, sizeof text,
                                "… %zu more tokens are not shown", x->hidden);
    add(f, ROLE_WARN, NULL, text, n);
    end_line(f);
}

int flow_make(struct flow *f, const struct inspect *example, size_t n, int w,
              enum show how) {
    static void (*const lay[SHOW_N])(struct flow *, const struct inspect *) = {
        [SHOW_TEXT] = flow_text,
        [SHOW_IDS] = flow_ids,
        [SHOW_FACTS] = flow_facts,
    };
    *f = (struct flow){.w = w};
    buf_init(&f->text, TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        if (n > 1)
            put_head(f, &example[i], i, n);
        lay[how](f, &example[i]);
        if (f->x > 0)
            end_line(f);
        if (example[i].hidden)
            put_hidden(f, &example[i]);
    }
    return f->lines;
}

void flow_release(struct flow *f) {
    free(f->piece);
    buf_release(&f->text);
    *f = (struct flow){0};
}

/* The first piece that is not before `line`. */
static size_t piece_of(const struct flow *f, int line) {
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (f->piece[mid].line < line)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct flow_line flow_line(const struct flow *f, int line) {
    size_t from = piece_of(f, line), i = from, trained = 0, tokens = 0;
    for (; i < f->n && f->piece[i].line == line; i++) {
        trained += f->piece[i].is_trained;
        tokens += f->piece[i].is_token;
    }
    return (struct flow_line){.piece = f->piece + from,
                              .n = i - from,
                              .mark = tokens == 0         ? ""
                                      : trained == 0      ? "░"
                                      : trained == tokens ? "█"
                                                          : "▒",
                              .mark_role = trained ? ROLE_BODY_ON : ROLE_DIM};
}

void flow_draw(const struct flow *f, struct surf *s, struct rect r, int first) {
    struct rect old = surf_clip(s, r);
    for (int y = 0; y < r.h; y++) {
        struct flow_line l = flow_line(f, first + y);
        surf_text(s, r.x, r.y + y, GUTTER, l.mark_role, l.mark);
        for (size_t i = 0; i < l.n; i++)
            surf_textn(s, r.x + l.piece[i].x, r.y + y, r.w - l.piece[i].x,
                       l.piece[i].role,
                       (const char *)f->text.data + l.piece[i].at,
                       l.piece[i].len);
    }
    surf_unclip(s, old);
}
