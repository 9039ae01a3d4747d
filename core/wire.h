/*
 * wire - the op: one record with four lives. HTTP routes make it, the journal
 * stores its bytes, the worker executes it, and after a crash the same bytes
 * are replayed (DESIGN §3). Also the frames between daemon and worker.
 *
 *     struct op op = {.kind = OP_OPTIM_STEP, .model = "m1", .seq = 7};
 *     op.optim = (struct op_optim){.lr = 1e-4, .beta1 = 0.9, ...};
 *     struct buf b;
 *     buf_init(&b, WIRE_MAX);
 *     op_encode(&op, &b);
 *     ...
 *     op_decode(&op2, b.data, b.len, &err); ... op_release(&op2);
 *
 * An op decoded from bytes owns its memory (op_release frees it); an op that
 * is filled in by hand borrows whatever it points to and is never released.
 * Encoding is canonical: equal ops have equal bytes, so a retry is recognised
 * by its hash. Decoding validates every count against the bytes present.
 * Any thread.
 */
#ifndef FETTLE_CORE_WIRE_H
#define FETTLE_CORE_WIRE_H

#include "core/buf.h"

#include <stdint.h>

#define WIRE_MAX (256u << 20)      /* one op or one result */
#define WIRE_TOKENS_MAX (1u << 20) /* tokens of one datum */
#define WIRE_HTTP_FAILED 424 /* of a journaled op: final, no use to retry */
#define WIRE_NAME_MAX 256
#define WIRE_PATH_MAX 4096

enum op_kind {
    OP_CREATE,           /* seq 0 of every model: the op that makes it */
    OP_FORWARD,          /* logprobs and loss, no gradient */
    OP_FORWARD_BACKWARD, /* gradients accumulate until OP_OPTIM_STEP */
    OP_OPTIM_STEP,
    OP_SAVE,     /* commits a checkpoint directory */
    OP_LOAD,     /* replaces weights (and optimizer) by a checkpoint's */
    OP_SAMPLE,   /* seq > 0: on the model's live weights, in order;
                    seq == 0: on `target`, unordered, never journaled */
    OP_LOGPROBS, /* unordered like a sample with seq 0 */
    OP_N
};
const char *op_kind_name(enum op_kind kind); /* "forward_backward" */

/* Checkpoints go by id, "<run>/<name>": the directory's path below the
 * checkpoint root that the worker was started with.
 * Which weights an unordered op runs on: the worker's base model, or a
 * checkpoint on top of it. */
enum precision { PRECISION_EXACT, PRECISION_Q8, PRECISION_Q4, PRECISION_N };
const char *precision_name(enum precision p); /* "exact", "q8", "q4" */
int precision_by_name(const char *name);      /* or -1 */

struct op_target {
    char *ckpt;               /* id, "" = the base model itself */
    enum precision precision; /* of the matrices; exact: as they are stored */
};

/* Of the weights that full tuning's passes see; the master copy that AdamW
 * changes is f32 with either, and so is all arithmetic. */
enum tuning { TUNE_FP32, TUNE_BF16, TUNES };
const char *tuning_name(enum tuning t); /* "bf16" */

struct op_create {
    char *base;         /* registered model name */
    char *from;         /* checkpoint id to start from, "" = base weights */
    uint32_t lora_rank; /* 0 = full tuning */
    float lora_alpha;   /* scaling = alpha / rank */
    uint64_t seed;      /* of the adapter's initialisation */
    bool train_attn, train_mlp, train_unembed;
    enum tuning tuning;
    char *renderer; /* of its chats, kept with checkpoints; "" = not told */
};

enum loss_kind {
    LOSS_CROSS_ENTROPY,
    LOSS_IMPORTANCE_SAMPLING,
    LOSS_PPO,
    LOSS_CISPO,
    LOSS_DRO,
    LOSS_GSPO, /* ppo's with one ratio a sequence: exp of the mean of
                  lp - logprobs over the tokens that count, which are those
                  with a weight (without weights: an advantage) other than 0 */
    LOSS_N
};
const char *loss_name(enum loss_kind kind); /* wire name, "cross_entropy" */

/* Per-token arrays beside tokens and targets; (n,k) f32, NULL when absent. */
enum datum_field {
    DATUM_WEIGHTS,
    DATUM_LOGPROBS, /* the sampler's */
    DATUM_ADVANTAGES,
    DATUM_CLIP_LOW,
    DATUM_CLIP_HIGH,
    DATUM_FIELDS
};

