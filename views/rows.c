/* rows: the inspector: one row of data at a time, each token by where it came
 * from and whether it is trained. */
#include "views/app_int.h"
#include "views/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rows {
    struct flow flow;
    struct page *page; /* what flow was made of, so wide: a reference */
    int w;
    enum show how, laid; /* as wanted, as flow is */
    int top, fits;       /* first line shown; lines that fit */
};

struct rows *rows_new(void) {
    return calloc(1, sizeof(struct rows));
}

void rows_free(struct rows *v) {
    if (!v)
        return;
    flow_release(&v->flow);
    page_unref(v->page);
    free(v);
}

/* The page of the source that is wanted; an older row's until the next is
 * read. NULL: nothing read yet. */
static struct page *page_here(const struct app *a) {
    struct page *g = a->snap->page;
    return g && page_same_source(&g->want, &a->page) ? g : NULL;
}

/* ---- moving ---- */

void rows_open_run(struct app *a, int64_t run) {
    if (a->page.run != run || *a->page.model)
        a->page = (struct page_want){.run = run, .row = 1};
    app_go(a, VIEW_ROWS);
}

void rows_open_model(struct app *a, const char *model, int64_t row) {
    a->page = (struct page_want){.row = row};
    snprintf(a->page.model, sizeof a->page.model, "%s", model);
    app_go(a, VIEW_ROWS);
}

static void other_file(struct app *a) {
    a->page.is_eval = !a->page.is_eval;
    a->page.row = 1;
}

void rows_go(struct app *a, int64_t row) {
    const struct page *g = page_here(a);
    if (row < 1)
        app_say(a, ROLE_DIM, "this is the first row");
    else if (g && g->is_all && row > g->rows)
        app_say(a, ROLE_DIM, "this is the last row");
    row = g && g->is_all && row > g->rows ? g->rows : row;
    a->page.row = row < 1 ? 1 : row;
}

void rows_arrived(struct app *a) {
    const struct page *g = page_here(a);
    if (g && g->want.row == a->page.row && g->row)
        a->page.row = g->row; /* one behind the end was asked for */
}

static void scroll(struct rows *v, int to) {
    int last = v->flow.lines - v->fits;
    v->top = to > last ? last : to;
    v->top = v->top < 0 ? 0 : v->top;
}

static bool key(struct app *a, const struct ev *ev) {
    struct rows *v = a->rows;
    int half = v->fits / 2 > 0 ? v->fits / 2 : 1;
    switch (ev->key) {
    case 'j':
    case KEY_DOWN: scroll(v, v->top + 1); return true;
    case 'k':
    case KEY_UP: scroll(v, v->top - 1); return true;
    case MOD_CTRL | 'd': scroll(v, v->top + half); return true;
    case MOD_CTRL | 'u': scroll(v, v->top - half); return true;
    case ' ':
    case MOD_CTRL | 'f':
    case KEY_PGDN: scroll(v, v->top + v->fits); return true;
    case MOD_CTRL | 'b':
    case KEY_PGUP: scroll(v, v->top - v->fits); return true;
    case 'g':
    case KEY_HOME: scroll(v, 0); return true;
    case 'G':
    case KEY_END: scroll(v, v->flow.lines); return true;
    case 'n': rows_go(a, a->page.row + 1); return true;
    case 'p': rows_go(a, a->page.row - 1); return true;
    case 'e': other_file(a); return true;
    case 'w': v->how = (enum show)((v->how + 1) % SHOW_N); return true;
    default: return false;
    }
}

/* ---- drawing ---- */

static void draw_title(const struct page *g, struct surf *s, struct rect r) {
    char title[700], right[96] = "";
    snprintf(title, sizeof title, "%s%s%s", g->source, *g->name ? ": " : "",
             g->name);
    if (g->row)
        snprintf(right, sizeof right, "row %lld/%lld%s", (long long)g->row,
                 (long long)g->rows, g->is_all ? "" : "+");
    if (g->line)
        snprintf(right + strlen(right), sizeof right - strlen(right),
                 " line %lld", (long long)g->line);
    surf_rule(s, r.x, r.y, r.w, true, title, *right ? right : NULL);
}

