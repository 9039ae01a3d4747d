/* cli_text: verbs on text and tokens: sampling and chat through the daemon,
 * tokenizer and renderer here. */
#include "views/cli.h"
#include "views/inspect.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/line.h"
#include "core/rng.h"
#include "core/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES (16u << 20)

static uint64_t drawn_seed(void) {
    return rng_u64((uint64_t)clock_wall_us(), (uint64_t)clock_mono_us(),
                   (uint64_t)getpid());
}

/* ---- sample ---- */

static char *messages_read(const char *path, struct err *err) {
    size_t len;
    char *text = fs_read_any(strcmp(path, "-") == 0 ? "/dev/stdin" : path,
                             LINE_MAX_BYTES, &len, err);
    json_t *j = text ? json_read(text, len, path, err) : NULL;
    if (json_is_object(j)) {
        json_t *m = json_incref(json_object_get(j, "messages"));
        json_decref(j);
        j = m;
    }
    free(text);
    if (j && !json_is_array(j))
        err_set(err, ERR_INVAL, "%s: a list of messages is wanted", path);
    char *out = json_is_array(j) ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return out;
}

static int range(bool ok, const char *name, double v, const char *want,
                 struct err *err) {
    return ok ? 0
              : err_set(err, ERR_USAGE, "%s %g: a number %s is wanted", name, v,
                        want);
}

/* As the sampler will see it, in f32. */
static int temperature_opt(struct cli *c, double dflt, float *v,
                           struct err *err) {
    double t;
    if (cli_opt_num(c, "--temperature", dflt, &t, err) < 0)
        return -1;
    *v = (float)t;
    return range(*v >= 0 && isfinite(*v), "--temperature", t, "from 0 up", err);
}

static int filter_opts(struct cli *c, struct op_sample *o, struct err *err) {
    double top_p, min_p;
    if (cli_opt_num(c, "--top-p", 1, &top_p, err) < 0 ||
        cli_opt_num(c, "--min-p", 0, &min_p, err) < 0)
        return -1;
    o->top_p = (float)top_p;
    o->min_p = (float)min_p;
    return range(o->top_p > 0 && top_p <= 1, "--top-p", top_p,
                 "above 0, at most 1", err) < 0 ||
                   range(min_p >= 0 && min_p <= 1, "--min-p", min_p,
                         "from 0 to 1", err) < 0
               ? -1
               : 0;
}

static int sample_params(struct cli *c, struct op_sample *o, struct err *err) {
    int64_t max, top_k, n, seed, told;
    if (cli_opt_int(c, "--top-logprobs", 0, 0, WIRE_TOP_MAX, &told, err) < 0 ||
        cli_opt_int(c, "--max-tokens", 256, 1, 1 << 20, &max, err) < 0 ||
        cli_opt_int(c, "--top-k", -1, -1, 1 << 24, &top_k, err) < 0 ||
        cli_opt_int(c, "--n", 1, 1, 256, &n, err) < 0 ||
        cli_opt_int(c, "--seed", -1, 0, INT64_MAX, &seed, err) < 0 ||
        temperature_opt(c, 1, &o->temperature, err) < 0 ||
        filter_opts(c, o, err) < 0)
        return -1;
    o->max_tokens = (uint32_t)max;
    o->top_k = (int32_t)top_k;
    o->n = (uint32_t)n;
    o->seed = seed >= 0 ? (uint64_t)seed : drawn_seed();
    o->default_stop = true;
    o->top_k_out = (uint32_t)told;
    o->prompt_logprobs = cli_opt(c, "--prompt-logprobs") != NULL;
    o->prompt_top_k_out = o->prompt_logprobs ? o->top_k_out : 0;
    o->pieces = told > 0;
    return 0;
}

