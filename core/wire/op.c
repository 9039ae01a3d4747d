/*
 * op: the canonical bytes of an op.
 * Layout: u32 magic "FOP1", u8 kind, lstr model, u64 seq, then the payload of
 * the kind in the order of its struct. Invariant: one op, one byte string; so
 * decode refuses every flag that is not 0 or 1 and every trailing byte.
 */
#include "core/wire.h"

#include "core/wire/arrays.h"

#include <stdlib.h>
#include <string.h>

#define OP_MAGIC 0x31504f46u
#define OP_TEXT_MAX (16u << 20)

static bool get_flag(struct cur *c) {
    uint8_t v = cur_u8(c);
    if (v > 1)
        c->bad = true;
    return v == 1;
}

static uint32_t get_enum(struct cur *c, uint32_t n) {
    uint32_t v = cur_u8(c);
    if (v >= n)
        c->bad = true;
    return v;
}

/* ---- create ---- */

static void put_create(struct buf *b, const struct op_create *o) {
    buf_lstr(b, o->base);
    buf_lstr(b, o->from);
    buf_u32(b, o->lora_rank);
    buf_f32(b, o->lora_alpha);
    buf_u64(b, o->seed);
    buf_u8(b, o->train_attn);
    buf_u8(b, o->train_mlp);
    buf_u8(b, o->train_unembed);
    bool told = o->renderer && *o->renderer;
    if (o->tuning || told) /* older ops end here, and are fp32 */
        buf_u8(b, (uint8_t)o->tuning);
    if (told)
        buf_lstr(b, o->renderer);
}

static void get_create(struct cur *c, struct op_create *o) {
    o->base = cur_lstr(c, WIRE_NAME_MAX);
    o->from = cur_lstr(c, WIRE_NAME_MAX);
    o->lora_rank = cur_u32(c);
    o->lora_alpha = cur_f32(c);
    o->seed = cur_u64(c);
    o->train_attn = get_flag(c);
    o->train_mlp = get_flag(c);
    o->train_unembed = get_flag(c);
    if (cur_left(c) == 0)
        return;
    o->tuning = (enum tuning)get_enum(c, TUNES);
    bool told = cur_left(c) > 0;
    if (told)
        o->renderer = cur_lstr(c, WIRE_NAME_MAX);
    if (told ? !o->renderer || !*o->renderer : o->tuning == TUNE_FP32)
        c->bad = true;
}

/* ---- passes ---- */

static void put_datum(struct buf *b, const struct datum *d) {
    size_t nk = (size_t)d->n * d->k;
    uint8_t have = 0;
    for (int f = 0; f < DATUM_FIELDS; f++)
        have |= (uint8_t)((d->field[f] != NULL) << f);
    buf_u32(b, d->n);
    buf_u32(b, d->k);
    buf_u8(b, have);
    put_u32s(b, d->tokens, d->n);
    put_u32s(b, d->targets, nk);
    for (int f = 0; f < DATUM_FIELDS; f++)
        if (d->field[f])
            put_f32s(b, d->field[f], nk);
}

static void get_datum(struct cur *c, struct datum *d) {
    d->n = cur_u32(c);
    d->k = cur_u32(c);
    uint8_t have = cur_u8(c);
    if (d->n > WIRE_TOKENS_MAX || d->k == 0 || d->k > 1024 ||
        have >> DATUM_FIELDS)
        c->bad = true;
    size_t nk = (size_t)d->n * d->k;
    d->tokens = get_u32s(c, d->n);
    d->targets = get_u32s(c, nk);
    for (int f = 0; f < DATUM_FIELDS; f++)
        if (have >> f & 1)
            d->field[f] = get_f32s(c, nk);
}

static void put_pass(struct buf *b, const struct op_pass *o) {
    buf_u8(b, (uint8_t)o->loss);
    buf_f32(b, o->clip_low);
    buf_f32(b, o->clip_high);
    buf_f32(b, o->beta);
    buf_u32(b, o->n);
    for (uint32_t i = 0; i < o->n; i++)
        put_datum(b, &o->datums[i]);
}

static void get_pass(struct cur *c, struct op_pass *o) {
    o->loss = (enum loss_kind)get_enum(c, LOSS_N);
    o->clip_low = cur_f32(c);
    o->clip_high = cur_f32(c);
    o->beta = cur_f32(c);
    uint32_t n = cur_u32(c);
    o->datums = get_items(c, n, sizeof *o->datums, 9);
    for (; o->datums && o->n < n && !c->bad; o->n++)
        get_datum(c, &o->datums[o->n]);
}

/* ---- optim, save, load ---- */

static void put_optim(struct buf *b, const struct op_optim *o) {
    buf_f64(b, o->lr);
    buf_f64(b, o->beta1);
    buf_f64(b, o->beta2);
    buf_f64(b, o->eps);
    buf_f64(b, o->weight_decay);
    buf_f64(b, o->grad_clip_norm);
}

