/* model: safetensors files, configurations, and whole model directories, which
 * are trained for a step when they open. */
#include "tests/fuzz/fuzz.h"

#include "core/fs.h"
#include "core/train.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A directory of this process, in memory where there is such a place. */
static char *fuzz_dir(void) {
    bool shm = access("/dev/shm", W_OK) == 0;
    char *d =
        fs_path("%s/fettle-fuzz-%d", shm ? "/dev/shm" : "/tmp", (int)getpid());
    struct err err = {0};
    CHECK(fs_mkdirs(d, &err) == 0, "%s", err.msg);
    return d;
}

static void fuzz_put(const char *dir, const char *name, const void *data,
                     size_t len) {
    char *path = fs_path("%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && (!len || write(fd, data, len) == (ssize_t)len), "write %s",
          path);
    close(fd);
    free(path);
}

static void fuzz_rm(char *dir) {
    struct err err = {0};
    CHECK(fs_remove_tree(dir, &err) == 0, "%s", err.msg);
    free(dir);
}

/* ---- a model as small as one can be, and its files ---- */

#define W 8

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,"
    "\"intermediate_size\":8,\"vocab_size\":8,\"rms_norm_eps\":1e-5,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":false,"
    "\"eos_token_id\":[1,2],\"bos_token_id\":0,\"pad_token_id\":3,"
    "\"attention_bias\":false,\"rope_parameters\":{\"rope_type\":\"llama3\","
    "\"rope_theta\":10000.0,\"factor\":8.0,\"low_freq_factor\":1.0,"
    "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":32}}";
static const char config4[] =
    "{\"model_type\":\"mistral\",\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,"
    "\"intermediate_size\":8,\"vocab_size\":8,\"sliding_window\":2,"
    "\"layer_types\":[\"sliding_attention\"],\"rope_theta\":1e4,"
    "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}";
static const char config_moe[] =
    "{\"model_type\":\"qwen3_moe\",\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,"
    "\"intermediate_size\":8,\"moe_intermediate_size\":4,\"vocab_size\":8,"
    "\"num_experts\":2,\"num_experts_per_tok\":1,\"norm_topk_prob\":true,"
    "\"decoder_sparse_step\":1,\"mlp_only_layers\":[],\"rope_theta\":1e6,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":false}";
static const char config_oss[] =
    "{\"model_type\":\"gpt_oss\",\"hidden_size\":8,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"head_dim\":4,"
    "\"intermediate_size\":4,\"vocab_size\":8,\"num_local_experts\":2,"
    "\"num_experts_per_tok\":1,\"attention_bias\":true,\"sliding_window\":2,"
    "\"layer_types\":[\"sliding_attention\"],\"max_position_embeddings\":64,"
    "\"tie_word_embeddings\":false,\"rope_parameters\":{\"rope_type\":\"yarn\","
    "\"rope_theta\":150000.0,\"factor\":4.0,\"beta_fast\":32.0,\"beta_slow\":"
    "1.0,\"original_max_position_embeddings\":16,\"truncate\":false}}";
static const char generation[] = "{\"eos_token_id\":[1,4],\"pad_token_id\":0}";
static const char index_json[] =
    "{\"metadata\":{\"total_size\":1},\"weight_map\":{"
    "\"lm_head.weight\":\"a.safetensors\","
    "\"model.norm.weight\":\"a.safetensors\"}}";

#define L0 "model.layers.0."
#define EXPERT(e) \
    {L0 "mlp.experts." e ".down_proj.weight", KERN_F32, 2, {W, 4}}, \
        {L0 "mlp.experts." e ".gate_proj.weight", KERN_F32, 2, {4, W}}, \
        {L0 "mlp.experts." e ".up_proj.weight", KERN_F32, 2, {4, W}},
#define ENDS \
    {"lm_head.weight", KERN_F32, 2, {W, W}}, \
        {"model.embed_tokens.weight", KERN_BF16, 2, {W, W}}, \
        {"model.norm.weight", KERN_F32, 1, {W}}, \
        {L0 "input_layernorm.weight", KERN_F32, 1, {W}}, \
        {L0 "post_attention_layernorm.weight", KERN_F32, 1, {W}}, \
        {L0 "self_attn.k_proj.weight", KERN_F32, 2, {4, W}}, \
        {L0 "self_attn.o_proj.weight", KERN_F32, 2, {W, W}}, \
        {L0 "self_attn.q_proj.weight", KERN_F32, 2, {W, W}}, \
        {L0 "self_attn.v_proj.weight", KERN_F32, 2, {4, W}},

