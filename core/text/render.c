/*
 * render: conversations to tokens with loss weights (spec/renderers §1-4).
 *
 * A message is a header, never trained but by all_tokens, and an output; the
 * modes say whose output counts. Then, where the mode is about the answer
 * that a prompt asks for, what the prompt already says is taken out.
 */
#include "core/text/render.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/text/convert.h"
#include "core/text/scenario.h"
#include "core/text/template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const train_names[TRAIN_ON_N] = {
#define TRAIN_NAME(id, name) [TRAIN_##id] = name,
    TRAIN_ON(TRAIN_NAME)
#undef TRAIN_NAME
};

/* What families write as one token, where the tokenizer has it. */
static const char *const control_words[] = {
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|python_tag|>",
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜System｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "｜DSML｜",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|startoftext|>",
    "<|return|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|constrain|>",
    "<|call|>",
    "<s>",
    "</s>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<tools>",
    "</tools>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|turn>",
    "<turn|>",
    "<|channel>",
    "<channel|>",
    "<|think|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
};
#define N_WORDS (sizeof control_words / sizeof *control_words)

const char *train_on_name(enum train_on w) { return train_names[w]; }

int train_on_by_name(const char *name) {
    for (int i = 0; i < TRAIN_ON_N; i++)
        if (strcmp(train_names[i], name) == 0)
            return i;
    return -1;
}

const char *render_list(int i) {
    const struct family *f = i < 0 ? NULL : family_at((size_t)i);
    bool is_last = !f && i > 0 && family_at((size_t)i - 1);
    return f ? f->name : is_last ? TEMPLATE : NULL;
}

const char *render_name(const struct render *r) { return r->family->name; }

void render_set_compat(struct render *r) { r->flags |= RENDER_COMPAT; }

bool render_extends(const struct render *r) {
    return r->family->flags & FAM_EXTENDS;
}

void example_release(struct example *e) {
    free(e->tokens.id);
    free(e->weights);
    free(e->origin);
    memset(e, 0, sizeof *e);
}

/* ---- opening ---- */

static char *model_type(const char *dir) {
    struct err ignored = {0};
    char *path = fs_path("%s/config.json", dir);
    json_t *j = json_read_file(path, 4 << 20, &ignored);
    const char *type = json_string_value(json_object_get(j, "model_type"));
    char *copy = fs_path("%s", type ? type : "");
    json_decref(j);
    free(path);
    return copy;
}

/* bos_token or eos_token: a string, or an object with its content. */
static char *special_text(const json_t *conf, const char *key) {
    const json_t *b = json_object_get(conf, key);
    const char *s = json_is_object(b)
                        ? json_string_value(json_object_get(b, "content"))
                        : json_string_value(b);
    return s ? fs_path("%s", s) : NULL;
}

/* The one id that a text is, -1 = none. */
static int64_t one_token(const struct tok *t, const char *s) {
    struct tok_ids ids = {0};
    tok_encode(t, s, strlen(s), TOK_CONTROL, &ids);
    int64_t id = ids.n == 1 ? (int64_t)ids.id[0] : -1;
    free(ids.id);
    return id;
}

static bool has_control(const struct render *r, const char *text) {
    for (size_t i = 0; i < r->n_control; i++)
        if (strcmp(r->control[i].text, text) == 0)
            return true;
    return false;
}

/* Longest first. */
void render_control_add(struct render *r, const char *text) {
    int64_t id = has_control(r, text) ? -1 : one_token(r->tok, text);
    if (id < 0)
        return;
    char *spaced = fs_path("%s\n", text);
    struct control c = {.text = fs_path("%s", text),
                        .len = strlen(text),
                        .id = (uint32_t)id,
                        .eats_space = one_token(r->tok, spaced) == id};
    size_t at = r->n_control;
    r->control = realloc(r->control, (at + 1) * sizeof *r->control);
    CHECK(r->control, "out of memory for a renderer");
    for (; at > 0 && r->control[at - 1].len < c.len; at--)
        r->control[at] = r->control[at - 1];
    r->control[at] = c;
    r->n_control++;
    free(spaced);
}