static void get_optim(struct cur *c, struct op_optim *o) {
    o->lr = cur_f64(c);
    o->beta1 = cur_f64(c);
    o->beta2 = cur_f64(c);
    o->eps = cur_f64(c);
    o->weight_decay = cur_f64(c);
    o->grad_clip_norm = cur_f64(c);
}

/* ---- sample, logprobs ---- */

/* The last flag of these two: bit 0 is the flag, bit 1 says that the fields
 * behind it follow, of which at least one is set. Ops of before have none. */
enum { OP_FLAG = 1, OP_EXT = 2 };
/* The last byte of a sample's extension. */
enum { EXT_PIECES = 1, EXT_PARSE = 2 };

static uint8_t get_flag_ext(struct cur *c, bool *flag) {
    uint8_t v = cur_u8(c);
    if (v > (OP_FLAG | OP_EXT))
        c->bad = true;
    *flag = v & OP_FLAG;
    return v & OP_EXT;
}

static bool sample_has_ext(const struct op_sample *o) {
    return o->target.precision || o->min_p != 0 || o->top_k_out ||
           o->prompt_top_k_out || o->pieces || o->parse;
}

static void put_sample_ext(struct buf *b, const struct op_sample *o) {
    buf_u8(b, (uint8_t)o->target.precision);
    buf_f32(b, o->min_p);
    buf_u32(b, o->top_k_out);
    buf_u32(b, o->prompt_top_k_out);
    buf_u8(b, (uint8_t)((o->pieces ? EXT_PIECES : 0) |
                        (o->parse ? EXT_PARSE : 0)));
}

static void get_sample_ext(struct cur *c, struct op_sample *o) {
    o->target.precision = (enum precision)get_enum(c, PRECISION_N);
    o->min_p = cur_f32(c);
    o->top_k_out = cur_u32(c);
    o->prompt_top_k_out = cur_u32(c);
    uint8_t flags = cur_u8(c);
    o->pieces = flags & EXT_PIECES;
    o->parse = flags & EXT_PARSE;
    if (!sample_has_ext(o) || flags > (EXT_PIECES | EXT_PARSE) ||
        o->top_k_out > WIRE_TOP_MAX || o->prompt_top_k_out > WIRE_TOP_MAX)
        c->bad = true;
}

static void put_sample(struct buf *b, const struct op_sample *o) {
    buf_lstr(b, o->target.ckpt);
    buf_u8(b, (uint8_t)o->prompt);
    buf_u32(b, o->n_tokens);
    put_u32s(b, o->tokens, o->n_tokens);
    buf_lstr(b, o->text);
    buf_u32(b, o->n);
    buf_u32(b, o->max_tokens);
    buf_f32(b, o->temperature);
    buf_u32(b, (uint32_t)o->top_k);
    buf_f32(b, o->top_p);
    buf_u64(b, o->seed);
    buf_u32(b, o->n_stop_tokens);
    put_u32s(b, o->stop_tokens, o->n_stop_tokens);
    buf_u32(b, o->n_stops);
    for (uint32_t i = 0; i < o->n_stops; i++)
        buf_lstr(b, o->stops[i]);
    buf_u8(b, o->default_stop);
    buf_u8(b, o->prompt_logprobs);
    bool ext = sample_has_ext(o);
    buf_u8(b, (uint8_t)((o->stream ? OP_FLAG : 0) | (ext ? OP_EXT : 0)));
    if (ext)
        put_sample_ext(b, o);
}

static void get_sample(struct cur *c, struct op_sample *o) {
    o->target.ckpt = cur_lstr(c, WIRE_NAME_MAX);
    o->prompt = (enum prompt_kind)get_enum(c, PROMPT_MESSAGES + 1);
    o->n_tokens = cur_u32(c);
    o->tokens = get_u32s(c, o->n_tokens);
    o->text = cur_lstr(c, OP_TEXT_MAX);
    o->n = cur_u32(c);
    o->max_tokens = cur_u32(c);
    o->temperature = cur_f32(c);
    o->top_k = (int32_t)cur_u32(c);
    o->top_p = cur_f32(c);
    o->seed = cur_u64(c);
    o->n_stop_tokens = cur_u32(c);
    o->stop_tokens = get_u32s(c, o->n_stop_tokens);
    uint32_t n = cur_u32(c);
    o->stops = get_items(c, n, sizeof *o->stops, 4);
    for (; o->stops && o->n_stops < n && !c->bad; o->n_stops++)
        o->stops[o->n_stops] = cur_lstr(c, OP_TEXT_MAX);
    o->default_stop = get_flag(c);
    o->prompt_logprobs = get_flag(c);
    if (get_flag_ext(c, &o->stream))
        get_sample_ext(c, o);
}

static void put_logprobs(struct buf *b, const struct op_logprobs *o) {
    buf_lstr(b, o->target.ckpt);
    buf_u32(b, o->n);
    put_u32s(b, o->tokens, o->n);
    bool ext = o->target.precision != PRECISION_EXACT;
    buf_u8(b, (uint8_t)((o->sampler ? OP_FLAG : 0) | (ext ? OP_EXT : 0)));
    if (ext)
        buf_u8(b, (uint8_t)o->target.precision);
}