static const struct st_out dense[] = {
    ENDS{L0 "mlp.down_proj.weight", KERN_F16, 2, {W, W}},
    {L0 "mlp.gate_proj.weight", KERN_F32, 2, {W, W}},
    {L0 "mlp.up_proj.weight", KERN_F32, 2, {W, W}}};
static const struct st_out moe[] = {
    ENDS EXPERT("0") EXPERT("1"){L0 "mlp.gate.weight", KERN_F32, 2, {2, W}},
    {L0 "self_attn.k_norm.weight", KERN_F32, 1, {4}},
    {L0 "self_attn.q_norm.weight", KERN_F32, 1, {4}}};
static const struct st_out oss[] = {
    ENDS{L0 "mlp.experts.down_proj", KERN_BF16, 3, {2, 4, W}},
    {L0 "mlp.experts.down_proj_bias", KERN_BF16, 2, {2, W}},
    {L0 "mlp.experts.gate_up_proj", KERN_BF16, 3, {2, W, 8}},
    {L0 "mlp.experts.gate_up_proj_bias", KERN_BF16, 2, {2, 8}},
    {L0 "mlp.router.bias", KERN_F32, 1, {2}},
    {L0 "mlp.router.weight", KERN_F32, 2, {2, W}},
    {L0 "self_attn.k_proj.bias", KERN_F32, 1, {4}},
    {L0 "self_attn.o_proj.bias", KERN_F32, 1, {W}},
    {L0 "self_attn.q_proj.bias", KERN_F32, 1, {W}},
    {L0 "self_attn.sinks", KERN_F32, 1, {2}},
    {L0 "self_attn.v_proj.bias", KERN_F32, 1, {4}}};

/* arg: the tensors. Small numbers. */
static int fill(void *arg, int i, void *out, struct err *err) {
    const struct st_out *t = arg;
    (void)err;
    memset(out, 0x3c, (size_t)st_out_bytes(&t[i]));
    return 0;
}

/* A safetensors file of n tensors; free() it. */
static uint8_t *st_bytes(const struct st_out *t, int n, size_t *len) {
    static const struct st_meta_kv meta[] = {{"format", "pt"}};
    struct err err = {0};
    char *dir = fuzz_dir(), *path = fs_path("%s/seed.safetensors", dir);
    unlink(path);
    CHECK(st_write(path, t, n, meta, 1, fill, (void *)t, &err) == 0, "%s",
          err.msg);
    char *data = fs_read(path, FUZZ_MAX, len, &err);
    CHECK(data, "%s", err.msg);
    free(path);
    fuzz_rm(dir);
    return (uint8_t *)data;
}
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- safetensors ---- */

/* Every byte that a tensor claims is there, and no other's: a map's last page
 * hides a tensor that ends behind the file. */
static void st_touch(const struct st *s, size_t len) {
    unsigned sum = 0;
    int64_t all = 8;
    for (int i = 0; i < st_count(s); i++) {
        const struct st_tensor *t = st_at(s, i);
        const uint8_t *p = t->data;
        for (int64_t b = 0; b < t->bytes; b++)
            sum += p[b];
        all += t->bytes;
        CHECK(st_find(s, t->name) == t, "a tensor that is not found");
    }
    st_meta(s, "format");
    CHECK(sum <= UINT32_MAX && all <= (int64_t)len,
          "tensors of %lld bytes in a file of %zu", (long long)all, len);
}

static int safetensors_run(const uint8_t *data, size_t len) {
    struct err err = {0};
    char *dir = fuzz_dir(), *path = fs_path("%s/f.safetensors", dir);
    fuzz_put(dir, "f.safetensors", data, len);
    struct st *s = st_open_file(path, &err);
    CHECK(s || err.code, "a refusal without a reason");
    if (s)
        st_touch(s, len);
    st_close(s);
    free(path);
    fuzz_rm(dir);
    return 0;
}