static void find_controls(struct render *r) {
    for (size_t i = 0; i < N_WORDS; i++)
        render_control_add(r, control_words[i]);
    if (r->bos)
        render_control_add(r, r->bos);
    if (r->eos)
        render_control_add(r, r->eos);
}

static bool writes(const struct family *f, const char *word) {
    if (f->bos && strstr(f->bos, word))
        return true;
    for (int i = 0; i < ROLE_N; i++)
        if ((f->head[i] && strstr(f->head[i], word)) ||
            (f->tail[i] && strstr(f->tail[i], word)))
            return true;
    return false;
}

static int need_word(const struct render *r, const char *word,
                     struct err *err) {
    if (one_token(r->tok, word) >= 0)
        return 0;
    return err_set(err, ERR_INVAL,
                   "renderer %s: the tokenizer has no token %s (another "
                   "renderer fits this model: try renderer=auto)",
                   r->family->name, word);
}

/* The words that the family's messages are made of must be tokens. */
static int check_words(struct render *r, struct err *err) {
    const struct family *f = r->family;
    for (size_t i = 0; i < N_WORDS; i++)
        if (writes(f, control_words[i]) &&
            need_word(r, control_words[i], err) < 0)
            return -1;
    for (int i = 0; i < 4 && f->stop[i]; i++) {
        if (need_word(r, f->stop[i], err) < 0)
            return -1;
        r->stop[r->n_stop++] = (uint32_t)one_token(r->tok, f->stop[i]);
    }
    return 0;
}

/* $FETTLE_DATE, so that a run renders the same tomorrow; else today. */
static int find_date(struct render *r, struct err *err) {
    const char *pinned = getenv("FETTLE_DATE");
    struct tm tm;
    time_t now = time(NULL);
    if (pinned && *pinned) {
        char *end = strptime(pinned, "%Y-%m-%d", &tm);
        if (!end || *end || strlen(pinned) >= sizeof r->date)
            return err_set(err, ERR_USAGE,
                           "FETTLE_DATE=%.32s: a date like 2026-01-31 is "
                           "wanted",
                           pinned);
        snprintf(r->date, sizeof r->date, "%s", pinned);
    } else if (localtime_r(&now, &tm)) {
        strftime(r->date, sizeof r->date, "%Y-%m-%d", &tm);
    }
    return 0;
}

static int unknown_name(const char *name, struct err *err) {
    struct buf b;
    buf_init(&b, 400);
    for (int i = 0; render_list(i); i++)
        if (strncmp(render_list(i), name, 3) == 0)
            buf_printf(&b, "%s %s", b.len ? "," : "; near it:", render_list(i));
    err_set(err, ERR_INVAL,
            "no renderer '%.64s' (fettle render --list names them%s)", name,
            buf_str(&b));
    buf_release(&b);
    return -1;
}

/* Scenarios in which a renderer gives what the template does; -1: it does not
 * fit the tokenizer. */
static int score(const char *name, const struct render *theirs,
                 const struct tok *t, const char *dir) {
    struct err no = {0};
    struct render *r = render_open(name, t, dir, &no);
    int n = r ? scenarios_equal(r, theirs, t) : -1;
    render_close(r);
    return n;
}

/* Of the names that fit a model's type the one that is most like the
 * checkpoint's own template, the first of equals. */
static const char *best_name(const char *type, const struct tok *t,
                             const char *dir) {
    struct err no = {0};
    const char *best = family_guess(type, t, 0), *name;
    struct render *theirs = family_guess(type, t, 1) && template_is_there(dir)
                                ? render_open(TEMPLATE, t, dir, &no)
                                : NULL;
    int most = theirs ? score(best, theirs, t, dir) : 0;
    for (int i = 1; theirs && (name = family_guess(type, t, i)); i++) {
        int n = score(name, theirs, t, dir);
        if (n > most) {
            most = n;
            best = name;
        }
    }
    render_close(theirs);
    return best;
}

/* A family that the table knows by the model's type; where it had to guess by
 * tokens alone, what the checkpoint itself says. */
