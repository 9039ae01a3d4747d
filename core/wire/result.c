/* result: what an op gives back. Layout: u32 magic "FRS1", then the parts in
 * the order of struct result, each behind its count; the likeliest tokens and
 * the pieces, then the messages, come last, and only when there are any. */
#include "core/wire.h"

#include "core/wire/arrays.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESULT_MAGIC 0x31535246u
#define RESULT_TEXT_MAX (16u << 20)

/* Of the byte behind the prompt's tokens. */
enum { RESULT_PROMPT_LOGPROBS = 1, RESULT_EXT = 2, RESULT_MESSAGES = 4 };

static bool has_ext(const struct result *r) {
    bool ext = r->prompt_top.k || r->n_pieces;
    for (uint32_t i = 0; i < r->n_samples; i++)
        ext |= r->samples[i].top.k > 0;
    return ext;
}

static bool has_messages(const struct result *r) {
    for (uint32_t i = 0; i < r->n_samples; i++)
        if (r->samples[i].message)
            return true;
    return false;
}

/* "" stands for none. */
static void put_messages(struct buf *b, const struct result *r) {
    for (uint32_t i = 0; i < r->n_samples; i++)
        buf_lstr(b, r->samples[i].message ? r->samples[i].message : "");
}

static void get_messages(struct cur *c, struct result *r) {
    for (uint32_t i = 0; i < r->n_samples && !c->bad; i++) {
        char *m = cur_lstr(c, RESULT_TEXT_MAX);
        if (m && *m)
            r->samples[i].message = m;
        else
            free(m);
    }
    if (!has_messages(r))
        c->bad = true;
}

static void put_top(struct buf *b, const struct top *t, size_t n) {
    buf_u32(b, t->k);
    put_u32s(b, t->tokens, t->k * n);
    put_f32s(b, t->logprobs, t->k * n);
}

static void get_top(struct cur *c, struct top *t, size_t n) {
    t->k = cur_u32(c);
    if (t->k == 0)
        return;
    if (t->k > WIRE_TOP_MAX)
        c->bad = true;
    t->tokens = get_u32s(c, t->k * n);
    t->logprobs = get_f32s(c, t->k * n);
}

static void put_ext(struct buf *b, const struct result *r) {
    for (uint32_t i = 0; i < r->n_samples; i++)
        put_top(b, &r->samples[i].top, r->samples[i].n);
    put_top(b, &r->prompt_top, r->n_prompt);
    buf_u32(b, r->n_pieces);
    for (uint32_t i = 0; i < r->n_pieces; i++) {
        buf_u32(b, r->pieces[i].token);
        buf_lstr(b, r->pieces[i].text);
    }
}

static void get_ext(struct cur *c, struct result *r) {
    for (uint32_t i = 0; i < r->n_samples && !c->bad; i++)
        get_top(c, &r->samples[i].top, r->samples[i].n);
    get_top(c, &r->prompt_top, r->n_prompt);
    uint32_t n = cur_u32(c);
    r->pieces = get_items(c, n, sizeof *r->pieces, 8);
    for (; r->pieces && r->n_pieces < n && !c->bad; r->n_pieces++) {
        struct token_text *p = &r->pieces[r->n_pieces];
        p->token = cur_u32(c);
        p->text = cur_lstr(c, RESULT_TEXT_MAX);
    }
    if (!has_ext(r))
        c->bad = true;
}

void result_encode(const struct result *r, struct buf *b) {
    buf_u32(b, RESULT_MAGIC);
    buf_u32(b, r->n_metrics);
    for (uint32_t i = 0; i < r->n_metrics; i++) {
        buf_lstr(b, r->metrics[i].name);
        buf_f64(b, r->metrics[i].value);
    }
    buf_u32(b, r->n_logprobs);
    for (uint32_t i = 0; i < r->n_logprobs; i++) {
        buf_u32(b, r->logprobs_len[i]);
        put_f32s(b, r->logprobs[i], r->logprobs_len[i]);
    }
    buf_u32(b, r->n_samples);
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        buf_u8(b, (uint8_t)s->stop);
        buf_u32(b, s->n);
        put_u32s(b, s->tokens, s->n);
        put_f32s(b, s->logprobs, s->n);
        buf_lstr(b, s->text);
    }
    buf_u32(b, r->n_prompt);
    put_u32s(b, r->prompt_tokens, r->n_prompt);
    bool ext = has_ext(r), messages = has_messages(r);
    buf_u8(b, (uint8_t)((r->prompt_logprobs ? RESULT_PROMPT_LOGPROBS : 0) |
                        (ext ? RESULT_EXT : 0) |
                        (messages ? RESULT_MESSAGES : 0)));
    if (r->prompt_logprobs)
        put_f32s(b, r->prompt_logprobs, r->n_prompt);
    buf_u64(b, r->bytes);
    buf_u64(b, r->exec_us);
    if (ext)
        put_ext(b, r);
    if (messages)
        put_messages(b, r);
}