static void get_logprobs(struct cur *c, struct op_logprobs *o) {
    o->target.ckpt = cur_lstr(c, WIRE_NAME_MAX);
    o->n = cur_u32(c);
    o->tokens = get_u32s(c, o->n);
    if (!get_flag_ext(c, &o->sampler))
        return;
    o->target.precision = (enum precision)get_enum(c, PRECISION_N);
    if (o->target.precision == PRECISION_EXACT)
        c->bad = true;
}

/* ---- the op ---- */

void op_encode(const struct op *op, struct buf *b) {
    buf_u32(b, OP_MAGIC);
    buf_u8(b, (uint8_t)op->kind);
    buf_lstr(b, op->model);
    buf_u64(b, op->seq);
    switch (op->kind) {
    case OP_CREATE: put_create(b, &op->create); break;
    case OP_FORWARD:
    case OP_FORWARD_BACKWARD: put_pass(b, &op->pass); break;
    case OP_OPTIM_STEP: put_optim(b, &op->optim); break;
    case OP_SAVE:
        buf_u8(b, (uint8_t)op->save.kind);
        buf_lstr(b, op->save.ckpt);
        buf_u64(b, op->save.step);
        break;
    case OP_LOAD:
        buf_lstr(b, op->load.ckpt);
        buf_u8(b, op->load.optimizer);
        break;
    case OP_SAMPLE: put_sample(b, &op->sample); break;
    case OP_LOGPROBS: put_logprobs(b, &op->logprobs); break;
    case OP_N: CHECK(false, "an op without kind"); break;
    }
}

static void get_payload(struct cur *c, struct op *op) {
    switch (op->kind) {
    case OP_CREATE: get_create(c, &op->create); break;
    case OP_FORWARD:
    case OP_FORWARD_BACKWARD: get_pass(c, &op->pass); break;
    case OP_OPTIM_STEP: get_optim(c, &op->optim); break;
    case OP_SAVE:
        op->save.kind = (enum ckpt_kind)get_enum(c, CKPT_KINDS);
        op->save.ckpt = cur_lstr(c, WIRE_NAME_MAX);
        op->save.step = cur_u64(c);
        break;
    case OP_LOAD:
        op->load.ckpt = cur_lstr(c, WIRE_NAME_MAX);
        op->load.optimizer = get_flag(c);
        break;
    case OP_SAMPLE: get_sample(c, &op->sample); break;
    case OP_LOGPROBS: get_logprobs(c, &op->logprobs); break;
    case OP_N: c->bad = true; break;
    }
}

int op_decode(struct op *op, const void *p, size_t len, struct err *err) {
    struct cur c;
    memset(op, 0, sizeof *op);
    cur_init(&c, p, len);
    if (len > WIRE_MAX)
        return err_set(err, ERR_TOOBIG, "read op: %zu bytes, at most %u", len,
                       WIRE_MAX);
    if (cur_u32(&c) != OP_MAGIC)
        return err_set(err, ERR_INVAL, "read op: not an op");
    op->kind = (enum op_kind)get_enum(&c, OP_N);
    op->model = cur_lstr(&c, WIRE_NAME_MAX);
    op->seq = cur_u64(&c);
    if (!c.bad)
        get_payload(&c, op);
    if (!c.bad && cur_left(&c) == 0)
        return 0;
    op_release(op);
    return err_set(err, ERR_INVAL, "read op: %s after byte %zu of %zu",
                   c.bad ? "bad or missing value" : "trailing bytes",
                   (size_t)(c.p - (const uint8_t *)p), len);
}

static void pass_release(struct op_pass *o) {
    for (uint32_t i = 0; o->datums && i < o->n; i++) {
        struct datum *d = &o->datums[i];
        free(d->tokens);
        free(d->targets);
        for (int f = 0; f < DATUM_FIELDS; f++)
            free(d->field[f]);
    }
    free(o->datums);
}

static void sample_op_release(struct op_sample *o) {
    free(o->target.ckpt);
    free(o->tokens);
    free(o->text);
    free(o->stop_tokens);
    for (uint32_t i = 0; o->stops && i < o->n_stops; i++)
        free(o->stops[i]);
    free(o->stops);
}

void op_release(struct op *op) {
    free(op->model);
    switch (op->kind) {
    case OP_CREATE:
        free(op->create.base);
        free(op->create.from);
        free(op->create.renderer);
        break;
    case OP_FORWARD:
    case OP_FORWARD_BACKWARD: pass_release(&op->pass); break;
    case OP_SAVE: free(op->save.ckpt); break;
    case OP_LOAD: free(op->load.ckpt); break;
    case OP_SAMPLE: sample_op_release(&op->sample); break;
    case OP_LOGPROBS:
        free(op->logprobs.target.ckpt);
        free(op->logprobs.tokens);
        break;
    case OP_OPTIM_STEP:
    case OP_N: break;
    }
    memset(op, 0, sizeof *op);
}