static const char *auto_name(const char *type, const struct tok *t,
                             const char *dir) {
    const char *name = best_name(type, t, dir);
    bool is_guess =
        strcmp(name, "role_colon") == 0 || strcmp(name, "chatml") == 0 ||
        (strcmp(name, "llama3") == 0 && strncmp(type, "llama", 5) != 0) ||
        strcmp(type, "glm4_moe") == 0;
    return is_guess && template_is_there(dir) ? TEMPLATE : name;
}

struct render *render_open(const char *name, const struct tok *t,
                           const char *model_dir, struct err *err) {
    struct render *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for a renderer");
    json_t *conf;
    int rc = convert_config(model_dir, &conf, err);
    char *type = model_type(model_dir);
    r->tok = t;
    r->bos = special_text(conf, "bos_token");
    r->eos = special_text(conf, "eos_token");
    if (strcmp(name, "auto") == 0)
        name = auto_name(type, t, model_dir);
    r->family = family_find(name);
    find_controls(r);
    if (rc == 0)
        rc = find_date(r, err);
    if (rc == 0 && strcmp(name, TEMPLATE) == 0)
        rc = template_render(r, model_dir, conf, err);
    else if (rc == 0)
        rc = r->family ? check_words(r, err) : unknown_name(name, err);
    free(type);
    json_decref(conf);
    if (rc == 0)
        return r;
    render_close(r);
    return NULL;
}

void render_close(struct render *r) {
    if (!r)
        return;
    for (size_t i = 0; i < r->n_control; i++)
        free(r->control[i].text);
    if (r->source.free)
        r->source.free(r->source.arg);
    free(r->control);
    free(r->bos);
    free(r->eos);
    free(r);
}

/* ---- a conversation as a script ---- */

static int64_t turn_start(const struct render *r, const struct chat *c,
                          size_t n) {
    struct chat head = *c;
    head.n = n;
    if (r->family->shape->turn_start)
        return (int64_t)r->family->shape->turn_start(c, n);
    return chat_last(&head, ROLE_USER) + 1;
}

static void put_bos(const struct render *r, struct script *s) {
    const char *bos = r->family->bos;
    script_unit(s, -1, false);
    if (bos && strcmp(bos, BOS_TOKEN) == 0)
        bos = r->bos;
    script_fmt(s, bos ? bos : "");
}

/* A prompt ends on the header of the answer that it asks for. */
static void put_suffix(struct turn *t) {
    static const struct msg answer = {.role = ROLE_ASSISTANT,
                                      .role_name = "assistant"};
    t->m = &answer;
    t->i = t->c->n;
    t->is_last = t->is_current = t->is_suffix = true;
    t->r->family->shape->header(t);
}

static void put_overlap(const struct render *r, const struct chat *c,
                        struct script *s) {
    /* The stop string runs into the next header. The cookbook writes
     * <UNUSED> where no answer is last, and so must its twin. */
    if (!(r->family->flags & FAM_COLON))
        return;
    script_unit(s, (int64_t)c->n - 1, true);
    script_fmt(s, c->m[c->n - 1].role == ROLE_ASSISTANT ? "User:" : "<UNUSED>");
}

static int write_script(const struct render *r, const struct chat *c,
                        bool prompt, struct script *s, struct err *err) {
    if (r->source.write)
        return r->source.write(r->source.arg, c, prompt, s, err);
    int64_t start = turn_start(r, c, prompt ? c->n : c->n - 1);
    struct turn t = {.r = r, .f = r->family, .c = c, .s = s};
    t.last_user = chat_last(c, ROLE_USER);
    t.is_prompt = prompt;
    put_bos(r, s);
    for (t.i = 0; t.i < c->n; t.i++) {
        t.m = &c->m[t.i];
        t.is_last = t.i + 1 == c->n;
        t.is_current = (int64_t)t.i >= start;
        if (r->family->head[t.m->role])
            r->family->shape->header(&t);
        if (r->family->shape->output(&t, err) < 0)
            return -1;
    }
    if (prompt)
        put_suffix(&t);
    else
        put_overlap(r, c, s);
    return 0;
}