static void draw_facts(const struct app *a, const struct page *g,
                       struct surf *s, struct rect r) {
    static const char *const hows[SHOW_N] = {"text", "ids", "facts"};
    char where[64] = "", facts[200];
    const struct rows *v = a->rows;
    size_t n = (size_t)snprintf(facts, sizeof facts, "%zu tokens, %zu trained",
                                g->tokens, g->trained);
    if (g->lost)
        n += (size_t)snprintf(facts + n, sizeof facts - n, ", %zu cut off",
                              g->lost);
    if (*g->renderer)
        snprintf(facts + n, sizeof facts - n, "  %s", g->renderer);
    if (a->page.row != g->row && a->page.row != g->want.row)
        snprintf(facts, sizeof facts, "reading row %lld …",
                 (long long)a->page.row);
    int x =
        surf_text(s, r.x, r.y, r.w,
                  g->trained || !g->want.run ? ROLE_TEXT : ROLE_WARN, facts);
    if (v->flow.lines > v->fits)
        snprintf(where, sizeof where, "%d-%d of %d lines  ", v->top + 1,
                 v->top + v->fits, v->flow.lines);
    snprintf(where + strlen(where), sizeof where - strlen(where), "%s",
             hows[v->how]);
    int w = text_width(where);
    if (x + 2 + w <= r.w)
        surf_text(s, r.x + r.w - w, r.y, w, ROLE_DIM, where);
}

/* Each look as a word that looks so; the marks say it without colours. */
static void draw_legend(struct surf *s, struct rect r) {
    static const struct {
        const char *name;
        uint8_t origin;
        bool is_control;
    } looks[] = {{"template", ORIGIN_TEMPLATE, false},
                 {"header", ORIGIN_HEADER, false},
                 {"content", ORIGIN_CONTENT, false},
                 {"control", ORIGIN_TEMPLATE, true}};
    int x = r.x, n = (int)(sizeof looks / sizeof *looks);
    for (int on = 0; on < (r.w >= 110 ? 2 : 1); on++) {
        if (on)
            x += surf_text(s, x, r.y, r.w, ROLE_DIM, " trained: ");
        for (int i = 0; i < n; i++)
            x += 1 +
                 surf_text(s, x, r.y, r.w - x,
                           flow_role(looks[i].origin, looks[i].is_control, on),
                           looks[i].name);
    }
    if (r.w < 60)
        surf_text(s, x, r.y, r.w - x, ROLE_BODY_ON, "█trained");
    else
        surf_text(s, x, r.y, r.w - x, ROLE_DIM, " █ trained  ▒ in part  ░ not");
}

static void draw_nothing(const struct app *a, struct surf *s, struct rect r) {
    if (a->page.run || *a->page.model) {
        surf_rule(s, r.x, r.y, r.w, true, "Data", NULL);
        surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM, "reading …");
        return;
    }
    surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM, "No run, so no data to look at:");
    surf_text(s, r.x, r.y + 2, r.w, ROLE_DIM, "i in 7:Models shows a model's");
    surf_text(s, r.x, r.y + 3, r.w, ROLE_DIM, "scenarios token by token.");
}

/* Lays the page anew when it, the width or the manner is another. The place in
 * it stays while it is the same row. */
static void lay_page(struct rows *v, struct page *g, int w) {
    struct page *old = v->page;
    if (old == g && v->w == w && v->laid == v->how)
        return;
    bool is_same_row =
        old && old->row == g->row && page_same_source(&old->want, &g->want);
    v->top = is_same_row ? v->top : 0;
    v->page = page_ref(g);
    page_unref(old);
    v->w = w;
    v->laid = v->how;
    flow_release(&v->flow);
    flow_make(&v->flow, g->example, g->n, w, v->how);
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    struct page *g = page_here(a);
    struct rows *v = a->rows;
    struct rect text = {r.x, r.y + 2, r.w, r.h - 3};
    if (!g) {
        draw_nothing(a, s, r);
        return;
    }
    draw_title(g, s, r);
    if (*g->error) {
        draw_wrapped(s, (struct rect){r.x, r.y + 1, r.w, r.h - 2}, ROLE_BAD,
                     g->error);
        if (!g->row)
            surf_text(s, r.x, r.y + r.h - 1, r.w, ROLE_DIM,
                      "Another view and back: tries it again.");
        return;
    }
    lay_page(v, g, text.w);
    v->fits = text.h;
    scroll(v, v->top);
    draw_facts(a, g, s, (struct rect){r.x, r.y + 1, r.w, 1});
    flow_draw(&v->flow, s, text, v->top);
    draw_legend(s, (struct rect){r.x, r.y + r.h - 1, r.w, 1});
}

const struct view view_rows = {"8:Data", "rows", draw, key};
