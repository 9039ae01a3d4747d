/* inspect: a row's tokens by weight and origin. */
#include "views/inspect.h"

#include "core/buf.h"
#include "views/cli.h"
#include "views/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TEXT_MAX (1u << 30)

static const char *const origins[] = {
    [ORIGIN_TEMPLATE] = "template",
    [ORIGIN_HEADER] = "header",
    [ORIGIN_CONTENT] = "content",
    [ORIGIN_NONE] = "tokens",
};

const char *inspect_origin(uint8_t origin) { return origins[origin]; }

/* The text that token i completes; the last one's with what is left over. */
static void put_text(struct buf *b, const struct tok *t, uint32_t id,
                     struct tok_stream *s, bool is_last) {
    if (!t) {
        buf_printf(b, "<%u>", id);
        return;
    }
    char *text = tok_stream_next(t, s, id);
    buf_puts(b, text);
    free(text);
    if (!is_last)
        return;
    text = tok_stream_next(t, s, UINT32_MAX);
    buf_puts(b, text);
    free(text);
}

void inspect_make(struct inspect *x, const struct tok *tok,
                  const struct example *e, size_t most) {
    struct tok_stream s = {.keep_special = true};
    struct buf b;
    size_t n = e->tokens.n < most ? e->tokens.n : most, len;
    *x = (struct inspect){.n = n,
                          .trained = example_trained(e, 0),
                          .lost = e->lost,
                          .hidden = e->tokens.n - n};
    x->token = calloc(n + 1, sizeof *x->token);
    CHECK(x->token, "out of memory for %zu tokens", n);
    buf_init(&b, TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        uint32_t id = e->tokens.id[i], at = (uint32_t)b.len;
        put_text(&b, tok, id, &s, i + 1 == n);
        x->token[i] = (struct inspect_token){
            .id = id,
            .text = at,
            .len = (uint32_t)b.len - at,
            .weight = e->weights[i],
            .origin = e->origin ? e->origin[i] : ORIGIN_NONE,
            .is_control = tok && tok_is_special(tok, id)};
    }
    buf_u8(&b, 0);
    CHECK(!b.failed, "a row's text is above %u bytes", TEXT_MAX);
    x->text = (char *)buf_take(&b, &len);
}

void inspect_release(struct inspect *x) {
    free(x->token);
    free(x->text);
    *x = (struct inspect){0};
}

size_t inspect_run(const struct inspect *x, size_t i) {
    const struct inspect_token *a = &x->token[i], *b = a + 1;
    while (b < x->token + x->n && a->origin == b->origin &&
           !(a->weight < b->weight) && !(a->weight > b->weight) &&
           a->is_control == b->is_control)
        b++;
    return (size_t)(b - x->token);
}

static void print_plain(const struct inspect_token *t, size_t n,
                        const char *text, size_t len) {
    json_t *j = json_stringn(text, len);
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    printf("%c%c %-8s %6g %6zu  ", t->weight != 0 ? '+' : ' ',
           t->is_control ? '*' : ' ', origins[t->origin], (double)t->weight, n);
    cli_print_text(quoted ? quoted : "?");
    putchar('\n');
    free(quoted);
    json_decref(j);
}

/* As the screen looks with 16 colours. */
static void print_styled(enum role role, const char *text, size_t len) {
    struct style st = style_get(COLOR_16, false, role);
    static const struct {
        int attr;
        const char *sgr;
    } attrs[] = {{STYLE_BOLD, ";1"},
                 {STYLE_DIM, ";2"},
                 {STYLE_UNDERLINE, ";4"},
                 {STYLE_REVERSE, ";7"}};
    char *copy = strndup(text, len);
    CHECK(copy, "out of memory for %zu bytes", len);
    fputs("\033[0", stdout);
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++)
        if (st.attr & attrs[i].attr)
            fputs(attrs[i].sgr, stdout);
    if (st.fg >= 0)
        printf(";%d", st.fg < 8 ? 30 + st.fg : 90 + st.fg - 8);
    putchar('m');
    cli_print_text(copy);
    fputs("\033[0m", stdout);
    free(copy);
}

static int terminal_width(void) {
    struct winsize ws;
    bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0;
    return is_known && ws.ws_col >= 8 ? ws.ws_col : 80;
}

static void print_lines(const struct inspect *x) {
    struct flow f;
    int lines = flow_make(&f, x, 1, terminal_width() - 1, SHOW_TEXT);
    for (int i = 0; i < lines; i++) {
        struct flow_line l = flow_line(&f, i);
        print_styled(l.mark_role, l.mark, strlen(l.mark));
        for (size_t k = 0; k < l.n; k++)
            print_styled(l.piece[k].role,
                         (const char *)f.text.data + l.piece[k].at,
                         l.piece[k].len);
        putchar('\n');
    }
    flow_release(&f);
}

static void print_runs(const struct inspect *x) {
    for (size_t i = 0, end; i < x->n; i = end) {
        const struct inspect_token *t = &x->token[i];
        end = inspect_run(x, i);
        const struct inspect_token *last = &x->token[end - 1];
        print_plain(t, end - i, x->text + t->text,
                    last->text + last->len - t->text);
    }
}

void inspect_legend(enum inspect_how how) {
    if (how == INSPECT_PLAIN) {
        puts("+ trained, * control tokens; origin, weight, tokens, text");
        return;
    }
    for (int on = 0; on < 2; on++) {
        fputs(on ? " trained: " : "", stdout);
        for (uint8_t o = 0; o < ORIGIN_NONE; o++) {
            print_styled(flow_role(o, false, on), origins[o],
                         strlen(origins[o]));
            putchar(' ');
        }
        print_styled(flow_role(0, true, on), "control", strlen("control"));
    }
    puts("  █ trained ▒ in part ░ not");
}

void inspect_print(const struct inspect *x, enum inspect_how how) {
    printf("%zu tokens, %zu trained", x->n, x->trained);
    if (x->lost)
        printf(", %zu more cut off", x->lost);
    putchar('\n');
    if (how == INSPECT_COLOR)
        print_lines(x);
    else
        print_runs(x);
    putchar('\n');
}

json_t *inspect_json(const struct inspect *x) {
    json_t *all = json_array();
    for (size_t i = 0; i < x->n; i++) {
        const struct inspect_token *t = &x->token[i];
        json_array_append_new(all, json_pack("{s:I, s:s%, s:f, s:s, s:I}", "id",
                                             (json_int_t)t->id, "text",
                                             x->text + t->text, (size_t)t->len,
                                             "weight", (double)t->weight,
                                             "origin", origins[t->origin],
                                             "offset", (json_int_t)t->text));
    }
    return json_pack("{s:I, s:I, s:I, s:o}", "length", (json_int_t)x->n,
                     "trained", (json_int_t)x->trained, "cut",
                     (json_int_t)x->lost, "tokens", all);
}