static void safetensors_seeds(fuzz_seed_fn *add, void *arg) {
    static const char small[] = "\x40\0\0\0\0\0\0\0"
                                "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],"
                                "\"data_offsets\":[0,8]}}        "
                                "        12345678";
    size_t len;
    uint8_t *data = st_bytes(dense, COUNT(dense), &len);
    add(arg, data, len);
    add(arg, small, sizeof small - 1);
    free(data);
}

static void check_rope(const struct rope_conf *r) {
    const double v[] = {r->theta,     r->factor,      r->low_freq_factor,
                        r->beta_fast, r->beta_slow,   r->high_freq_factor,
                        r->scale,     r->original_max};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        CHECK(isfinite(v[i]), "rope numbers that nothing can compute with");
}

static const char *const st_words[] = {
    "__metadata__", "\"dtype\":", "\"BF16\"", "\"F16\"", "\"F64\"",
    "\"shape\":[]", "[0,0]",      "[0]",      "}",       "{\"a\":",
    "data_offsets", NULL};
const struct fuzz_target fuzz_safetensors = {"safetensors", safetensors_run,
                                             safetensors_seeds, st_words};

/* ---- configurations ---- */

static int config_run(const uint8_t *data, size_t len) {
    struct err err = {0};
    struct conf c;
    char *dir = fuzz_dir();
    fuzz_put(dir, "config.json", data, len);
    int rc = conf_read(&c, dir, &err);
    CHECK(rc == 0 || err.code, "a refusal without a reason");
    if (rc == 0) {
        struct net_size z = net_bytes(&c, 64, 8, 1, true);
        CHECK(conf_params(&c) > 0 && z.keep > 0 && z.work > 0, "no sizes");
        CHECK(c.C > 0 && c.L > 0 && c.F > 0 && c.V > 0 && c.D > 0 &&
                  c.max_pos > 0 && c.rot > 0 && c.rot % 2 == 0 &&
                  c.rot <= c.D && c.H % c.K == 0 && c.top <= c.E,
              "shapes that nothing can run");
        CHECK(isfinite(c.norm_eps) && c.norm_eps >= 0 &&
                  isfinite(c.attn_scale) && isfinite(c.attn_cap) &&
                  isfinite(c.final_cap) && isfinite(c.glu_alpha),
              "numbers that nothing can compute with");
        for (int i = 0; i < 2; i++)
            check_rope(&c.rope[i]);
        for (int i = 0; i < c.n_eos; i++)
            CHECK(c.eos[i] < (uint32_t)c.V, "an end outside the vocabulary");
        for (int l = 0; l < c.L; l++)
            CHECK(!conf_layer_is(&c, l, LAYER_SLIDES) || c.window > 0,
                  "a layer without a window slides");
        conf_release(&c);
    }
    fuzz_rm(dir);
    return 0;
}

static void config_seeds(fuzz_seed_fn *add, void *arg) {
    static const char *const files[] = {
        "gemma2",  "gemma3",    "glm4",       "gpt_oss", "llama", "llama3",
        "mistral", "olmo2",     "olmo3",      "phi3",    "phi4",  "qwen2",
        "qwen3",   "qwen3_moe", "qwen3_tied", "smollm"};
    add(arg, config, sizeof config - 1);
    add(arg, config4, sizeof config4 - 1);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct err none = {0};
        size_t len;
        char *path = fs_path("tests/golden/models/%s/config.json", files[i]);
        char *text = fs_read(path, FUZZ_MAX, &len, &none);
        if (text)
            add(arg, text, len);
        free(text);
        free(path);
    }
}

static const char *const config_words[] = {
    "\"sliding_window\":",
    "\"layer_types\":[\"full_attention\"],",
    "\"use_sliding_window\":true,",
    "\"max_window_layers\":1,",
    "\"qwen2\"",
    "\"qwen3\"",
    "\"mistral\"",
    "\"rope_scaling\":{\"type\":\"linear\"},",
    "\"hidden_act\":\"silu\",",
    "\"quantization_config\":{},",
    "\"partial_rotary_factor\":0.5,",
    "\"attention_bias\":true,",
    "\"tie_word_embeddings\":true,",
    "\"num_experts\":",
    "\"num_experts_per_tok\":2,",
    "\"qwen3_moe\"",
    "\"gpt_oss\"",
    "\"mlp_only_layers\":[0],",
    "\"quantization_config\":{\"quant_method\":\"mxfp4\"},",
    NULL};
