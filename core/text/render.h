/*
 * render - what the files of the renderers share.
 *
 * A conversation takes three steps. It is read (struct chat), written as a
 * script by the functions of its family's shape (struct script: text that
 * knows who wrote each byte and whose it is), and the script is encoded.
 *
 *     struct chat c;                       render_chat.c
 *     chat_read(&c, messages, &err);
 *     struct script s;                     render_script.c
 *     shape->…(…) or script_fmt(&s, "<|im_start|>"), script_data(&s, text, n)
 *     script_encode(&s, tok, compat, …)
 *
 * A script consists of units; each is encoded on its own, as the cookbook
 * encodes each header and each string of an output. In a unit the text of a
 * message is never searched for control tokens, the format's own text is.
 *
 * A renderer that no row of the table describes (a checkpoint's template)
 * is a struct render with a `source`: it writes the script itself.
 */
#ifndef FETTLE_CORE_TEXT_RENDER_H
#define FETTLE_CORE_TEXT_RENDER_H

#include "core/buf.h"
#include "core/text/int.h"

#define RENDER_TEXT_MAX ((size_t)1 << 30)
#define CHAT_MAX 16384 /* messages, and calls of one; some are put in order */

/* ---- rich: bytes that know which of them the format wrote ---- */

struct range {
    size_t from, to;
};
struct rich {
    struct buf text;
    struct range *fmt; /* what the format wrote, in order; the rest is data */
    size_t n_fmt, cap;
};
void rich_init(struct rich *r);
void rich_release(struct rich *r);
void rich_fmt(struct rich *r, const char *s);
void rich_data(struct rich *r, const void *s, size_t n);

/* A part of a rich, borrowed. */
struct view {
    const struct rich *rich;
    size_t from, to;
};
struct view view_of(const struct rich *r);
const char *view_str(const struct view *v); /* not ended by a 0 */
size_t view_len(const struct view *v);
/* Without the bytes of `set` at the left or right end; set NULL: what
 * Python's str.strip() takes. */
enum { LEFT = 1, RIGHT = 2, BOTH = 3 };
struct view view_strip(struct view v, const char *set, int ends);
/* Offset of s in v at or behind `from`, -1 = none. */
int64_t view_find(const struct view *v, size_t from, const char *s);
void rich_view(struct rich *to, struct view v);

/* ---- chat: a conversation, read ---- */

enum role {
    ROLE_SYSTEM,
    ROLE_USER,
    ROLE_ASSISTANT,
    ROLE_TOOL,
    ROLE_DECLARE, /* tool_declare: tools as a message, some families' way */
    ROLE_BUILTIN, /* the system message that a format itself writes */
    ROLE_OTHER,
    ROLE_N
};

struct part {
    bool is_thinking;
    struct rich text;
};
struct call {
    const char *name, *id; /* borrowed; id may be NULL */
    char *args;            /* owned: JSON text */
    size_t args_len;
};
struct msg {
    enum role role;
    const char *role_name; /* borrowed */
    struct part *part;     /* owned */
    size_t n_part;
    bool is_text; /* content came as a string: one part */
    struct call *call;
    size_t n_call;
    const char *name, *call_id; /* of a tool's answer; borrowed, may be NULL */
    bool has_trainable, trainable;
    bool untrained;    /* weight 0 in the row */
    bool is_synthetic; /* not in the row: the format put it there */
    bool is_folded;    /* the system's text opens it; stripped already */
    bool is_merged;    /* its text went into the message before it */
};
struct chat {
    struct msg *m; /* owned */
    size_t n, cap;
    json_t *hold;        /* owned: what the borrowed strings lie in */
    const json_t *tools; /* borrowed, may be NULL */
    bool is_declared;    /* tools are in it, as a message or beside it */
    bool is_compat;
    int64_t keep_from; /* reasoning before this message is dropped */
};
/* messages as render_example takes them. Errors name the message. */
int chat_read(struct chat *c, const json_t *messages, bool compat,
              struct err *err);
void chat_release(struct chat *c);
/* Answers that begin with <think>…</think> become reasoning and text, as the
 * models' own templates take them. */
void chat_split_thinking(struct chat *c);
/* A message more at `at`, of no parts. */
struct msg *chat_insert(struct chat *c, size_t at, enum role role,
                        const char *role_name);
void chat_remove(struct chat *c, size_t at);
/* The message's content becomes one text, empty: write into it. */
struct rich *msg_set_text(struct msg *m);
/* All text parts, joined, behind what is in `to`. */
void msg_text(const struct msg *m, struct rich *to);
/* In compat also a text with <think> in it. */
bool msg_has_thinking(const struct msg *m, bool compat);
/* A refusal unless the message is text alone. */
int msg_check_text(const struct chat *c, size_t i, struct err *err);
int64_t chat_last(const struct chat *c, enum role role); /* index or -1 */