/* Into j: tokens, logprobs and, where they are told, the likeliest of each. */
static void tokens_json(json_t *j, const struct result *r, uint32_t n,
                        const uint32_t *ids, const float *logprobs,
                        const struct top *top) {
    json_t *tokens = json_array(), *lp = json_array(), *likely = json_array();
    for (uint32_t i = 0; i < n; i++) {
        json_t *at = json_array();
        json_array_append_new(tokens, json_integer(ids[i]));
        json_array_append_new(lp, isnan(logprobs[i])
                                      ? json_null()
                                      : json_num((double)logprobs[i]));
        for (uint32_t k = i * top->k; k < (i + 1) * top->k; k++)
            if (!isnan(top->logprobs[k]))
                json_array_append_new(
                    at, json_pack("{s:I, s:s, s:o}", "token",
                                  (json_int_t)top->tokens[k], "text",
                                  result_piece(r, top->tokens[k]), "logprob",
                                  json_num((double)top->logprobs[k])));
        json_array_append_new(likely, at);
    }
    json_object_set_new(j, "tokens", tokens);
    json_object_set_new(j, "logprobs", lp);
    if (top->k)
        json_object_set_new(j, "top_logprobs", likely);
    else
        json_decref(likely);
}

static json_t *sample_json(const struct result *r, const struct sample *s) {
    json_t *j = json_pack("{s:s}", "text", s->text);
    tokens_json(j, r, s->n, s->tokens, s->logprobs, &s->top);
    json_object_set_new(j, "stop_reason",
                        json_string(stop_reason_name(s->stop)));
    return j;
}

static json_t *samples_json(const struct result *r) {
    json_t *all = json_array(), *j = json_pack("{s:o}", "samples", all);
    for (uint32_t i = 0; i < r->n_samples; i++)
        json_array_append_new(all, sample_json(r, &r->samples[i]));
    if (r->prompt_logprobs) {
        json_t *prompt = json_object();
        tokens_json(prompt, r, r->n_prompt, r->prompt_tokens,
                    r->prompt_logprobs, &r->prompt_top);
        json_object_set_new(j, "prompt", prompt);
    }
    return j;
}

static void print_quoted(const char *text) {
    json_t *j = json_string(text);
    char *quoted = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
    cli_print_text(quoted ? quoted : "?");
    free(quoted);
    json_decref(j);
}

/* One line a token: its logprob, and the likeliest. */
static void print_told(const struct result *r, const struct sample *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        printf("%9.4f ", (double)s->logprobs[i]);
        print_quoted(result_piece(r, s->tokens[i]));
        for (uint32_t k = i * s->top.k; k < (i + 1) * s->top.k; k++) {
            printf("  %.4f ", (double)s->top.logprobs[k]);
            print_quoted(result_piece(r, s->top.tokens[k]));
        }
        putchar('\n');
    }
}

static bool print_piece(void *arg, uint32_t index, const char *text) {
    (void)arg;
    (void)index;
    cli_print_text(text);
    fflush(stdout);
    return true;
}

int cli_sample(struct cli *c, struct err *err) {
    const char *prompt = cli_opt(c, "--prompt");
    const char *file = cli_opt(c, "--messages"), *stop = cli_opt(c, "--stop");
    char *messages = NULL, *stops[1] = {(char *)stop};
    struct op op = {.kind = OP_SAMPLE, .model = ""};
    struct result res = {0};
    if (!prompt == !file)
        return err_set(err, ERR_USAGE,
                       "sample: --prompt TEXT or --messages FILE is wanted");
    if (sample_params(c, &op.sample, err) < 0 ||
        (file && !(messages = messages_read(file, err))))
        return -1;
    op.sample.target.ckpt = "";
    op.sample.prompt = file ? PROMPT_MESSAGES : PROMPT_TEXT;
    op.sample.text = file ? messages : (char *)prompt;
    op.sample.n_stops = stop != NULL;
    op.sample.stops = stops;
    bool stream = !c->json && op.sample.n == 1 && !op.sample.top_k_out;
    op.sample.stream = stream;
    struct client *cl = cli_client(c, true, err);
    int rc = cl ? client_run(cl, c->arg[0], &op, stream ? print_piece : NULL,
                             NULL, &res, err)
                : -1;
    if (rc == 0 && c->json) {
        cli_print_json(samples_json(&res), false);
    } else if (rc == 0) {
        for (uint32_t i = 0; !stream && i < res.n_samples; i++) {
            cli_print_text(res.samples[i].text);
            putchar('\n');
            if (res.samples[i].top.k)
                print_told(&res, &res.samples[i]);
            if (i + 1 < res.n_samples)
                puts("--");
        }
        if (stream)
            putchar('\n');
    }
    result_release(&res);
    client_close(cl);
    free(messages);
    return rc;
}

