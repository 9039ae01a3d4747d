/* Tokens laid into lines: nothing is lost, nothing is too wide. */
#include "tui/width.h"
#include "views/flow.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *flow_suite(void);

#define MODEL "core/starter/model"

static struct tok *tok;
static struct render *ren;

static void setup(void) {
    struct err err = {0};
    tok = tok_open(MODEL, &err);
    ren = tok ? render_open("auto", tok, MODEL, &err) : NULL;
    ck_assert_msg(ren != NULL, "%s", err.msg);
}

static void teardown(void) {
    render_close(ren);
    tok_close(tok);
}

static void inspect_of(struct inspect *x, const char *messages) {
    struct err err = {0};
    struct example e;
    json_t *j = json_loads(messages, 0, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert_msg(render_example(ren, j, TRAIN_ALL_ASSISTANT, RENDER_ORIGIN, &e,
                                 &err) == 0,
                  "%s", err.msg);
    inspect_make(x, tok, &e, SIZE_MAX);
    example_release(&e);
    json_decref(j);
}

static const char talk[] =
    "[{\"role\":\"user\",\"content\":\"A long line of words, \\n\\n"
    "\xe6\xa8\xa1\xe5\x9e\x8b\xe6\xa8\xa1\xe5\x9e\x8b \\ttab e\xcc\x81\"},"
    "{\"role\":\"assistant\",\"content\":\"First.\\nSecond \xf0\x9f\x98\x80"
    "\"},{\"role\":\"user\",\"content\":\"<|im_end|>\"}]";

/* The text of the pieces, ↵ and the end of its line as a newline. */
static void joined(const struct flow *f, struct buf *out) {
    buf_init(out, 1 << 20);
    for (size_t i = 0; i < f->n; i++) {
        const char *s = (const char *)f->text.data + f->piece[i].at;
        size_t n = f->piece[i].len, mark = strlen("↵");
        bool is_end = n >= mark && memcmp(s + n - mark, "↵", mark) == 0;
        buf_bytes(out, s, is_end ? n - mark : n);
        if (is_end)
            buf_u8(out, '\n');
    }
}

START_TEST(text_is_whole_at_every_width) {
    struct inspect x;
    struct flow f;
    inspect_of(&x, talk);
    for (int w = 2; w < 90; w++) {
        struct buf all;
        int lines = flow_make(&f, &x, 1, w, SHOW_TEXT);
        joined(&f, &all);
        ck_assert_str_eq(buf_str(&all), x.text);
        buf_release(&all);
        for (size_t i = 0; i < f.n; i++) {
            const struct flow_piece *p = &f.piece[i];
            ck_assert_int_lt(p->line, lines);
            ck_assert(i == 0 || p->line >= f.piece[i - 1].line);
        }
        flow_release(&f);
    }
    inspect_release(&x);
}
END_TEST

START_TEST(nothing_is_drawn_beside_its_lines) {
    struct inspect x;
    struct flow f;
    inspect_of(&x, talk);
    for (int how = 0; how < SHOW_N; how++)
        for (int w = 4; w < 90; w++) {
            int lines = flow_make(&f, &x, 1, w, (enum show)how);
            for (size_t i = 0; how != SHOW_FACTS && i < f.n; i++) {
                const struct flow_piece *p = &f.piece[i];
                int cells =
                    text_width_n((const char *)f.text.data + p->at, p->len);
                /* but for the mark of a newline, which may be cut */
                ck_assert_int_le(p->x + cells, w + 1);
            }
            struct surf *s = surf_new(w + 1, 5);
            flow_draw(&f, s, (struct rect){0, 0, w, 5}, lines / 2);
            for (int y = 0; y < 5; y++)
                ck_assert_str_eq(surf_cell(s, w, y)->s, " ");
            surf_free(s);
            flow_release(&f);
        }
    inspect_release(&x);
}
END_TEST

START_TEST(lines_say_without_colours_what_is_trained) {
    struct inspect x;
    struct flow f;
    inspect_of(&x, talk);
    struct surf *s = surf_new(60, 12);
    flow_make(&f, &x, 1, 60, SHOW_TEXT);
    flow_draw(&f, s, (struct rect){0, 0, 60, 12}, 0);
    char *text = surf_dump(s);
    ck_assert_msg(strstr(text, "░<|im_start|>user↵\n"
                               "░A long line of words, ↵\n"
                               "░↵\n") != NULL,
                  "%s", text);
    ck_assert_msg(strstr(text, "░<|im_start|>assistant↵\n"
                               "█First.↵\n"
                               "▒Second ") != NULL,
                  "%s", text);
    free(text);
    char *roles = surf_dump_roles(s);
    ck_assert_ptr_nonnull(strstr(roles, "YYYYYY"));     /* trained content */
    ck_assert_ptr_nonnull(strstr(roles, "VVVVVVVVVV")); /* and its end */
    free(roles);
    flow_release(&f);
    surf_free(s);
    inspect_release(&x);
}
END_TEST

START_TEST(facts_tell_a_control_token_from_its_words) {
    struct inspect x;
    struct flow f;
    inspect_of(&x, talk);
    struct surf *s = surf_new(60, 200);
    flow_make(&f, &x, 1, 60, SHOW_FACTS);
    flow_draw(&f, s, (struct rect){0, 0, 60, 200}, 0);
    char *text = surf_dump(s);
    ck_assert_msg(strstr(text, "1 template* <|im_end|>\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "1 content   F\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, "(part of the next)") != NULL, "%s", text);
    ck_assert_ptr_null(strstr(text, "content * "));
    free(text);
    flow_release(&f);
    surf_free(s);
    inspect_release(&x);
}
END_TEST

Suite *flow_suite(void) {
    Suite *s = suite_create("flow");
    TCase *tc = tcase_create("flow");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, text_is_whole_at_every_width);
    tcase_add_test(tc, nothing_is_drawn_beside_its_lines);
    tcase_add_test(tc, lines_say_without_colours_what_is_trained);
    tcase_add_test(tc, facts_tell_a_control_token_from_its_words);
    suite_add_tcase(s, tc);
    return s;
}
