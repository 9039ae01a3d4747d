/*
 * text - words to tokens and back: tokenizer.json, renderers (chat formats
 * with loss weights), and rows of training data.
 *
 *     struct tok *tok = tok_open(model_dir, &err);
 *     struct tok_ids ids = {0};
 *     tok_encode(tok, "hello", 5, 0, &ids);
 *     struct render *r = render_open("auto", tok, model_dir, &err);
 *     render_example(r, messages, TRAIN_ALL_ASSISTANT, &ex, &err);
 *
 * Immutable after opening; shared by threads, except struct tok_stream.
 * Message text never becomes a control token unless TOK_CONTROL is given.
 */
#ifndef FETTLE_CORE_TEXT_H
#define FETTLE_CORE_TEXT_H

#include "core/err.h"

#include <jansson.h>
#include <stdint.h>

/* ---- tokenizer ---- */

struct tok;

/* Reads DIR/tokenizer.json, or, without one, a .tiktoken or SentencePiece
 * model; NOTFOUND when there is none; UNSUPPORTED names what this program
 * lacks. */
struct tok *tok_open(const char *dir, struct err *err);
/* The name of the file in DIR that tok_open() reads, free() it; NULL: none. */
char *tok_file(const char *dir);
void tok_close(struct tok *t);
int32_t tok_size(const struct tok *t); /* one above the highest id */
/* Id of a token by its exact content, -1 = none. */
int64_t tok_find(const struct tok *t, const char *content);

struct tok_ids {
    uint32_t *id; /* owned; free() */
    size_t n, cap;
};
void tok_ids_push(struct tok_ids *ids, uint32_t id);

enum {
    TOK_CONTROL = 1, /* special tokens written in the text become tokens */
    TOK_BOS = 2,     /* put what the post-processor puts around a text */
    TOK_PLAIN = 4,   /* no added token at all, special or not, is found */
};
/* Appends the ids of UTF-8 text; bytes that are not UTF-8 become U+FFFD. */
void tok_encode(const struct tok *t, const char *text, size_t len, int flags,
                struct tok_ids *ids);
/* The same; and, unless at is NULL, the bytes of the text that each token
 * covers: whole characters (of the text with U+FFFD in it, when it was not
 * UTF-8), without the spaces that the post-processor takes off (ByteLevel's
 * and RobertaProcessing's trim_offsets). Those of TOK_BOS cover 0 to 0. */
struct tok_span {
    uint32_t from, to;
};
struct tok_spans {
    struct tok_span *at; /* owned; free() */
    size_t n, cap;
};
void tok_encode_at(const struct tok *t, const char *text, size_t len, int flags,
                   struct tok_ids *ids, struct tok_spans *at);
/* Bytes to characters, as which Hugging Face's Python counts; of valid UTF-8
 * that the spans belong to. */
void tok_spans_chars(const char *text, size_t len, struct tok_spans *at);
/* The text of ids, valid UTF-8, free() it. Ids without a token are dropped;
 * special ones too when `skip` is set. */
char *tok_decode(const struct tok *t, const uint32_t *id, size_t n, bool skip);
/* The whole text of ids: *len bytes, NUL bytes among them; free() it. INVAL
 * names an id without a token. */
char *tok_decode_all(const struct tok *t, const uint32_t *id, size_t n,
                     size_t *len, struct err *err);
bool tok_is_special(const struct tok *t, uint32_t id);

/* Text of ids that come one by one, cut at whole characters; starts as {0}. */
#define TOK_STREAM_MAX 64 /* ids without a whole character that are awaited */
struct tok_stream {
    uint32_t id[TOK_STREAM_MAX];
    int n, read;
    bool keep_special;
};
/* The text that id completes, free() it; "" when none yet. At the end call
 * with id UINT32_MAX for what is left. */
char *tok_stream_next(const struct tok *t, struct tok_stream *s, uint32_t id);

/* Learns a byte-level BPE of `size` ids from UTF-8 text (Sennrich et al.
 * 2016: the most frequent pair is merged next; ties go to the lower ids) and
 * writes DIR/tokenizer.json in the layout of Qwen 2: 256 bytes, merges, then
 * the special tokens. The same text gives the same file. */
struct tok_learn {
    const char *text;
    size_t len;
    int32_t size;
    const char *const *special; /* ends with NULL */
};
int tok_learn(const struct tok_learn *in, const char *dir, struct err *err);

/* How fast one thread is: seconds of one pass over a text, in parts of
 * 100 kB. */
struct tok_speed {
    double encode_s, decode_s;
    size_t tokens;
};
struct tok_speed tok_bench(const struct tok *t, const char *text, size_t len);
/* A text of len bytes of the vocabulary's words, the same every time; owned by
 * the caller. */
enum tok_bench_kind {
    TOK_BENCH_ENGLISH,
    TOK_BENCH_CODE,
    TOK_BENCH_CJK,
    TOK_BENCH_MIXED,
    TOK_BENCH_N
};
const char *tok_bench_name(enum tok_bench_kind kind);
char *tok_bench_text(const struct tok *t, enum tok_bench_kind kind, size_t len);