/* ---- chat ---- */

static int chat_turn(struct cli *c, struct client *cl, json_t *messages,
                     struct op_sample *o, struct err *err) {
    struct result res = {0};
    char *text = json_dumps(messages, JSON_COMPACT);
    struct op op = {.kind = OP_SAMPLE, .model = "", .sample = *o};
    op.sample.text = text;
    int rc = client_run(cl, c->arg[0], &op, c->json ? NULL : print_piece, NULL,
                        &res, err);
    if (rc == 0 && res.n_samples) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "assistant",
                                        "content", res.samples[0].text));
        if (c->json)
            cli_print_json(sample_json(&res, &res.samples[0]), true);
        else
            putchar('\n');
    }
    result_release(&res);
    free(text);
    return rc;
}

int cli_chat(struct cli *c, struct err *err) {
    int64_t max, seed;
    float temperature;
    const char *system = cli_opt(c, "--system");
    if (cli_opt_int(c, "--max-tokens", 512, 1, 1 << 20, &max, err) < 0 ||
        cli_opt_int(c, "--seed", -1, 0, INT64_MAX, &seed, err) < 0 ||
        temperature_opt(c, 0.7, &temperature, err) < 0)
        return -1;
    struct op_sample o = {.target = {.ckpt = ""},
                          .prompt = PROMPT_MESSAGES,
                          .n = 1,
                          .max_tokens = (uint32_t)max,
                          .temperature = temperature,
                          .top_k = -1,
                          .top_p = 1,
                          .seed = seed >= 0 ? (uint64_t)seed : drawn_seed(),
                          .default_stop = true,
                          .stream = !c->json};
    struct client *cl = cli_client(c, true, err);
    json_t *messages = json_array();
    char *line = NULL;
    size_t room = 0;
    int rc = cl ? 0 : -1;
    bool talk = isatty(STDIN_FILENO) && !c->json;
    if (system)
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role",
                                                  "system", "content", system));
    while (rc == 0) {
        if (talk) {
            printf("> ");
            fflush(stdout);
        }
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0)
            break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = 0;
        if (strcmp(line, "/exit") == 0)
            break;
        if (n == 0)
            continue;
        json_t *m = json_pack("{s:s, s:s}", "role", "user", "content", line);
        if (!m) {
            rc = err_set(err, ERR_INVAL, "chat: the line is not UTF-8");
            break;
        }
        json_array_append_new(messages, m);
        rc = chat_turn(c, cl, messages, &o, err);
    }
    free(line);
    json_decref(messages);
    client_close(cl);
    return rc;
}

/* ---- lines of JSON on stdin ---- */

typedef int line_fn(struct cli *c, const json_t *j, void *arg, struct err *err);

/* nul: strings may hold NUL bytes. */
static int each_line(struct cli *c, line_fn *fn, bool nul, void *arg,
                     struct err *err) {
    struct lines l;
    int rc;
    lines_init(&l, STDIN_FILENO, "stdin", LINE_MAX_BYTES);
    while ((rc = lines_next(&l, err)) > 0) {
        c->line = l.number;
        if (l.line && strspn(l.line, " \t\r\n") >= l.len)
            continue;
        json_t *j = l.line ? json_read_line(l.line, l.len, nul, err) : NULL;
        if (!l.line)
            err_set(err, ERR_TOOBIG, "more than %u bytes", LINE_MAX_BYTES);
        rc = j ? fn(c, j, arg, err) : -1;
        json_decref(j);
        fflush(stdout);
        if (rc < 0) {
            err_ctx(err, "stdin:%zu", l.number);
            break;
        }
    }
    lines_release(&l);
    return rc;
}