static int encode_chat(const struct render *r, const struct chat *c,
                       bool prompt, bool exact, struct script *s,
                       struct encoded *e, struct err *err) {
    script_init(s);
    memset(e, 0, sizeof *e);
    int rc = write_script(r, c, prompt, s, err);
    if (rc == 0)
        rc = buf_check(&s->text, "render a conversation", err);
    if (rc == 0)
        script_encode(s, r, c->is_compat, exact, e);
    return rc;
}

/* ---- weights ---- */

static bool is_trained(const struct chat *c, size_t i, enum train_on on,
                       int64_t start) {
    const struct msg *m = &c->m[i];
    bool answer = m->role == ROLE_ASSISTANT;
    if (m->untrained)
        return false;
    switch (on) {
    case TRAIN_LAST_ASSISTANT: return answer && i + 1 == c->n;
    case TRAIN_LAST_TURN: return answer && (int64_t)i >= start;
    case TRAIN_ALL_ASSISTANT: return answer;
    case TRAIN_USER_SYSTEM:
        return m->role == ROLE_USER || m->role == ROLE_SYSTEM;
    case TRAIN_CUSTOMIZED: return m->trainable;
    default: return true;
    }
}

static int check_trainable(const struct chat *c, enum train_on on,
                           struct err *err) {
    for (size_t i = 0; i < c->n; i++) {
        const struct msg *m = &c->m[i];
        if (m->has_trainable == (on == TRAIN_CUSTOMIZED))
            continue;
        if (m->is_synthetic)
            return err_set(err, ERR_INVAL,
                           "this renderer puts a system message in front, and "
                           "train_on_what=customized wants trainable on every "
                           "message: put your own there");
        return err_set(err, ERR_INVAL, "messages[%zu]: trainable %s", i,
                       m->has_trainable
                           ? "is only for train_on_what=customized"
                           : "is missing (train_on_what=customized)");
    }
    return 0;
}

/* A template need not tell where each answer is. */
static int check_outputs(const struct render *r, const struct chat *c,
                         enum train_on on, const struct script *s,
                         struct err *err) {
    int64_t start = c->n ? turn_start(r, c, c->n - 1) : 0;
    bool *told = calloc(c->n + 1, sizeof *told);
    int rc = 0;
    CHECK(told, "out of memory for a conversation");
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].msg >= 0 && s->piece[i].is_output)
            told[s->piece[i].msg] = true;
    for (size_t i = 0; rc == 0 && r->source.write && i < c->n; i++)
        if (on != TRAIN_ALL_TOKENS && is_trained(c, i, on, start) && !told[i])
            rc = err_set(err, ERR_INVAL,
                         "messages[%zu]: the checkpoint's chat template does "
                         "not tell which text of the conversation this "
                         "message is, so it cannot be trained "
                         "(train_on_what=last_assistant_message, or a "
                         "renderer: fettle render --list)",
                         i);
    free(told);
    return rc;
}

static void fill_weights(const struct render *r, const struct chat *c,
                         enum train_on on, const struct script *s,
                         const struct encoded *in, struct example *e) {
    int64_t start = c->n ? turn_start(r, c, c->n - 1) : 0;
    float header = on == TRAIN_ALL_TOKENS;
    e->weights = malloc((in->ids.n + 1) * sizeof *e->weights);
    CHECK(e->weights, "out of memory for weights");
    for (size_t i = 0; i < in->ids.n; i++) {
        const struct piece *p = &s->piece[in->piece[i]];
        if (p->msg < 0)
            e->weights[i] = 0;
        else if (!p->is_output)
            e->weights[i] = header;
        else
            e->weights[i] = is_trained(c, (size_t)p->msg, on, start);
    }
}

/* The message that a prompt stops before, in the modes that train what one
 * prompt asks for; -1 = none. */
static int64_t boundary_of(const struct chat *c, enum train_on on) {
    int64_t at = on == TRAIN_LAST_ASSISTANT ? (int64_t)c->n - 1
                 : on == TRAIN_LAST_TURN    ? chat_last(c, ROLE_USER) + 1
                                            : -1;
    if (at < 0 || at >= (int64_t)c->n || c->m[at].role != ROLE_ASSISTANT)
        return -1;
    return at;
}

