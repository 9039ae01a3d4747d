/* starter.c - the untrained model and its corpus as files; where they lie. */
#include "core/starter/int.h"

#include "core/fs.h"
#include "core/model.h"
#include "core/rng.h"
#include "core/text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 1024
#define WIDTH 192
#define LAYERS 6
#define HEADS 6
#define KV_HEADS 3
#define HEAD_DIM 32
#define FFN 512
#define CONTEXT 1024

#define INIT_SEED 7
#define TEXT_ROWS 160000 /* of the corpus */
#define LEARN_ROWS 60000 /* of which the tokenizer sees the texts */

static const char *const special[] = {"<|endoftext|>", "<|im_start|>",
                                      "<|im_end|>", NULL};

/* ---- configuration ---- */

static int write_json(const char *dir, const char *name, json_t *j,
                      struct err *err) {
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    CHECK(text, "out of memory for %s", name);
    char *path = fs_path("%s/%s", dir, name);
    int rc = fs_write_atomic(path, text, strlen(text), err);
    free(path);
    free(text);
    json_decref(j);
    return rc;
}

static int write_configs(const char *dir, int eos, int end, struct err *err) {
    json_t *conf = json_pack(
        "{s:[s], s:s, s:b, s:f, s:s, s:i, s:s, s:i, s:f, s:i, s:i, s:i, s:i, "
        "s:i, s:i, s:f, s:b, s:i, s:i}",
        "architectures", "Qwen3ForCausalLM", "model_type", "qwen3",
        "attention_bias", 0, "attention_dropout", 0.0, "hidden_act", "silu",
        "hidden_size", WIDTH, "dtype", "bfloat16", "head_dim", HEAD_DIM,
        "initializer_range", 0.02, "intermediate_size", FFN,
        "num_hidden_layers", LAYERS, "num_attention_heads", HEADS,
        "num_key_value_heads", KV_HEADS, "max_position_embeddings", CONTEXT,
        "vocab_size", VOCAB, "rms_norm_eps", 1e-6, "tie_word_embeddings", 1,
        "eos_token_id", end, "pad_token_id", eos);
    json_object_set_new(conf, "rope_theta", json_real(10000.0));
    static const char chat_template[] =
        "{% for m in messages if m.role != 'developer' %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    json_t *tok = json_pack("{s:s, s:s, s:s, s:i, s:s}", "tokenizer_class",
                            "Qwen2TokenizerFast", "eos_token", "<|im_end|>",
                            "pad_token", "<|endoftext|>", "model_max_length",
                            CONTEXT, "chat_template", chat_template);
    json_t *gen = json_pack("{s:[i, i], s:i}", "eos_token_id", end, eos,
                            "pad_token_id", eos);
    return write_json(dir, "config.json", conf, err) < 0 ||
                   write_json(dir, "tokenizer_config.json", tok, err) < 0 ||
                   write_json(dir, "generation_config.json", gen, err) < 0
               ? -1
               : 0;
}

/* ---- weights ---- */

#define PER_LAYER 11
static const struct {
    const char *name;
    int rows, cols; /* cols 0 = a norm */
} layer_weight[PER_LAYER] = {
    {"input_layernorm", WIDTH, 0},
    {"self_attn.q_proj", HEADS *HEAD_DIM, WIDTH},
    {"self_attn.k_proj", KV_HEADS *HEAD_DIM, WIDTH},
    {"self_attn.v_proj", KV_HEADS *HEAD_DIM, WIDTH},
    {"self_attn.o_proj", WIDTH, HEADS *HEAD_DIM},
    {"self_attn.q_norm", HEAD_DIM, 0},
    {"self_attn.k_norm", HEAD_DIM, 0},
    {"post_attention_layernorm", WIDTH, 0},
    {"mlp.gate_proj", FFN, WIDTH},
    {"mlp.up_proj", FFN, WIDTH},
    {"mlp.down_proj", WIDTH, FFN},
};
#define WEIGHTS (LAYERS * PER_LAYER + 2)

struct init {
    struct st_out *t;
};

static struct st_out tensor(const char *name, int rows, int cols) {
    struct st_out t = {.name = name, .dtype = KERN_BF16, .rank = cols ? 2 : 1};
    t.shape[0] = rows;
    t.shape[1] = cols;
    return t;
}

/* Norms are 1; the rest is uniform with a standard deviation of 0.02, what
 * writes to the residual stream divided by sqrt(2 L). bf16 by cutting. */
static int init_fill(void *arg, int i, void *out, struct err *err) {
    (void)err;
    const struct st_out *t = &((struct init *)arg)->t[i];
    uint16_t *w = out;
    int64_t n = t->shape[0] * (t->rank == 2 ? t->shape[1] : 1);
    bool residual = strstr(t->name, "o_proj") || strstr(t->name, "down_proj");
    float range = residual ? 0.0346410162f * 0.288675135f : 0.0346410162f;
    uint64_t stream = rng_stream(t->name);
    for (int64_t k = 0; k < n; k++) {
        float u = rng_uniform(INIT_SEED, stream, (uint64_t)k);
        float v = t->rank == 2 ? (2 * u - 1) * range : 1;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        w[k] = (uint16_t)(bits >> 16);
    }
    return 0;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct st_out *)a)->name,
                  ((const struct st_out *)b)->name);
}