static uint32_t *tokens_of(const json_t *j, uint32_t *n, struct err *err) {
    const json_t *t = json_object_get(j, "tokens");
    size_t count = json_array_size(t);
    if (count >= WIRE_TOKENS_MAX) {
        err_set(err, ERR_TOOBIG, "tokens: %zu of them, at most %d are taken",
                count, WIRE_TOKENS_MAX - 1);
        return NULL;
    }
    uint32_t *ids = calloc(count + 1, sizeof *ids);
    CHECK(ids, "out of memory for tokens");
    bool ok = json_is_array(t);
    for (size_t i = 0; ok && i < count; i++) {
        const json_t *v = json_array_get(t, i);
        ok = json_is_integer(v) && json_integer_value(v) >= 0 &&
             json_integer_value(v) < INT32_MAX;
        ids[i] = (uint32_t)json_integer_value(v);
    }
    *n = (uint32_t)count;
    if (ok)
        return ids;
    free(ids);
    err_set(err, ERR_INVAL, "{\"tokens\":[ids]} is wanted");
    return NULL;
}

static int logprobs_line(struct cli *c, const json_t *j, void *arg,
                         struct err *err) {
    uint32_t n;
    uint32_t *ids = tokens_of(j, &n, err);
    struct result res = {0};
    if (!ids)
        return -1;
    struct op op = {.kind = OP_LOGPROBS, .model = ""};
    op.logprobs =
        (struct op_logprobs){.target = {.ckpt = ""},
                             .n = n,
                             .tokens = ids,
                             .sampler = cli_opt(c, "--sampler") != NULL};
    int rc = client_run(arg, c->arg[0], &op, NULL, NULL, &res, err);
    if (rc == 0) {
        json_t *lp = json_array();
        for (uint32_t i = 0; i < res.logprobs_len[0]; i++) {
            double v = (double)res.logprobs[0][i];
            json_array_append_new(lp, i == 0 ? json_null() : json_num(v));
        }
        cli_print_json(json_pack("{s:o}", "logprobs", lp), true);
    }
    result_release(&res);
    free(ids);
    return rc;
}

int cli_logprobs(struct cli *c, struct err *err) {
    struct client *cl = cli_client(c, true, err);
    int rc = cl ? each_line(c, logprobs_line, false, cl, err) : -1;
    client_close(cl);
    return rc;
}

/* ---- tokenizer and renderer ---- */

struct text_arg {
    struct tok *tok;
    struct render *render;
    enum train_on on;
    size_t max_length;
    size_t row;   /* of those inspected */
    bool is_over; /* no more of them are wanted */
};

static json_t *ids_json(const struct tok_ids *ids) {
    json_t *a = json_array();
    for (size_t i = 0; i < ids->n; i++)
        json_array_append_new(a, json_integer(ids->id[i]));
    return a;
}

static json_t *spans_json(const struct tok_spans *at) {
    json_t *a = json_array();
    for (size_t i = 0; i < at->n; i++)
        json_array_append_new(a, json_pack("[I, I]", (json_int_t)at->at[i].from,
                                           (json_int_t)at->at[i].to));
    return a;
}

static int tokenize_line(struct cli *c, const json_t *j, void *arg,
                         struct err *err) {
    const struct text_arg *a = arg;
    const json_t *text = json_object_get(j, "text");
    const char *s = json_string_value(text);
    size_t len = json_string_length(text);
    struct tok_ids ids = {0};
    struct tok_spans at = {0};
    int flags = TOK_CONTROL | (cli_opt(c, "--special") ? TOK_BOS : 0);
    if (!s)
        return err_set(err, ERR_INVAL, "{\"text\":…} is wanted");
    bool places = cli_opt(c, "--offsets") != NULL;
    tok_encode_at(a->tok, s, len, flags, &ids, places ? &at : NULL);
    json_t *out = json_pack("{s:o}", "tokens", ids_json(&ids));
    if (places) {
        json_object_set_new(out, "byte_offsets", spans_json(&at));
        tok_spans_chars(s, len, &at);
        json_object_set_new(out, "offsets", spans_json(&at));
    }
    cli_print_json(out, true);
    free(ids.id);
    free(at.at);
    return 0;
}