/* ---- script: what is encoded ---- */

struct piece {
    size_t from;     /* bytes of the script's text, up to the next piece */
    int32_t msg;     /* whose, -1 = nobody's */
    uint8_t origin;  /* enum origin */
    bool is_output;  /* trained when the message is; else a header */
    bool is_fmt;     /* searched for control tokens */
    bool is_cut;     /* a unit begins */
    bool is_literal; /* no special token in the unit even in compat */
};
struct script {
    struct buf text;
    struct piece *piece; /* owned */
    size_t n, cap;
    struct piece next; /* what script_fmt() and script_data() write */
};
void script_init(struct script *s);
void script_release(struct script *s);
/* What follows is a unit of its own, header or output of message `msg`. */
void script_unit(struct script *s, int64_t msg, bool is_output);
void script_fmt(struct script *s, const char *text);
void script_put(struct script *s, const char *text, size_t n, bool is_fmt);
void script_data(struct script *s, const void *text, size_t n);
void script_view(struct script *s, struct view v);
void script_rich(struct script *s, const struct rich *r);

/* ids with the piece of each. A token belongs to the piece it begins in. */
struct encoded {
    struct tok_ids ids;
    uint32_t *piece; /* (ids.n) owned */
};
void encoded_release(struct encoded *e);
/* exact: pieces of one unit are told apart; else only units whose pieces
 * differ in is_output are. */
void script_encode(const struct script *s, const struct render *r, bool compat,
                   bool exact, struct encoded *e);

/* ---- the families ---- */

/* How reasoning is dealt with, and other habits. */
enum {
    FAM_THINKS = 1 << 0,       /* frames the reasoning of an answer */
    FAM_CLOSED = 1 << 1,       /* the prompt closes the block: no reasoning */
    FAM_STRIPS = 1 << 2,       /* reasoning of earlier turns is dropped */
    FAM_EXTENDS = 1 << 3,      /* a prompt begins with the one before it */
    FAM_GROUPS = 1 << 4,       /* answers of tools share one message */
    FAM_TRIMS = 1 << 5,        /* a content of one string is stripped */
    FAM_TRIMS_PARTS = 1 << 10, /* so are the ends of a list of parts */
    FAM_COLON = 1 << 6,        /* Role: text */
    FAM_FOLDS = 1 << 7,    /* the system's text opens the first user's turn */
    FAM_SYSTEM = 1 << 8,   /* there always is a system message */
    FAM_REOPENS = 1 << 11, /* an answer closes the block of the prompt */
    FAM_JOINS = 1 << 12,   /* as FAM_GROUPS, but not in compat */
    FAM_AS_SAID = 1 << 13, /* <think> in a text is what was said */
    FAM_PARTS = 1 << 9,    /* takes reasoning and more than one part */
};
/* When an answer without reasoning is given an empty block. */
enum none_when { NONE_NEVER, NONE_CURRENT, NONE_EVER, NONE_MARKED };
enum tools_style {
    TOOLS_NONE,
    TOOLS_JSON,      /* Qwen 3 */
    TOOLS_XML,       /* Qwen 3.5: JSON a line, calls in XML */
    TOOLS_XML_DECL,  /* Nemotron 3: declarations in XML, too */
    TOOLS_DEEPSEEK3, /* headings and JSON */
    TOOLS_DSML,      /* DeepSeek 4 */
    TOOLS_GLM,
    TOOLS_KIMI_JSON, /* a tool_declare message of sorted JSON */
    TOOLS_KIMI_TS,   /* of TypeScript */
    TOOLS_HARMONY,   /* TypeScript in the developer's message */
    TOOLS_MISTRAL,
    TOOLS_GEMMA4,
};
enum calls_style {
    CALLS_NONE,
    CALLS_JSON,   /* <tool_call>\n{"name", "arguments"}\n</tool_call> */
    CALLS_XML,    /* <function=f><parameter=p> */
    CALLS_TOKENS, /* name and arguments between control tokens */
    CALLS_IDS,    /* likewise, with the call's id for its name */
    CALLS_DSML,
    CALLS_ARG_KEY, /* GLM */
    CALLS_GEMMA4,
};
enum values_style { VALUES_STR, VALUES_JSON }; /* str(v), or JSON of no str */