/* ---- renderers ---- */

/* Which tokens count: the table of spec/renderers §2. */
#define TRAIN_ON(X) \
    X(LAST_ASSISTANT, "last_assistant_message") \
    X(LAST_TURN, "last_assistant_turn") \
    X(ALL_ASSISTANT, "all_assistant_messages") \
    X(ALL_MESSAGES, "all_messages") \
    X(ALL_TOKENS, "all_tokens") \
    X(USER_SYSTEM, "all_user_and_system_messages") \
    X(CUSTOMIZED, "customized")
enum train_on {
#define TRAIN_ENUM(id, name) TRAIN_##id,
    TRAIN_ON(TRAIN_ENUM)
#undef TRAIN_ENUM
        TRAIN_ON_N
};
const char *train_on_name(enum train_on w);
int train_on_by_name(const char *name); /* or -1 */

struct render;
/* A renderer by name, or "auto": what fits the model and its tokens. Borrows
 * the tokenizer. */
struct render *render_open(const char *name, const struct tok *t,
                           const char *model_dir, struct err *err);
void render_close(struct render *r);
/* From now on RENDER_COMPAT is in all flags given. */
void render_set_compat(struct render *r);
const char *render_name(const struct render *r);
/* Names of all renderers, one by one; NULL ends. */
const char *render_list(int i);

/* Who wrote a token: the format, its header of a message, or the message. */
enum origin { ORIGIN_TEMPLATE, ORIGIN_HEADER, ORIGIN_CONTENT };

struct example {
    struct tok_ids tokens;
    float *weights;  /* (tokens.n) does token i count as a target; owned */
    uint8_t *origin; /* (tokens.n) enum origin, or NULL; owned */
    uint32_t unit;   /* of a dataset: the turns of a conversation share one */
    size_t lost;     /* tokens that example_cut() took */
};
void example_release(struct example *e);
/* Leaves the first max_length tokens, 0 = all. */
void example_cut(struct example *e, size_t max_length);
/* Targets that count among the first max_length tokens (0 = all); the first
 * token is no target. */
size_t example_trained(const struct example *e, size_t max_length);

enum {
    RENDER_COMPAT = 1, /* message text may make control tokens, as in the
                        * cookbook: for comparisons only */
    RENDER_ORIGIN = 2, /* fill example.origin (costs a decoding) */
};
/* messages: [{"role","content"}, …], or {"messages":[…],"tools":[…]}. */
int render_example(const struct render *r, const json_t *messages,
                   enum train_on on, int flags, struct example *e,
                   struct err *err);
/* The prompt that asks for the next assistant message. */
int render_prompt(const struct render *r, const json_t *messages, int flags,
                  struct tok_ids *ids, struct err *err);
/* Does a prompt always begin with the one of the turn before it, and the
 * answer? If not, render_examples() splits a conversation. */
bool render_extends(const struct render *r);
/* The examples of a conversation: one, or where render_extends() is false and
 * answers are trained (all_assistant_messages, customized), one a turn with
 * the prompt that the turn would see. *list and its examples are the
 * caller's. */
int render_examples(const struct render *r, const json_t *messages,
                    enum train_on on, int flags, struct example **list,
                    size_t *n, struct err *err);
/* Where an answer ends: token ids and strings, borrowed. */
int render_stops(const struct render *r, const uint32_t **ids,
                 const char *const **strings, int *n_strings);

enum reply_end { REPLY_STOP, REPLY_EOS, REPLY_MALFORMED };
const char *reply_end_name(enum reply_end e); /* "stop_sequence" */
/* The message that an answer's tokens say, its stop token included: {"role",
 * "content": text, or parts {"type":"text"|"thinking"}, "tool_calls",
 * "unparsed_tool_calls":[{"raw_text","error"}]}; the caller's. Without a stop
 * it is malformed: one text. NULL: more than one stop token. */
json_t *render_parse(const struct render *r, const uint32_t *id, size_t n,
                     enum reply_end *end, struct err *err);
/* A message with one text as OpenAI's: content, reasoning_content. */
json_t *message_openai(const json_t *message);

/* A renderer beside the checkpoint's own chat template, over a bank of
 * conversations: {"renderer", "scenarios", "equal", "known", "vanished",
 * "different": counts, "rows": [{"scenario","verdict","why"?,"ours"?,
 * "template"?}]}, all but equal ones. NOTFOUND: it has no template. */
json_t *render_parity(const char *name, const struct tok *t,
                      const char *model_dir, struct err *err);

/* The bank: the name of conversation i, NULL behind the last; it, {"messages",
 * "tools"?}, the caller's. */
const char *scenario_id(int i);
json_t *scenario_json(int i);

/* ---- rows ---- */

#define ROW_LINE_MAX (16 << 20)