static int detokenize_line(struct cli *c, const json_t *j, void *arg,
                           struct err *err) {
    const struct text_arg *a = arg;
    uint32_t n;
    uint32_t *ids = tokens_of(j, &n, err);
    (void)c;
    if (!ids)
        return -1;
    size_t len;
    char *text = tok_decode_all(a->tok, ids, n, &len, err);
    if (text)
        cli_print_json(json_pack("{s:s%}", "text", text, len), true);
    free(text);
    free(ids);
    return text ? 0 : -1;
}

static void print_rendered(const struct text_arg *a, const struct tok_ids *ids,
                           json_t *weights) {
    char *text = tok_decode(a->tok, ids->id, ids->n, false);
    json_t *j = json_pack("{s:o}", "tokens", ids_json(ids));
    if (weights)
        json_object_set_new(j, "weights", weights);
    json_object_set_new(j, "text", json_string(text));
    cli_print_json(j, true);
    free(text);
}

static int render_line(struct cli *c, const json_t *j, void *arg,
                       struct err *err) {
    const struct text_arg *a = arg;
    struct example e;
    if (render_example(a->render, j, a->on,
                       cli_opt(c, "--compat") ? RENDER_COMPAT : 0, &e, err) < 0)
        return -1;
    json_t *w = json_array();
    for (size_t i = 0; i < e.tokens.n; i++)
        json_array_append_new(w, json_real((double)e.weights[i]));
    print_rendered(a, &e.tokens, w);
    example_release(&e);
    return 0;
}

static int prompt_line(struct cli *c, const json_t *j, void *arg,
                       struct err *err) {
    const struct text_arg *a = arg;
    struct tok_ids ids = {0};
    int rc = render_prompt(
        a->render, j, cli_opt(c, "--compat") ? RENDER_COMPAT : 0, &ids, err);
    if (rc == 0)
        print_rendered(a, &ids, NULL);
    free(ids.id);
    return rc;
}

static int parse_line(struct cli *c, const json_t *j, void *arg,
                      struct err *err) {
    const struct text_arg *a = arg;
    enum reply_end end;
    uint32_t n;
    size_t len;
    uint32_t *ids = tokens_of(j, &n, err);
    /* names an id that the vocabulary lacks */
    char *text = ids ? tok_decode_all(a->tok, ids, n, &len, err) : NULL;
    json_t *m = text ? render_parse(a->render, ids, n, &end, err) : NULL;
    (void)c;
    free(text);
    if (m)
        cli_print_json(json_pack("{s:o, s:s}", "message", m, "termination",
                                 reply_end_name(end)),
                       true);
    free(ids);
    return m ? 0 : -1;
}

static enum inspect_how inspect_how(void) {
    const char *none = getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && !(none && *none) ? INSPECT_COLOR
                                                     : INSPECT_PLAIN;
}

/* At a terminal a page is an example: waits for Enter. False at q. */
static bool next_page(void) {
    char line[64] = "";
    FILE *keys = isatty(STDOUT_FILENO) ? fopen("/dev/tty", "re") : NULL;
    if (!keys)
        return true;
    fputs("-- Enter: next, q: end -- ", stdout);
    fflush(stdout);
    bool more = fgets(line, sizeof line, keys) && *line != 'q';
    fclose(keys);
    return more;
}

static void inspect_one(struct cli *c, const struct text_arg *a,
                        const struct example *e, size_t k, size_t n) {
    struct inspect x;
    inspect_make(&x, a->tok, e, SIZE_MAX);
    if (c->json) {
        json_t *j = inspect_json(&x);
        json_object_set_new(j, "row", json_integer((json_int_t)a->row));
        json_object_set_new(j, "line", json_integer((json_int_t)c->line));
        json_object_set_new(j, "example", json_integer((json_int_t)k));
        cli_print_json(j, true);
    } else {
        printf("row %zu (line %zu)", a->row, c->line);
        if (n > 1)
            printf(", example %zu of %zu", k + 1, n);
        fputs(": ", stdout);
        inspect_print(&x, inspect_how());
    }
    inspect_release(&x);
}