static void get_metrics(struct cur *c, struct result *r) {
    uint32_t n = cur_u32(c);
    r->metrics = get_items(c, n, sizeof *r->metrics, 12);
    for (; r->metrics && r->n_metrics < n && !c->bad; r->n_metrics++) {
        r->metrics[r->n_metrics].name = cur_lstr(c, WIRE_NAME_MAX);
        r->metrics[r->n_metrics].value = cur_f64(c);
    }
}

static void get_logprob_rows(struct cur *c, struct result *r) {
    uint32_t n = cur_u32(c);
    r->logprobs = get_items(c, n, sizeof *r->logprobs, 4);
    r->logprobs_len = get_items(c, n, sizeof *r->logprobs_len, 4);
    for (; !c->bad && r->n_logprobs < n; r->n_logprobs++) {
        uint32_t len = cur_u32(c);
        r->logprobs_len[r->n_logprobs] = len;
        r->logprobs[r->n_logprobs] = get_f32s(c, len);
    }
}

static void get_samples(struct cur *c, struct result *r) {
    uint32_t n = cur_u32(c);
    r->samples = get_items(c, n, sizeof *r->samples, 9);
    for (; r->samples && r->n_samples < n && !c->bad; r->n_samples++) {
        struct sample *s = &r->samples[r->n_samples];
        uint8_t stop = cur_u8(c);
        if (stop > STOP_CANCELED)
            c->bad = true;
        s->stop = (enum stop_reason)stop;
        s->n = cur_u32(c);
        s->tokens = get_u32s(c, s->n);
        s->logprobs = get_f32s(c, s->n);
        s->text = cur_lstr(c, RESULT_TEXT_MAX);
    }
}

int result_decode(struct result *r, const void *p, size_t len,
                  struct err *err) {
    struct cur c;
    memset(r, 0, sizeof *r);
    cur_init(&c, p, len);
    if (cur_u32(&c) != RESULT_MAGIC)
        return err_set(err, ERR_INVAL, "read result: not a result");
    get_metrics(&c, r);
    get_logprob_rows(&c, r);
    get_samples(&c, r);
    r->n_prompt = cur_u32(&c);
    r->prompt_tokens = get_u32s(&c, r->n_prompt);
    uint8_t has = cur_u8(&c);
    if (has & RESULT_PROMPT_LOGPROBS)
        r->prompt_logprobs = get_f32s(&c, r->n_prompt);
    r->bytes = cur_u64(&c);
    r->exec_us = cur_u64(&c);
    if (has & RESULT_EXT)
        get_ext(&c, r);
    if (has & RESULT_MESSAGES)
        get_messages(&c, r);
    if (!c.bad && cur_left(&c) == 0)
        return 0;
    result_release(r);
    return err_set(err, ERR_INVAL, "read result: damaged after byte %zu of %zu",
                   (size_t)(c.p - (const uint8_t *)p), len);
}

void result_release(struct result *r) {
    /* Counts stop before a half-read item; the arrays have one to spare. */
    for (uint32_t i = 0; r->metrics && i < r->n_metrics; i++)
        free(r->metrics[i].name);
    for (uint32_t i = 0; r->logprobs && i < r->n_logprobs; i++)
        free(r->logprobs[i]);
    for (uint32_t i = 0; r->samples && i < r->n_samples; i++) {
        free(r->samples[i].tokens);
        free(r->samples[i].logprobs);
        free(r->samples[i].text);
        free(r->samples[i].message);
        free(r->samples[i].top.tokens);
        free(r->samples[i].top.logprobs);
    }
    for (uint32_t i = 0; r->pieces && i < r->n_pieces; i++)
        free(r->pieces[i].text);
    free(r->pieces);
    free(r->prompt_top.tokens);
    free(r->prompt_top.logprobs);
    free(r->metrics);
    free(r->logprobs);
    free(r->logprobs_len);
    free(r->samples);
    free(r->prompt_tokens);
    free(r->prompt_logprobs);
    memset(r, 0, sizeof *r);
}

void result_metric(struct result *r, const char *name, double value) {
    struct metric *m =
        realloc(r->metrics, (r->n_metrics + 1) * sizeof *r->metrics);
    char *copy = strdup(name);
    CHECK(m && copy, "out of memory for metric %s", name);
    r->metrics = m;
    r->metrics[r->n_metrics++] = (struct metric){copy, value};
}

double result_get(const struct result *r, const char *name) {
    for (uint32_t i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].name, name) == 0)
            return r->metrics[i].value;
    return NAN;
}

static int piece_of(const void *key, const void *p) {
    uint32_t a = *(const uint32_t *)key,
             b = ((const struct token_text *)p)->token;
    return a < b ? -1 : a > b;
}

const char *result_piece(const struct result *r, uint32_t token) {
    const struct token_text *p = r->n_pieces
                                     ? bsearch(&token, r->pieces, r->n_pieces,
                                               sizeof *r->pieces, piece_of)
                                     : NULL;
    return p ? p->text : "";
}