/* What rows look like; in this order a row's keys are looked at. */
enum row_format {
    ROW_TOKENS,       /* {"tokens", "weights"?} */
    ROW_PREFERENCE,   /* {"prompt"?, "chosen", "rejected"} */
    ROW_GROUND_TRUTH, /* {"messages", "ground_truth"} */
    ROW_CHAT,         /* {"messages", "tools"?}, as OpenAI's */
    ROW_SHAREGPT,     /* {"conversations": [{"from", "value"}]} */
    ROW_ALPACA,       /* {"instruction", "input"?, "output"} */
    ROW_PROMPT,       /* {"prompt", "completion"}: texts or messages */
    ROW_ANSWER,       /* {"prompt", "answer"} */
    ROW_TEXT,         /* {"text"}, every token trained */
    ROW_FORMATS_N
};
const char *row_format_name(enum row_format f); /* "chat" */
int row_format_by_name(const char *name);       /* or -1 */
/* The format of a row by its keys; -1 names what it has. */
int row_format(const json_t *row, struct err *err);
/* The conversation that a row says ({"messages","tools"?}, the caller's): of a
 * preference the chosen one. Not for tokens and texts. */
json_t *row_chat(const json_t *row, enum row_format f, struct err *err);
json_t *row_rejected(const json_t *row, struct err *err);

/* Calls fn for every row of a file: a line of JSONL, or all of a .txt as
 * {"text"}. row NULL: `bad` says what is wrong with the line. Blank lines are
 * no rows. What fn returns below 0 ends it, with `err`. */
typedef int row_fn(void *arg, size_t line, const json_t *row,
                   const struct err *bad, struct err *err);
int rows_each(const char *path, row_fn *fn, void *arg, struct err *err);

/* How rows become examples. */
struct row_conf {
    const struct tok *tok;       /* these two may be NULL when no row needs */
    const struct render *render; /* them; why says what keeps them away */
    const char *why;
    enum train_on on;
    int flags;         /* RENDER_… */
    int format;        /* that of all rows, or -1 = what each looks like */
    size_t max_length; /* tokens an example is cut to at the right, 0 = never;
                        * texts are cut into pieces instead */
    int64_t vocab;     /* ids at or above it are refused */
    bool skip;         /* dataset_read() leaves out what trains nothing */
};

/* What is trained at once: a row, a turn of one (render_examples), or a piece
 * of a text: tokens and the weight of each as a target. */
struct examples {
    struct example *e; /* owned; not cut to max_length but for texts */
    size_t n;
};
/* A preference gives its chosen and its rejected side. */
int row_examples(const struct row_conf *c, const json_t *row,
                 struct examples *out, struct err *err);
void examples_release(struct examples *x);
/* Drops the examples that train nothing once they are cut to max_length (late
 * turns of a long conversation, the last token of a text). What is wrong with
 * a row that has none left; row_fault_text() says it. */
enum row_fault { ROW_TRAINS, ROW_UNTRAINED, ROW_CUT_AWAY };
enum row_fault examples_judge(struct examples *x, size_t max_length);
const char *row_fault_text(enum row_fault f);

struct dataset {
    struct example *row;
    size_t n;
    uint32_t units; /* rows, and pieces of texts: example.unit is below */
    size_t cut;     /* examples that max_length cut */
    size_t skipped; /* rows that train nothing */
};
/* Reads a file for supervised training; preferences, rows that have only an
 * answer to check, and without `skip` rows that train nothing are refused.
 * Errors name file and line. */
int dataset_read(struct dataset *rows, const char *path,
                 const struct row_conf *c, struct err *err);
void dataset_release(struct dataset *rows);

/* Puts rows of these lengths (1 to room) into bins of at most `room` tokens:
 * the longest first, each where least room is left (best fit decreasing);
 * equal lengths in the order given. bin[i] = that of row i; how many bins,
 * which depends on the lengths alone. */
uint32_t bins_best_fit(const uint32_t *length, uint32_t n, uint32_t room,
                       uint32_t *bin);

/* ---- checking data before training ---- */

struct check_conf {
    struct row_conf row;
    const char *eval; /* a file of held-out rows, or NULL */
    size_t list_most; /* findings of each kind that are listed */
};
/* Reads a file as training would, and all of it whatever is wrong:
 * {"rows", "formats": {name: rows}, "tokens": {"total","trained","mean","min",
 *  "p50","p90","p99","max"}, "histogram": [{"from","rows"}], "cut": {"rows",
 *  "tokens"}, "packing": {"rows","bins","max_length","fill"} (packing=best_fit
 *  of what is trained), "findings": [{"kind","is_fatal","count","help",
 *  "rows":[{"line","what"}]}], "fatal": rows that training would refuse or get
 *  nothing from}. NULL only when the file cannot be read. Texts are not kept:
 * memory grows by some 40 bytes a row. */
json_t *data_check(const char *path, const struct check_conf *c,
                   struct err *err);

#endif