/* What the prompt already says is not trained. */
static int clear_prompt(const struct render *r, const struct chat *c,
                        enum train_on on, struct example *e, struct err *err) {
    int64_t at = boundary_of(c, on);
    struct chat head = *c;
    struct script s;
    struct encoded in;
    if (at < 0)
        return 0;
    head.n = (size_t)at;
    int rc = encode_chat(r, &head, true, false, &s, &in, err);
    bool prefix = rc == 0 && in.ids.n <= e->tokens.n &&
                  (in.ids.n == 0 || memcmp(in.ids.id, e->tokens.id,
                                           in.ids.n * sizeof *in.ids.id) == 0);
    if (rc == 0 && !prefix && (r->family->flags & FAM_CLOSED))
        rc = err_set(err, ERR_INVAL,
                     "%s: its prompt closes the think block, but this answer "
                     "reasons, so that a model would be trained to reason "
                     "where it is told not to (drop the reasoning, or take "
                     "the renderer that thinks)",
                     r->family->name);
    for (size_t i = 0; prefix && i < in.ids.n; i++)
        e->weights[i] = 0;
    encoded_release(&in);
    script_release(&s);
    return rc;
}

/* ---- the public three ---- */

static int chat_open(const struct render *r, const json_t *messages, int flags,
                     struct chat *c, struct err *err) {
    if (chat_read(c, messages, (flags | r->flags) & RENDER_COMPAT, err) < 0)
        return -1;
    if (r->source.write)
        return 0;
    if (!c->is_compat &&
        (r->family->flags & (FAM_PARTS | FAM_AS_SAID)) == FAM_PARTS)
        chat_split_thinking(c);
    if (tools_declare(r, c, err) < 0)
        return -1;
    return r->family->shape->prepare ? r->family->shape->prepare(r, c, err) : 0;
}

static void fill_origin(const struct script *s, const struct encoded *in,
                        struct example *e) {
    e->origin = malloc(in->ids.n + 1);
    CHECK(e->origin, "out of memory for origins");
    for (size_t i = 0; i < in->ids.n; i++)
        e->origin[i] = s->piece[in->piece[i]].origin;
}

int render_example(const struct render *r, const json_t *messages,
                   enum train_on on, int flags, struct example *e,
                   struct err *err) {
    struct chat c;
    struct script s = {0};
    struct encoded in = {0};
    memset(e, 0, sizeof *e);
    int rc = chat_open(r, messages, flags, &c, err);
    if (rc == 0 && c.n == 0)
        rc = err_set(err, ERR_INVAL,
                     "messages: an empty system message says nothing");
    if (rc == 0)
        rc = check_trainable(&c, on, err);
    if (rc == 0)
        rc = encode_chat(r, &c, false, flags & RENDER_ORIGIN, &s, &in, err);
    if (rc == 0)
        rc = check_outputs(r, &c, on, &s, err);
    if (rc == 0) {
        fill_weights(r, &c, on, &s, &in, e);
        if (flags & RENDER_ORIGIN)
            fill_origin(&s, &in, e);
        e->tokens = in.ids;
        in.ids = (struct tok_ids){0};
        rc = clear_prompt(r, &c, on, e, err);
    }
    encoded_release(&in);
    script_release(&s);
    chat_release(&c);
    if (rc < 0)
        example_release(e);
    return rc;
}

int render_prompt(const struct render *r, const json_t *messages, int flags,
                  struct tok_ids *ids, struct err *err) {
    struct chat c;
    struct script s = {0};
    struct encoded in = {0};
    int rc = chat_open(r, messages, flags, &c, err);
    if (rc == 0)
        rc = encode_chat(r, &c, true, false, &s, &in, err);
    for (size_t i = 0; rc == 0 && i < in.ids.n; i++)
        tok_ids_push(ids, in.ids.id[i]);
    encoded_release(&in);
    script_release(&s);
    chat_release(&c);
    return rc;
}

int render_stops(const struct render *r, const uint32_t **ids,
                 const char *const **strings, int *n_strings) {
    *ids = r->stop;
    *strings = r->family->stop_string ? &r->family->stop_string : NULL;
    *n_strings = r->family->stop_string != NULL;
    return r->n_stop;
}