/* One sequence. targets[i*k+j] is predicted from tokens[0..i]; nobody shifts
 * anything on the way. A loss is a plain sum over tokens and datums. */
struct datum {
    uint32_t n, k;              /* tokens; targets per token, usually 1 */
    uint32_t *tokens;           /* (n) */
    uint32_t *targets;          /* (n,k) */
    float *field[DATUM_FIELDS]; /* (n,k) each or NULL */
};

/* A sparse tensor as the protocols send it, in compressed rows; the bytes are
 * borrowed, little-endian, and need no alignment. */
struct csr {
    int64_t rows, cols;
    size_t width;       /* bytes of a value */
    size_t n;           /* values */
    const void *crow;   /* (rows+1) int64: row r has values crow[r] … */
    const void *col;    /* (n) int64, ascending within a row */
    const void *values; /* (n) */
};
/* The dense (rows,cols) tensor, missing cells 0; free() it. INVAL when bounds
 * or columns do not fit, TOOBIG above WIRE_MAX bytes. */
void *csr_dense(const struct csr *c, struct err *err);

struct op_pass { /* OP_FORWARD, OP_FORWARD_BACKWARD */
    enum loss_kind loss;
    float clip_low, clip_high, beta; /* loss config; NAN = the default */
    uint32_t n;
    struct datum *datums; /* (n) */
};

struct op_optim {
    double lr, beta1, beta2, eps, weight_decay;
    double grad_clip_norm; /* 0 = off */
};

enum ckpt_kind { CKPT_STATE, CKPT_SAMPLER, CKPT_KINDS };
const char *ckpt_kind_name(enum ckpt_kind kind); /* "state", "sampler" */

struct op_save {
    enum ckpt_kind kind;
    char *ckpt;    /* id; a verified directory that is there already is kept */
    uint64_t step; /* optimizer steps behind the weights, for the manifest */
};

struct op_load {
    char *ckpt; /* id */
    bool optimizer;
};

enum prompt_kind {
    PROMPT_TOKENS,   /* tokens[] */
    PROMPT_TEXT,     /* text, tokenised by the worker, BOS as the model asks */
    PROMPT_MESSAGES, /* text is JSON: messages, or {"messages","tools"} */
};

struct op_sample {
    struct op_target target; /* of an unordered sample */
    enum prompt_kind prompt;
    uint32_t n_tokens;
    uint32_t *tokens;
    char *text;
    uint32_t n;          /* samples of this prompt */
    uint32_t max_tokens; /* 0, or more than fit: to the context's end */
    float temperature;   /* 0 = greedy */
    int32_t top_k;       /* -1 = off */
    float top_p;         /* 1 = off */
    uint64_t seed;       /* always resolved by who makes the op */
    uint32_t n_stop_tokens;
    uint32_t *stop_tokens;
    uint32_t n_stops;
    char **stops;      /* stop strings */
    bool default_stop; /* also stop at the model's or renderer's end */
    bool prompt_logprobs;
    bool stream; /* send partial results */
    /* Written only when one of them is set (OP_EXT), so that an op without
     * has the bytes that it always had. */
    float min_p;               /* 0 = off */
    uint32_t top_k_out;        /* likeliest tokens told for each sampled one */
    uint32_t prompt_top_k_out; /* and for each of the prompt */
    bool pieces;               /* the text of every token told */
    bool parse; /* the answer as a message, too, as its renderer reads it */
};
#define WIRE_TOP_MAX 32 /* of top_k_out and prompt_top_k_out */

struct op_logprobs {
    struct op_target target;
    uint32_t n;
    uint32_t *tokens;
    bool sampler; /* by the sampler's path (paged KV, decode) */
};

struct op {
    enum op_kind kind;
    char *model; /* id, "" for unordered ops */
    uint64_t seq;
    union {
        struct op_create create;
        struct op_pass pass;
        struct op_optim optim;
        struct op_save save;
        struct op_load load;
        struct op_sample sample;
        struct op_logprobs logprobs;
    };
};

/* Appends the op's bytes; a failure is left in b (buf_check). */
void op_encode(const struct op *op, struct buf *b);
int op_decode(struct op *op, const void *p, size_t len, struct err *err);
void op_release(struct op *op);