static int inspect_line(struct cli *c, const json_t *j, void *arg,
                        struct err *err) {
    struct text_arg *a = arg;
    struct examples x = {0};
    if (a->is_over)
        return 0;
    struct row_conf row = {.tok = a->tok,
                           .render = a->render,
                           .on = a->on,
                           .flags = RENDER_ORIGIN,
                           .format = -1,
                           .max_length = a->max_length,
                           .vocab = tok_size(a->tok)};
    if (cli_opt(c, "--compat"))
        row.flags |= RENDER_COMPAT;
    if (row_examples(&row, j, &x, err) < 0)
        return -1;
    if (a->row++ == 0 && !c->json)
        inspect_legend(inspect_how());
    for (size_t i = 0; i < x.n && !a->is_over; i++) {
        example_cut(&x.e[i], a->max_length);
        inspect_one(c, a, &x.e[i], i, x.n);
        a->is_over = !c->json && !next_page();
    }
    examples_release(&x);
    return 0;
}

static void print_renderers(struct cli *c) {
    json_t *all = json_array();
    for (int i = 0; render_list(i); i++) {
        json_array_append_new(all, json_string(render_list(i)));
        if (!c->json)
            puts(render_list(i));
    }
    if (c->json)
        cli_print_json(all, false);
    else
        json_decref(all);
}

/* name NULL: all_assistant_messages. USAGE lists the names. */
static int train_on_opt(const char *name, enum train_on *on, struct err *err) {
    int w = name ? train_on_by_name(name) : TRAIN_ALL_ASSISTANT;
    char known[256] = "";
    *on = (enum train_on)w;
    if (w >= 0)
        return 0;
    for (int i = 0; i < TRAIN_ON_N; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "",
                 train_on_name((enum train_on)i));
    }
    return err_set(err, ERR_USAGE, "--train-on %.40s is unknown (%s)", name,
                   known);
}

static int with_text(struct cli *c, line_fn *fn, const char *renderer,
                     const char *on, struct err *err) {
    struct text_arg a = {.on = TRAIN_ALL_ASSISTANT};
    int64_t most = 0;
    char *dir = cli_text_dir(c, c->arg[0], err);
    int rc = dir ? train_on_opt(on, &a.on, err) : -1;
    if (rc == 0 && fn == inspect_line)
        rc = cli_opt_int(c, "--max-length", 0, 0, 1 << 30, &most, err);
    a.max_length = (size_t)most;
    if (rc == 0)
        rc = (a.tok = tok_open(dir, err)) ? 0 : -1;
    if (rc == 0 && renderer)
        rc = (a.render = render_open(renderer, a.tok, dir, err)) ? 0 : -1;
    if (rc == 0)
        rc = each_line(c, fn, fn == tokenize_line, &a, err);
    render_close(a.render);
    tok_close(a.tok);
    free(dir);
    return rc;
}

int cli_tokenize(struct cli *c, struct err *err) {
    return with_text(c, tokenize_line, NULL, NULL, err);
}

int cli_detokenize(struct cli *c, struct err *err) {
    return with_text(c, detokenize_line, NULL, NULL, err);
}

int cli_render(struct cli *c, struct err *err) {
    const char *r = cli_opt(c, "--renderer");
    line_fn *fn = cli_opt(c, "--prompt")    ? prompt_line
                  : cli_opt(c, "--parse")   ? parse_line
                  : cli_opt(c, "--inspect") ? inspect_line
                                            : render_line;
    if (cli_opt(c, "--list")) {
        print_renderers(c);
        return 0;
    }
    if (c->n < 1)
        return err_set(err, ERR_USAGE, "render: MODEL is wanted");
    char *own = r ? NULL : cli_text_renderer(c, c->arg[0]);
    int rc = with_text(c, fn, r ? r : own, cli_opt(c, "--train-on"), err);
    free(own);
    return rc;
}
