/*
 * render: conversations to tokens with loss weights (spec/renderers §1-4).
 * A message is a header (weight 0, but for all_tokens) and an output; each
 * piece of either is encoded on its own, control tokens by id.
 */
#include "core/text/int.h"

#include "core/fs.h"
#include "core/json.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum format { FORMAT_CHATML, FORMAT_QWEN3, FORMAT_LLAMA3, FORMAT_ROLE_COLON };
enum think { THINK_NONE, THINK_FRAME, THINK_OFF };

struct format_row {
    const char *name;
    enum format format;
    enum think think;
    const char *system; /* put in front when there is none */
};

static const struct format_row format_rows[] = {
    {"chatml", FORMAT_CHATML, THINK_NONE, NULL},
    {"llama3", FORMAT_LLAMA3, THINK_NONE, NULL},
    {"qwen2_5", FORMAT_CHATML, THINK_NONE,
     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {"qwen3", FORMAT_QWEN3, THINK_FRAME, NULL},
    {"qwen3_disable_thinking", FORMAT_QWEN3, THINK_OFF, NULL},
    {"qwen3_instruct", FORMAT_QWEN3, THINK_NONE, NULL},
    {"role_colon", FORMAT_ROLE_COLON, THINK_NONE, NULL},
};
#define N_FORMATS (sizeof format_rows / sizeof *format_rows)

/* Control tokens that a format must find in the tokenizer. */
static const char *const format_controls[][4] = {
    [FORMAT_CHATML] = {"<|im_start|>", "<|im_end|>"},
    [FORMAT_QWEN3] = {"<|im_start|>", "<|im_end|>"},
    [FORMAT_LLAMA3] = {"<|begin_of_text|>", "<|start_header_id|>",
                       "<|end_header_id|>", "<|eot_id|>"},
    [FORMAT_ROLE_COLON] = {NULL},
};

static const char *const train_names[TRAIN_ON_N] = {
#define TRAIN_NAME(id, name) [TRAIN_##id] = name,
    TRAIN_ON(TRAIN_NAME)
#undef TRAIN_NAME
};

struct render {
    const struct format_row *row;
    const struct tok *tok;
    int64_t control[4];
    int64_t bos;
    uint32_t stop[4];
    int n_stop;
};

const char *train_on_name(enum train_on w) { return train_names[w]; }

int train_on_by_name(const char *name) {
    for (int i = 0; i < TRAIN_ON_N; i++)
        if (strcmp(train_names[i], name) == 0)
            return i;
    return -1;
}

const char *render_list(int i) {
    return i >= 0 && (size_t)i < N_FORMATS ? format_rows[i].name : NULL;
}
const char *render_name(const struct render *r) { return r->row->name; }

/* ---- opening ---- */

static const struct format_row *row_find(const char *name) {
    for (size_t i = 0; i < N_FORMATS; i++)
        if (strcmp(format_rows[i].name, name) == 0)
            return &format_rows[i];
    return NULL;
}

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

/* What fits: the model's family first, then the tokens that are there. */
static const char *auto_name(const struct tok *t, const char *dir) {
    char *type = model_type(dir);
    bool chatml = tok_find(t, "<|im_start|>") >= 0;
    bool qwen3 = strncmp(type, "qwen3", 5) == 0;
    bool qwen2 = strncmp(type, "qwen2", 5) == 0;
    free(type);
    if (qwen3 && chatml)
        return tok_find(t, "<think>") >= 0 ? "qwen3" : "qwen3_instruct";
    if (qwen2 && chatml)
        return "qwen2_5";
    if (tok_find(t, "<|start_header_id|>") >= 0)
        return "llama3";
    return chatml ? "chatml" : "role_colon";
}

/* The file may hold integers beyond 64 bits (model_max_length). */
static void render_find_bos(struct render *r, const char *dir) {
    char *path = fs_path("%s/tokenizer_config.json", dir);
    json_t *j = json_load_file(path, JSON_DECODE_INT_AS_REAL, NULL);
    const json_t *b = json_object_get(j, "bos_token");
    const char *bos = json_is_object(b)
                          ? json_string_value(json_object_get(b, "content"))
                          : json_string_value(b);
    r->bos = bos ? tok_find(r->tok, bos) : -1;
    json_decref(j);
    free(path);
}

struct render *render_open(const char *name, const struct tok *t,
                           const char *model_dir, struct err *err) {
    if (strcmp(name, "auto") == 0)
        name = auto_name(t, model_dir);
    const struct format_row *row = row_find(name);
    if (!row) {
        err_set(err, ERR_INVAL,
                "no renderer '%.64s' (chatml, llama3, qwen2_5, "
                "qwen3, qwen3_disable_thinking, "
                "qwen3_instruct, role_colon)",
                name);
        return NULL;
    }
    struct render *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for a renderer");
    r->row = row;
    r->tok = t;
    for (int i = 0; i < 4 && format_controls[row->format][i]; i++) {
        r->control[i] = tok_find(t, format_controls[row->format][i]);
        if (r->control[i] < 0) {
            err_set(err, ERR_INVAL,
                    "renderer %s: the tokenizer has no token %s (another "
                    "renderer fits this model: try renderer=auto)",
                    name, format_controls[row->format][i]);
            free(r);
            return NULL;
        }
    }
    if (row->format == FORMAT_ROLE_COLON)
        render_find_bos(r, model_dir);
    else
        r->stop[r->n_stop++] =
            (uint32_t)(row->format == FORMAT_LLAMA3 ? r->control[3]
                                                    : r->control[1]);
    return r;
}

void render_close(struct render *r) { free(r); }

void example_release(struct example *e) {
    free(e->tokens.id);
    free(e->weights);
    free(e->origin);
    memset(e, 0, sizeof *e);
}

/* ---- writing tokens ---- */

struct out {
    const struct render *r;
    struct tok_ids *ids;
    float *weights;  /* grows with ids */
    uint8_t *origin; /* likewise */
    size_t cap;
    enum origin now; /* who writes */
    bool control;
};

static void out_fill(struct out *o, size_t from, float w) {
    if (o->ids->n > o->cap) {
        o->cap = 2 * o->ids->n;
        o->weights = realloc(o->weights, o->cap * sizeof *o->weights);
        o->origin = realloc(o->origin, o->cap);
        CHECK(o->weights && o->origin, "out of memory for weights");
    }
    for (size_t i = from; i < o->ids->n; i++) {
        o->weights[i] = w;
        o->origin[i] = (uint8_t)o->now;
    }
}

static void out_text(struct out *o, const char *s, float w, bool control) {
    size_t from = o->ids->n;
    tok_encode(o->r->tok, s, strlen(s), control ? TOK_CONTROL : 0, o->ids);
    out_fill(o, from, w);
}

static void out_id(struct out *o, int64_t id, float w) {
    size_t from = o->ids->n;
    o->now = ORIGIN_TEMPLATE;
    tok_ids_push(o->ids, (uint32_t)id);
    out_fill(o, from, w);
}

/* ---- messages ---- */

struct message {
    const char *role, *content;
    bool is_last, trainable;
    bool after_user; /* a user message comes before it */
    bool first;
};

static int message_read(const json_t *all, size_t i, struct message *m,
                        struct err *err) {
    const json_t *j = json_array_get(all, i);
    const json_t *content = json_object_get(j, "content");
    m->role = json_string_value(json_object_get(j, "role"));
    m->content = json_string_value(content);
    m->is_last = i + 1 == json_array_size(all);
    m->first = i == 0;
    m->trainable = json_is_true(json_object_get(j, "trainable"));
    if (!m->role || !*m->role)
        return err_set(err, ERR_INVAL, "messages[%zu]: role is missing", i);
    if (json_object_get(j, "tool_calls"))
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: tool_calls are not supported", i);
    if (!m->content)
        return err_set(err, content ? ERR_UNSUPPORTED : ERR_INVAL,
                       content ? "messages[%zu]: content that is not a string "
                                 "is not supported"
                               : "messages[%zu]: content is missing",
                       i);
    return 0;
}

/* Qwen3's framed answer: <think>\n…\n</think>\n\n and the text. */
static char *think_frame(const char *content) {
    const char *end = strstr(content, "</think>");
    if (!end)
        return fs_path("<think>\n\n</think>\n\n%s", content);
    const char *start = strstr(content, "<think>");
    const char *from = start && start < end ? start + 7 : content;
    const char *to = end, *text = end + 8;
    while (from < to && *from == '\n')
        from++;
    while (to > from && to[-1] == '\n')
        to--;
    while (*text == '\n')
        text++;
    return fs_path("<think>\n%.*s\n</think>\n\n%s", (int)(to - from), from,
                   text);
}

static void put_header(struct out *o, const struct message *m, float w) {
    const struct render *r = o->r;
    char *s;
    o->now = ORIGIN_HEADER;
    switch (r->row->format) {
    case FORMAT_CHATML:
    case FORMAT_QWEN3:
        s = fs_path("%s<|im_start|>%s\n",
                    r->row->format == FORMAT_QWEN3 && !m->first ? "\n" : "",
                    strcmp(m->role, "tool") == 0 ? "user" : m->role);
        break;
    case FORMAT_LLAMA3:
        s = fs_path("<|start_header_id|>%s<|end_header_id|>\n\n", m->role);
        break;
    default:
        s = fs_path("%s:", m->role);
        for (char *p = s; *p; p++)
            *p = (char)(p == s ? toupper((unsigned char)*p)
                               : tolower((unsigned char)*p));
        break;
    }
    out_text(o, s, w, true);
    free(s);
}

static int put_output(struct out *o, const struct message *m, float w,
                      struct err *err) {
    const struct render *r = o->r;
    bool assistant = strcmp(m->role, "assistant") == 0;
    bool framed =
        r->row->think != THINK_NONE && assistant && m->is_last && m->after_user;
    char *s;
    o->now = ORIGIN_CONTENT;
    if (r->row->think == THINK_OFF && framed && strstr(m->content, "</think>"))
        return err_set(err, ERR_INVAL,
                       "the last answer has thinking, which %s leaves out",
                       r->row->name);
    switch (r->row->format) {
    case FORMAT_ROLE_COLON:
        s = fs_path(" %s\n\n", m->content);
        out_text(o, s, w, o->control);
        break;
    case FORMAT_LLAMA3:
        s = fs_path("%s", m->content);
        out_text(o, s, w, o->control);
        out_id(o, r->control[3], w);
        break;
    default:
        s = framed ? think_frame(m->content)
            : strcmp(m->role, "tool") == 0
                ? fs_path("<tool_response>\n%s\n</tool_response>", m->content)
                : fs_path("%s", m->content);
        out_text(o, s, w, o->control);
        out_id(o, r->control[1], w);
        if (r->row->format == FORMAT_CHATML)
            out_text(o, "\n", w, false);
        break;
    }
    free(s);
    return 0;
}

static void put_bos(struct out *o) {
    if (o->r->row->format == FORMAT_LLAMA3)
        out_id(o, o->r->control[0], 0);
    else if (o->r->row->format == FORMAT_ROLE_COLON && o->r->bos >= 0)
        out_id(o, o->r->bos, 0);
}

static bool has_role(const json_t *all, size_t end, const char *role) {
    for (size_t i = 0; i < end && i < json_array_size(all); i++) {
        const char *r =
            json_string_value(json_object_get(json_array_get(all, i), "role"));
        if (r && strcmp(r, role) == 0)
            return true;
    }
    return false;
}

/* Index behind the last user message among the first n; 0 when none. */
static size_t turn_start(const json_t *all, size_t n) {
    size_t start = 0;
    for (size_t i = 0; i < n; i++) {
        const char *r =
            json_string_value(json_object_get(json_array_get(all, i), "role"));
        if (r && strcmp(r, "user") == 0)
            start = i + 1;
    }
    return start;
}

static float output_weight(const struct message *m, enum train_on on,
                           bool in_turn) {
    bool assistant = strcmp(m->role, "assistant") == 0;
    bool user = strcmp(m->role, "user") == 0 || strcmp(m->role, "system") == 0;
    switch (on) {
    case TRAIN_LAST_ASSISTANT: return m->is_last && assistant;
    case TRAIN_LAST_TURN: return assistant && in_turn;
    case TRAIN_ALL_ASSISTANT: return assistant;
    case TRAIN_USER_SYSTEM: return user;
    case TRAIN_CUSTOMIZED: return m->trainable;
    default: return 1;
    }
}

static int check_trainable(const json_t *all, enum train_on on,
                           struct err *err) {
    size_t i;
    json_t *m;
    json_array_foreach((json_t *)all, i, m) {
        bool has = json_object_get(m, "trainable") != NULL;
        if (has != (on == TRAIN_CUSTOMIZED))
            return err_set(err, ERR_INVAL, "messages[%zu]: trainable %s", i,
                           has ? "is only for train_on_what=customized"
                               : "is missing (train_on_what=customized)");
    }
    return 0;
}

static json_t *with_system(const struct render *r, const json_t *messages) {
    const char *role =
        json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    json_t *all = json_copy((json_t *)messages);
    if (r->row->system && (!role || strcmp(role, "system") != 0))
        json_array_insert_new(all, 0,
                              json_pack("{s:s, s:s}", "role", "system",
                                        "content", r->row->system));
    return all;
}

static int put_messages(struct out *o, const json_t *all, enum train_on on,
                        struct err *err) {
    size_t n = json_array_size(all), turn = n ? turn_start(all, n - 1) : 0;
    struct message m = {0};
    put_bos(o);
    for (size_t i = 0; i < n; i++) {
        if (message_read(all, i, &m, err) < 0)
            return -1;
        m.after_user = has_role(all, i, "user");
        put_header(o, &m, on == TRAIN_ALL_TOKENS);
        if (put_output(o, &m, output_weight(&m, on, i >= turn), err) < 0)
            return -1;
    }
    /* What the stop string leaves for the next header; the cookbook writes
     * <UNUSED> where no answer is last, and so must its twin. */
    if (o->r->row->format == FORMAT_ROLE_COLON && n > 0)
        out_text(o, strcmp(m.role, "assistant") == 0 ? "User:" : "<UNUSED>",
                 output_weight(&m, on, n > turn), false);
    return 0;
}

static void put_generation(struct out *o) {
    static const struct message next = {.role = "assistant"};
    put_header(o, &next, 0);
    if (o->r->row->think == THINK_OFF)
        out_text(o, "<think>\n\n</think>\n\n", 0, true);
}

static int render_check(const json_t *messages, struct err *err) {
    if (json_is_array(messages) && json_array_size(messages) > 0)
        return 0;
    return err_set(err, ERR_INVAL,
                   "messages: a list of at least one is wanted");
}

/* The two last_* modes: what the prompt already says is not trained. */
static int clear_prompt(const struct render *r, const json_t *messages,
                        enum train_on on, int flags, struct example *e,
                        struct err *err) {
    size_t n = json_array_size(messages);
    size_t boundary =
        on == TRAIN_LAST_ASSISTANT ? n - 1 : turn_start(messages, n - 1);
    const char *role = json_string_value(
        json_object_get(json_array_get(messages, boundary), "role"));
    if (!role || strcmp(role, "assistant") != 0)
        return 0;
    json_t *head = json_array();
    for (size_t i = 0; i < boundary; i++)
        json_array_append(head, json_array_get(messages, i));
    struct tok_ids ids = {0};
    int rc = boundary ? render_prompt(r, head, flags, &ids, err) : 0;
    bool prefix = rc == 0 && ids.n <= e->tokens.n &&
                  memcmp(ids.id, e->tokens.id, ids.n * sizeof *ids.id) == 0;
    for (size_t i = 0; prefix && i < ids.n; i++)
        e->weights[i] = 0;
    json_decref(head);
    free(ids.id);
    return rc;
}

int render_example(const struct render *r, const json_t *messages,
                   enum train_on on, int flags, struct example *e,
                   struct err *err) {
    memset(e, 0, sizeof *e);
    if (render_check(messages, err) < 0 ||
        check_trainable(messages, on, err) < 0)
        return -1;
    struct out o = {
        .r = r, .ids = &e->tokens, .control = flags & RENDER_COMPAT};
    json_t *all = with_system(r, messages);
    int rc = put_messages(&o, all, on, err);
    e->weights = o.weights;
    e->origin = o.origin;
    if (rc == 0 && (on == TRAIN_LAST_ASSISTANT || on == TRAIN_LAST_TURN))
        rc = clear_prompt(r, all, on, flags, e, err);
    json_decref(all);
    if (rc < 0)
        example_release(e);
    return rc;
}

int render_prompt(const struct render *r, const json_t *messages, int flags,
                  struct tok_ids *ids, struct err *err) {
    if (render_check(messages, err) < 0)
        return -1;
    struct out o = {.r = r, .ids = ids, .control = flags & RENDER_COMPAT};
    json_t *all = with_system(r, messages);
    size_t n = json_array_size(all);
    /* No message of a prompt is the last: the answer will be. */
    struct message m;
    int rc = 0;
    put_bos(&o);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = message_read(all, i, &m, err);
        m.is_last = false;
        m.after_user = has_role(all, i, "user");
        if (rc == 0) {
            put_header(&o, &m, 0);
            rc = put_output(&o, &m, 0, err);
        }
    }
    if (rc == 0)
        put_generation(&o);
    free(o.weights);
    free(o.origin);
    json_decref(all);
    return rc;
}

int render_stops(const struct render *r, const uint32_t **ids,
                 const char *const **strings, int *n_strings) {
    static const char *const colon[] = {"\n\nUser:"};
    bool is_colon = r->row->format == FORMAT_ROLE_COLON;
    *ids = r->stop;
    *strings = is_colon ? colon : NULL;
    *n_strings = is_colon;
    return r->n_stop;
}