/* ---- results ---- */

struct metric {
    char *name; /* with the reduction's suffix where the protocol wants one */
    double value;
};

/* The k likeliest tokens at each of n places, falling; place i has i*k …. */
struct top {
    uint32_t k;       /* 0 = not told */
    uint32_t *tokens; /* (n,k) */
    float *logprobs;  /* (n,k) */
};

/* A token's text: UTF-8, U+FFFD where it is part of a character. */
struct token_text {
    uint32_t token;
    char *text;
};

enum stop_reason { STOP_LENGTH, STOP_TOKEN, STOP_STRING, STOP_CANCELED };
const char *stop_reason_name(enum stop_reason r); /* "length", "stop", … */

struct sample {
    uint32_t n;
    uint32_t *tokens; /* (n), the stop token included */
    float *logprobs;  /* (n), after temperature, before top-k and top-p */
    char *text;       /* decoded, without the stop; "" without tokenizer */
    enum stop_reason stop;
    struct top top; /* places as tokens */
    char *message;  /* JSON: OpenAI's message that the tokens say; NULL: none */
};

/* What an op gives back; only the parts that its kind fills are set. */
struct result {
    uint32_t n_metrics;
    struct metric *metrics;
    uint32_t n_logprobs;    /* datums of a pass; 1 for OP_LOGPROBS */
    uint32_t *logprobs_len; /* (n_logprobs) floats each */
    float **logprobs;       /* pass: (n,k) of datum i; LOGPROBS: of token i
                               given tokens < i, [0] is NAN */
    uint32_t n_samples;
    struct sample *samples;
    uint32_t n_prompt; /* prompt tokens, with OP_SAMPLE */
    uint32_t *prompt_tokens;
    float *prompt_logprobs; /* (n_prompt) or NULL, [0] is NAN */
    struct top prompt_top;  /* place 0 is token 0, told nothing: ids 0, NAN */
    uint32_t n_pieces;
    struct token_text *pieces; /* by token, each once */
    uint64_t bytes;            /* OP_SAVE: size of the committed directory */
    uint64_t exec_us;          /* time of execution */
};

void result_encode(const struct result *r, struct buf *b);
int result_decode(struct result *r, const void *p, size_t len, struct err *err);
void result_release(struct result *r);
/* A copy of the name is made. */
void result_metric(struct result *r, const char *name, double value);
/* NAN when the result has no such metric. */
double result_get(const struct result *r, const char *name);
/* "" when the result has no piece of the token. */
const char *result_piece(const struct result *r, uint32_t token);

/* ---- frames over the socketpair between daemon and worker ---- */

/* Daemon to worker: OP, RESTORE, SNAPSHOT, CANCEL, PING, QUIT.
 * Worker to daemon: HELLO once, then for every id any number of PARTIAL
 * followed by exactly one RESULT or ERROR. OPs of one model run in the order
 * of their frames; unordered ops run beside them. */
enum frame_type {
    FRAME_HELLO,    /* u32 version, lstr device, u64 memory bytes */
    FRAME_OP,       /* op bytes */
    FRAME_RESTORE,  /* lstr model, lstr snapshot dir: makes model from it */
    FRAME_SNAPSHOT, /* lstr model, lstr dir: commits state(model) there */
    FRAME_UNLOAD,   /* lstr model */
    FRAME_CANCEL,   /* id of the op to abandon, best effort */
    FRAME_PING,
    FRAME_QUIT,    /* finish the running op, then exit 0 */
    FRAME_PARTIAL, /* a sample in progress: u32 index, u32 n tokens, tokens,
                      logprobs, lstr text added; where the op asks for them:
                      u32 k, k tokens, k logprobs (the likeliest), lstr piece
                      of the token and of each of the k */
    FRAME_RESULT,  /* result bytes */
    FRAME_ERROR,   /* lstr code name, lstr message */
    FRAME_N
};

struct frame {
    enum frame_type type;
    uint64_t id;
    uint8_t *data; /* owned by who read it; free() */
    size_t len;
};

/* Writes one frame whole; the caller serialises writers. */
int frame_write(int fd, enum frame_type type, uint64_t id, const void *data,
                size_t len, struct err *err);
/* Blocks for one frame. 1 = read, 0 = end of stream, -1 = error. */
int frame_read(int fd, struct frame *f, struct err *err);

#endif