const struct fuzz_target fuzz_config = {"config", config_run, config_seeds,
                                        config_words};

/* ---- whole directories, without a tokenizer ---- */

static const char *const model_files[] = {
    "config.json", "generation_config.json", "model.safetensors",
    "model.safetensors.index.json", "a.safetensors"};
#define N_FILES ((int)(sizeof model_files / sizeof *model_files))

/* An input: (u8 which file, u16 length, bytes) again and again. */
static void unpack(const char *dir, const uint8_t *p, size_t len) {
    while (len >= 3) {
        size_t n = p[1] | (size_t)p[2] << 8;
        n = n > len - 3 ? len - 3 : n;
        fuzz_put(dir, model_files[p[0] % N_FILES], p + 3, n);
        p += 3 + n;
        len -= 3 + n;
    }
}

static size_t pack(uint8_t *out, int file, const void *data, size_t len) {
    out[0] = (uint8_t)file;
    out[1] = (uint8_t)len;
    out[2] = (uint8_t)(len >> 8);
    memcpy(out + 3, data, len);
    return len + 3;
}

/* A step of training; any result will do, but there must be one. */
static void train(const struct model *m, struct kern *k, uint32_t rank) {
    uint32_t ids[3] = {0, 1, 2};
    struct datum d = {3, 1, ids, ids, {0}};
    struct op_pass pass = {LOSS_CROSS_ENTROPY, NAN, NAN, NAN, 1, &d};
    struct op_optim o = {1e-3, 0.9, 0.95, 1e-8, 0, 1};
    struct op_create op = {.base = "m",
                           .lora_rank = rank,
                           .lora_alpha = 1,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true};
    struct err err = {0};
    struct result r = {0};
    struct trainer *tr = trainer_new(m, k, &op, &err);
    CHECK(tr || err.code, "a refusal without a reason");
    if (tr && trainer_pass(tr, &pass, true, &r, &err) == 0) {
        result_release(&r);
        trainer_optim(tr, &o, &r, &err);
    }
    result_release(&r);
    trainer_free(tr);
}

/* Is it one that opens, and was it trained? */
static bool opens(const uint8_t *data, size_t len) {
    struct err err = {0};
    struct kern *k;
    char *dir = fuzz_dir();
    unpack(dir, data, len);
    CHECK(kern_open(&k, &(struct kern_opts){.threads = 1}) == KERN_OK, "cpu");
    struct model *m = model_open(dir, k, &err);
    bool is_model = m != NULL;
    CHECK(m || err.code, "a refusal without a reason");
    if (m) {
        train(m, k, 0);
        train(m, k, 2);
    }
    model_close(m);
    k->ops->close(k);
    fuzz_rm(dir);
    return is_model;
}

static int model_run(const uint8_t *data, size_t len) {
    opens(data, len);
    return 0;
}

/* Seeds are trained: one that does not open would fuzz its refusal alone. */
static void add_model(fuzz_seed_fn *add, void *arg, const char *conf,
                      const struct st_out *t, int n) {
    uint8_t out[FUZZ_MAX];
    size_t len;
    uint8_t *st = st_bytes(t, n, &len);
    size_t at = pack(out, 0, conf, strlen(conf));
    at += pack(out + at, 2, st, len);
    CHECK(opens(out, at), "a seed that is no model: %s", conf);
    add(arg, out, at);
    free(st);
}

static void model_seeds(fuzz_seed_fn *add, void *arg) {
    uint8_t out[FUZZ_MAX];
    size_t len, n = 0;
    uint8_t *st = st_bytes(dense, COUNT(dense), &len);
    add_model(add, arg, config, dense, COUNT(dense));
    add_model(add, arg, config_moe, moe, COUNT(moe));
    add_model(add, arg, config_oss, oss, COUNT(oss));
    n = pack(out, 0, config4, sizeof config4 - 1);
    n += pack(out + n, 1, generation, sizeof generation - 1);
    n += pack(out + n, 3, index_json, sizeof index_json - 1);
    n += pack(out + n, 4, st, len);
    add(arg, out, n);
    free(st);
}

const struct fuzz_target fuzz_model = {"model", model_run, model_seeds,
                                       config_words};
