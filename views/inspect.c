/* inspect: a row's tokens by weight and origin. A character of several tokens
 * is the text of the last of them. */
#include "views/inspect.h"

#include "core/buf.h"
#include "views/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64u << 20)

/* Rows that give tokens as they are know no origin. */
#define ORIGIN_NONE 3

static const struct {
    const char *name, *sgr, *trained; /* colours: context, and trained */
} looks[] = {
    [ORIGIN_TEMPLATE] = {"template", "2", "1;33"},
    [ORIGIN_HEADER] = {"header", "36", "1;36"},
    [ORIGIN_CONTENT] = {"content", "0", "1;32"},
    [ORIGIN_NONE] = {"tokens", "0", "1;32"},
};

static int origin_of(const struct example *e, size_t i) {
    return e->origin ? e->origin[i] : ORIGIN_NONE;
}

/* The text of token i, free() it; the last one's with what is left over. */
static char *piece(const struct tok *t, const struct example *e, size_t i,
                   struct tok_stream *s) {
    char *text = tok_stream_next(t, s, e->tokens.id[i]);
    if (i + 1 < e->tokens.n)
        return text;
    char *rest = tok_stream_next(t, s, UINT32_MAX);
    size_t n = strlen(text), m = strlen(rest);
    text = realloc(text, n + m + 1);
    CHECK(text, "out of memory for a token's text");
    memcpy(text + n, rest, m + 1);
    free(rest);
    return text;
}

static bool are_alike(const struct tok *t, const struct example *e, size_t i,
                      size_t k) {
    return origin_of(e, i) == origin_of(e, k) &&
           !(e->weights[i] < e->weights[k]) &&
           !(e->weights[i] > e->weights[k]) &&
           tok_is_special(t, e->tokens.id[i]) ==
               tok_is_special(t, e->tokens.id[k]);
}

/* The end of the run of tokens from i on that look alike; their text. */
static size_t run_of(const struct tok *t, const struct example *e, size_t i,
                     struct tok_stream *s, struct buf *text) {
    size_t end = i;
    buf_init(text, TEXT_MAX);
    do {
        char *p = piece(t, e, end++, s);
        buf_puts(text, p);
        free(p);
    } while (end < e->tokens.n && are_alike(t, e, i, end));
    return end;
}

static void print_plain(const struct example *e, size_t i, size_t n,
                        bool is_control, const char *text) {
    json_t *j = json_string(text);
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    printf("%c%c %-8s %6g %6zu  ", e->weights[i] != 0 ? '+' : ' ',
           is_control ? '*' : ' ', looks[origin_of(e, i)].name,
           (double)e->weights[i], n);
    cli_print_text(quoted ? quoted : "?");
    putchar('\n');
    free(quoted);
    json_decref(j);
}

static void print_color(const struct example *e, size_t i, bool is_control,
                        const char *text) {
    int o = origin_of(e, i);
    printf("\033[%s%sm", e->weights[i] != 0 ? looks[o].trained : looks[o].sgr,
           is_control ? ";7" : "");
    cli_print_text(text);
    fputs("\033[0m", stdout);
}

void inspect_legend(enum inspect_how how) {
    if (how == INSPECT_PLAIN) {
        puts("+ trained, * control tokens; origin, weight, tokens, text");
        return;
    }
    for (int i = 0; i < ORIGIN_NONE; i++)
        printf("\033[%sm%s\033[0m \033[%sm%s, trained\033[0m%s", looks[i].sgr,
               looks[i].name, looks[i].trained, looks[i].name,
               i + 1 < ORIGIN_NONE ? "  " : "  \033[7mcontrol\033[0m\n");
}

void inspect_print(const struct tok *t, const struct example *e,
                   enum inspect_how how) {
    struct tok_stream s = {.keep_special = true};
    printf("%zu tokens, %zu trained", e->tokens.n, example_trained(e, 0));
    if (e->lost)
        printf(", %zu more cut off", e->lost);
    putchar('\n');
    for (size_t i = 0, end; i < e->tokens.n; i = end) {
        struct buf text;
        bool is_control = tok_is_special(t, e->tokens.id[i]);
        end = run_of(t, e, i, &s, &text);
        if (how == INSPECT_PLAIN)
            print_plain(e, i, end - i, is_control, buf_str(&text));
        else
            print_color(e, i, is_control, buf_str(&text));
        buf_release(&text);
    }
    putchar('\n');
}

json_t *inspect_json(const struct tok *t, const struct example *e) {
    struct tok_stream s = {.keep_special = true};
    json_t *all = json_array();
    size_t at = 0;
    for (size_t i = 0; i < e->tokens.n; i++) {
        char *text = piece(t, e, i, &s);
        json_array_append_new(all,
                              json_pack("{s:I, s:s, s:f, s:s, s:I}", "id",
                                        (json_int_t)e->tokens.id[i], "text",
                                        text, "weight", (double)e->weights[i],
                                        "origin", looks[origin_of(e, i)].name,
                                        "offset", (json_int_t)at));
        at += strlen(text);
        free(text);
    }
    return json_pack("{s:I, s:I, s:I, s:o}", "length", (json_int_t)e->tokens.n,
                     "trained", (json_int_t)example_trained(e, 0), "cut",
                     (json_int_t)e->lost, "tokens", all);
}