struct turn;
struct reply;
struct shape {
    /* Rewrites the conversation; may be NULL. */
    int (*prepare)(const struct render *r, struct chat *c, struct err *err);
    void (*header)(struct turn *t);
    int (*output)(struct turn *t, struct err *err);
    /* The text of an answer into its parts. */
    void (*parse)(const struct render *r, struct reply *p);
    /* Where the turn begins that is, or is to be, answered; NULL: behind the
     * last message of a user. */
    size_t (*turn_start)(const struct chat *c, size_t n);
};

struct family {
    const char *name;
    const struct shape *shape;
    unsigned flags;
    const char *bos; /* BOS_TOKEN = the tokenizer's */
    const char *sep; /* opens every header but the first */
    /* Headers, with {role}, {name} and {id} of the message; NULL: refused. */
    const char *head[ROLE_N];
    const char *tail[ROLE_N];  /* ends an output */
    const char *lead;          /* between a role's token and the text */
    const char *result[2];     /* around a tool's answer */
    const char *open;          /* a prompt ends on it */
    const char *think[2];      /* around reasoning */
    const char *none;          /* stands for no reasoning */
    const char *system, *hint; /* default system; what the last user adds */
    const char *effort;        /* how much reasoning is asked for */
    const char *calls[5];      /* all, call, args, end of call, end of all */
    const char *calls_sep;     /* between two of them */
    const char *name_head;     /* what a tool's name begins with */
    const char *name_none;     /* stands for a tool's name that is missing */
    const char *stop[4];       /* tokens that end an answer */
    const char *stop_string;   /* or a string */
    enum none_when none_when;
    enum tools_style tools;
    enum calls_style calls_style;
    enum values_style values;
};
#define BOS_TOKEN "{bos}"
#define ANY_ROLE(s) \
    { \
        [ROLE_SYSTEM] = s, [ROLE_USER] = s, [ROLE_ASSISTANT] = s, \
        [ROLE_TOOL] = s, [ROLE_DECLARE] = s, [ROLE_OTHER] = s \
    }

const struct family *family_at(size_t i); /* NULL behind the last */
const struct family *family_find(const char *name);
/* The nth name of what fits a model type ("qwen3") and a tokenizer; 0 is there
 * always, NULL behind the last. */
const char *family_guess(const char *model_type, const struct tok *t, int nth);

/* A message on its way into a script. */
struct turn {
    const struct render *r;
    const struct family *f;
    const struct chat *c;
    const struct msg *m; /* at i; an empty answer at c->n */
    size_t i;
    struct script *s;
    int64_t last_user; /* -1 = none */
    bool is_last;
    bool is_current; /* of the turn that is, or is to be, answered */
    bool is_suffix;  /* the header of the answer that is asked for */
    bool is_prompt;
};
bool turn_follows(const struct turn *t, enum role role);
bool turn_precedes(const struct turn *t, enum role role);

/* Tools of the conversation become messages of it, as the family does. */
int tools_declare(const struct render *r, struct chat *c, struct err *err);
/* OpenAI's declarations as JSON text, in DeepSeek 4's words. */
int tools_dsml(const struct rich *json, struct rich *to, struct err *err);
/* TypeScript of a function's JSON schema. */
int ts_kimi(struct buf *b, const json_t *function, struct err *err);
void ts_harmony(struct buf *b, const json_t *function);
/* The calls of a message, in the family's words. */
int calls_write(const struct turn *t, struct rich *to, struct err *err);

/* A renderer that is no row of the table, e.g. a checkpoint's template. */
struct render_source {
    void *arg;
    int (*write)(void *arg, const struct chat *c, bool prompt, struct script *s,
                 struct err *err);
    void (*free)(void *arg);
};

struct control {
    char *text;
    size_t len;
    uint32_t id;
    bool eats_space; /* takes the white space behind it */
};
struct render {
    const struct family *family;
    struct render_source source; /* write NULL: the family's shape */
    const struct tok *tok;
    char *bos, *eos;         /* the tokenizer's; owned, may be NULL */
    char date[16];           /* YYYY-MM-DD */
    struct control *control; /* longest first */
    size_t n_control;
    uint32_t stop[4];
    int n_stop;
    int flags; /* added to those of every call */
};

/* One more text that is a token of its own when the format writes it. */
void render_control_add(struct render *r, const char *text);

/* ---- Python's words for JSON ---- */

enum { PY_ASCII = 1, PY_COMPACT = 2, PY_SORT = 4 };
/* json.dumps(j), ensure_ascii=False unless PY_ASCII. */
void py_dumps(struct buf *b, const json_t *j, int flags);
/* str(j) of what json.loads() gives; a list or dict is its repr(). */
void py_str(struct buf *b, const json_t *j);
/* A JSON text of any kind; NULL and an error naming `what`. */
json_t *py_loads(const char *text, size_t len, const char *what,
                 struct err *err);

#endif