static int write_weights(const char *dir, struct err *err) {
    struct st_out t[WEIGHTS];
    char name[WEIGHTS][64];
    int n = 0;
    for (int l = 0; l < LAYERS; l++)
        for (int k = 0; k < PER_LAYER; k++, n++) {
            snprintf(name[n], sizeof name[n], "model.layers.%d.%s.weight", l,
                     layer_weight[k].name);
            t[n] = tensor(name[n], layer_weight[k].rows, layer_weight[k].cols);
        }
    t[n++] = tensor("model.embed_tokens.weight", VOCAB, WIDTH);
    t[n++] = tensor("model.norm.weight", WIDTH, 0);
    qsort(t, (size_t)n, sizeof *t, by_name);
    char *path = fs_path("%s/model.safetensors", dir);
    const struct st_meta_kv meta = {"format", "pt"};
    struct init in = {t};
    int rc = st_write(path, t, n, &meta, 1, init_fill, &in, err);
    free(path);
    return rc;
}

/* ---- corpus ---- */

/* A text as a row of tokens that all count. */
static void text_line(struct buf *b, const struct tok *tok, const char *text,
                      size_t len) {
    struct tok_ids ids = {0};
    tok_encode(tok, text, len, 0, &ids);
    tok_ids_push(&ids, (uint32_t)tok_find(tok, special[0]));
    buf_puts(b, "{\"tokens\":[");
    for (size_t i = 0; i < ids.n; i++)
        buf_printf(b, "%s%u", i ? "," : "", ids.id[i]);
    buf_puts(b, "],\"weights\":[");
    for (size_t i = 0; i < ids.n; i++)
        buf_puts(b, i ? ",1" : "1");
    buf_puts(b, "]}\n");
    free(ids.id);
}

static int learn_tokenizer(const char *dir, struct err *err) {
    struct buf b;
    bool is_chat;
    buf_init(&b, 256 << 20);
    for (uint64_t i = 0; i < LEARN_ROWS; i++) {
        size_t len = b.len;
        corpus_row(&b, i, &is_chat);
        if (is_chat) /* its text is JSON */
            b.len = len;
        else
            buf_u8(&b, '\n');
    }
    const struct tok_learn in = {(const char *)b.data, b.len, VOCAB, special};
    int rc = buf_check(&b, "the corpus", err);
    if (rc == 0)
        rc = tok_learn(&in, dir, err);
    buf_release(&b);
    return rc;
}

static int write_corpus(const char *path, const struct tok *tok,
                        struct err *err) {
    struct buf b, row;
    buf_init(&b, 1u << 30);
    buf_init(&row, 1 << 20);
    for (uint64_t i = 0; i < TEXT_ROWS; i++) {
        bool is_chat;
        buf_clear(&row);
        corpus_row(&row, i, &is_chat);
        if (is_chat)
            buf_bytes(&b, row.data, row.len);
        else
            text_line(&b, tok, (const char *)row.data, row.len);
    }
    int rc = buf_check(&b, "the corpus", err);
    if (rc == 0)
        rc = fs_write_atomic(path, b.data, b.len, err);
    buf_release(&b);
    buf_release(&row);
    return rc;
}

int starter_write(const char *dir, struct err *err) {
    char *model = fs_path("%s/model", dir);
    char *rows = fs_path("%s/pretrain.jsonl", dir);
    char *town = fs_path("%s/town.jsonl", dir);
    int rc = fs_mkdirs(model, err);
    if (rc == 0)
        rc = learn_tokenizer(model, err);
    struct tok *tok = rc == 0 ? tok_open(model, err) : NULL;
    if (!tok)
        rc = -1;
    if (rc == 0)
        rc = write_configs(model, (int)tok_find(tok, special[0]),
                           (int)tok_find(tok, special[2]), err);
    if (rc == 0)
        rc = write_weights(model, err);
    if (rc == 0)
        rc = write_corpus(rows, tok, err);
    if (rc == 0)
        rc = starter_town(town, err);
    tok_close(tok);
    free(model);
    free(rows);
    free(town);
    return rc;
}

/* ---- where it lies ---- */

char *starter_find(const char *exe, struct err *err) {
    const char *env = getenv("FETTLE_STARTER");
    if (env && *env)
        return fs_path("%s", env);
    static const char *const beside[] = {"core/starter/model",
                                         "../core/starter/model",
                                         "../share/fettle/starter"};
    char *dir = fs_path("%s", exe), *slash = strrchr(dir, '/');
    char *found = NULL;
    if (slash)
        *slash = 0;
    for (size_t i = 0; !found && i < sizeof beside / sizeof *beside; i++) {
        char *try = fs_path("%s/%s", dir, beside[i]);
        char *conf = fs_path("%s/config.json", try);
        if (fs_exists(conf))
            found = realpath(try, NULL);
        free(conf);
        free(try);
    }
    if (!found)
        err_set(err, ERR_NOTFOUND,
                "the starter model lies neither beside %s nor under its "
                "share/fettle (set FETTLE_STARTER to its directory)",
                dir);
    free(dir);
    return found;
}
