/*
 * conf: config.json by table, in the layouts of transformers 4 and 5. What it
 * asks for and this program lacks is refused by name.
 */
#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONF_FILE_MAX (4 << 20)
#define CONF_LAYERS_MAX 4096
#define ROPE_NUMBER_MAX 1e15 /* beyond it, and infinite, is a damaged file */

/* The architectural switches of a family. */
struct family {
    const char *model_type;
    bool qkv_bias; /* always; else as attention_bias says */
    bool qk_norm;
    bool has_window; /* sliding_window is in use without layer_types */
};

static const struct family families[] = {
    {.model_type = "llama"},
    {.model_type = "mistral", .has_window = true},
    {.model_type = "qwen2", .qkv_bias = true},
    {.model_type = "qwen3", .qk_norm = true},
};

static const struct family *family_find(const char *type, struct err *err) {
    char known[128] = "";
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].model_type, type) == 0)
            return &families[i];
        size_t at = strlen(known);
        snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                 families[i].model_type);
    }
    err_set(err, ERR_UNSUPPORTED,
            "model_type '%.64s' is not supported (supported: %s)", type, known);
    return NULL;
}

static int conf_int32(const json_t *j, const char *key, int32_t *v,
                      int64_t dflt, int64_t max, struct err *err) {
    int64_t x;
    if (json_get_int(j, key, &x, dflt, err) < 0)
        return -1;
    if (x < 1 || x > max)
        return err_set(err, ERR_INVAL, "%s is %lld, must be 1 to %lld", key,
                       (long long)x, (long long)max);
    *v = (int32_t)x;
    return 0;
}

static int conf_sizes(struct conf *c, const json_t *j, struct err *err) {
    double eps;
    if (conf_int32(j, "hidden_size", &c->C, 0, 1 << 20, err) < 0 ||
        conf_int32(j, "num_hidden_layers", &c->L, 0, CONF_LAYERS_MAX, err) <
            0 ||
        conf_int32(j, "num_attention_heads", &c->H, 0, 1 << 16, err) < 0 ||
        conf_int32(j, "num_key_value_heads", &c->K, c->H, 1 << 16, err) < 0 ||
        conf_int32(j, "head_dim", &c->D, c->C / c->H, 4096, err) < 0 ||
        conf_int32(j, "intermediate_size", &c->F, 0, 1 << 22, err) < 0 ||
        conf_int32(j, "vocab_size", &c->V, 0, 1 << 24, err) < 0 ||
        conf_int32(j, "max_position_embeddings", &c->max_pos, 2048, 1 << 26,
                   err) < 0 ||
        json_get_num(j, "rms_norm_eps", &eps, 1e-6, err) < 0)
        return -1;
    if (!(eps >= 0 && eps < 1))
        return err_set(err, ERR_INVAL, "rms_norm_eps is %g, must be 0 to 1",
                       eps);
    c->norm_eps = (float)eps;
    if (c->H % c->K)
        return err_set(err, ERR_INVAL,
                       "num_attention_heads %d is not a multiple of "
                       "num_key_value_heads %d",
                       c->H, c->K);
    if (c->D % 2)
        return err_set(err, ERR_UNSUPPORTED, "head_dim %d is odd", c->D);
    if ((int64_t)c->H * c->D > 1 << 24)
        return err_set(err, ERR_INVAL, "attention of %d heads of %d is absurd",
                       c->H, c->D);
    return 0;
}

static int rope_llama3(struct rope_conf *r, const json_t *j,
                       const struct conf *c, struct err *err) {
    if (json_get_num(j, "low_freq_factor", &r->low_freq_factor, 1, err) < 0 ||
        json_get_num(j, "high_freq_factor", &r->high_freq_factor, 4, err) < 0 ||
        json_get_num(j, "original_max_position_embeddings", &r->original_max,
                     c->max_pos, err) < 0)
        return -1;
    if (!(r->low_freq_factor > 0) || !(r->original_max > 0) ||
        !(r->high_freq_factor > r->low_freq_factor) ||
        !(r->high_freq_factor < ROPE_NUMBER_MAX) ||
        !(r->original_max < ROPE_NUMBER_MAX))
        return err_set(err, ERR_INVAL, "llama3 rope factors are out of range");
    return 0;
}

/* rope_parameters (5), or rope_theta with rope_scaling (4). */
static int conf_rope(struct conf *c, const json_t *j, struct err *err) {
    struct rope_conf *r = &c->rope;
    const json_t *p = json_object_get(j, "rope_parameters");
    const char *type, *old, *dtype;
    double partial, theta;
    if (json_get_num(j, "rope_theta", &theta, 10000, err) < 0)
        return -1;
    if (!json_is_object(p))
        p = json_object_get(j, "rope_scaling");
    r->type = ROPE_DEFAULT;
    r->theta = theta;
    r->factor = 1;
    if (!json_is_object(p))
        return 0;
    if (json_get_str(p, "type", &old, "default", err) < 0 ||
        json_get_str(p, "rope_type", &type, old, err) < 0 ||
        json_get_num(p, "rope_theta", &r->theta, theta, err) < 0 ||
        json_get_num(p, "factor", &r->factor, 1, err) < 0 ||
        json_get_num(p, "partial_rotary_factor", &partial, 1, err) < 0 ||
        json_get_str(p, "inv_freq_dtype", &dtype, "", err) < 0)
        return -1;
    r->is_bf16 = strcmp(dtype, "bfloat16") == 0;
    if (partial != 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "partial_rotary_factor %g is not supported", partial);
    if (!(r->theta > 1) || !(r->factor >= 1) || !(r->theta < ROPE_NUMBER_MAX) ||
        !(r->factor < ROPE_NUMBER_MAX))
        return err_set(err, ERR_INVAL, "rope_theta or factor is out of range");
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "linear") == 0) {
        r->type = ROPE_LINEAR;
        return 0;
    }
    if (strcmp(type, "llama3") == 0) {
        r->type = ROPE_LLAMA3;
        return rope_llama3(r, p, c, err);
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "rope_type '%.64s' is not supported (supported: default, "
                   "linear, llama3)",
                   type);
}

/* Which layers slide: layer_types (5), or use_sliding_window and
 * max_window_layers (4). */
static int conf_windows(struct conf *c, const json_t *j, const struct family *f,
                        struct err *err) {
    const json_t *types = json_object_get(j, "layer_types");
    int64_t window, from;
    bool use;
    if (json_get_int(j, "sliding_window", &window, 0, err) < 0 ||
        json_get_bool(j, "use_sliding_window", &use, f->has_window, err) < 0 ||
        json_get_int(j, "max_window_layers", &from, 0, err) < 0)
        return -1;
    c->sliding = calloc((size_t)c->L / 64 + 1, sizeof *c->sliding);
    CHECK(c->sliding, "out of memory for %d layers", c->L);
    for (int i = 0; i < c->L; i++) {
        bool slides = use && window > 0 && i >= from;
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (json_is_array(types)) {
            if (!type)
                return err_set(err, ERR_INVAL, "layer_types has no entry %d",
                               i);
            if (strcmp(type, "full_attention") != 0 &&
                strcmp(type, "sliding_attention") != 0)
                return err_set(err, ERR_UNSUPPORTED,
                               "layer type '%.64s' is not supported", type);
            slides = strcmp(type, "sliding_attention") == 0;
        }
        if (slides)
            c->sliding[i / 64] |= (uint64_t)1 << (i % 64);
        if (slides && (window < 1 || window > INT32_MAX))
            return err_set(err, ERR_INVAL, "sliding_window is %lld",
                           (long long)window);
    }
    c->window = (int32_t)window;
    return 0;
}

static int conf_refuse(const json_t *j, struct err *err) {
    const char *act;
    bool mlp_bias;
    if (json_get_str(j, "hidden_act", &act, "silu", err) < 0 ||
        json_get_bool(j, "mlp_bias", &mlp_bias, false, err) < 0)
        return -1;
    if (strcmp(act, "silu") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "hidden_act '%.64s' is not supported (supported: silu)",
                       act);
    if (mlp_bias)
        return err_set(err, ERR_UNSUPPORTED, "mlp_bias is not supported");
    if (json_is_object(json_object_get(j, "quantization_config")))
        return err_set(err, ERR_UNSUPPORTED,
                       "quantized weights (quantization_config) are not "
                       "supported: use the unquantized checkpoint");
    return 0;
}

static void conf_eos(struct conf *c, const json_t *j) {
    const json_t *e = json_object_get(j, "eos_token_id");
    size_t n = json_is_array(e) ? json_array_size(e) : json_is_integer(e);
    for (size_t i = 0; i < n && c->n_eos < CONF_EOS_MAX; i++) {
        const json_t *v = json_is_array(e) ? json_array_get(e, i) : e;
        int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        bool seen = id < 0 || id >= c->V;
        for (int k = 0; k < c->n_eos; k++)
            seen |= c->eos[k] == (uint32_t)id;
        if (!seen)
            c->eos[c->n_eos++] = (uint32_t)id;
    }
    const json_t *pad = json_object_get(j, "pad_token_id");
    if (c->pad < 0 && json_is_integer(pad) && json_integer_value(pad) >= 0 &&
        json_integer_value(pad) < c->V)
        c->pad = (int32_t)json_integer_value(pad);
    const json_t *b = json_object_get(j, "bos_token_id");
    if (c->bos < 0 && json_is_integer(b))
        c->bos = json_integer_value(b);
}

static int conf_parse(struct conf *c, const json_t *j, struct err *err) {
    const char *type;
    bool bias;
    if (!json_is_object(j))
        return err_set(err, ERR_INVAL, "not a JSON object");
    if (json_get_str(j, "model_type", &type, NULL, err) < 0)
        return -1;
    if (!type)
        return err_set(err, ERR_INVAL, "model_type is missing");
    const struct family *f = family_find(type, err);
    if (!f || conf_refuse(j, err) < 0 || conf_sizes(c, j, err) < 0 ||
        conf_rope(c, j, err) < 0 || conf_windows(c, j, f, err) < 0 ||
        json_get_bool(j, "tie_word_embeddings", &c->tied, false, err) < 0 ||
        json_get_bool(j, "attention_bias", &bias, false, err) < 0)
        return -1;
    snprintf(c->family, sizeof c->family, "%s", type);
    c->qkv_bias = f->qkv_bias || bias;
    c->o_bias = bias && !f->qkv_bias;
    c->qk_norm = f->qk_norm;
    conf_eos(c, j);
    return 0;
}

int conf_read(struct conf *c, const char *dir, struct err *err) {
    memset(c, 0, sizeof *c);
    c->bos = c->pad = -1;
    char *path = fs_path("%s/config.json", dir);
    char *gen = fs_path("%s/generation_config.json", dir);
    json_t *j = json_read_file(path, CONF_FILE_MAX, err), *g = NULL;
    int rc = j ? conf_parse(c, j, err) : -1;
    if (j && rc < 0)
        err_ctx(err, "%s", path);
    if (rc == 0 && fs_exists(gen)) {
        int32_t pad = c->pad; /* the embedding's own, whatever is generated */
        g = json_read_file(gen, CONF_FILE_MAX, err);
        rc = g ? 0 : -1;
        if (g)
            conf_eos(c, g);
        c->pad = pad;
    }
    json_decref(j);
    json_decref(g);
    free(path);
    free(gen);
    if (rc < 0)
        conf_release(c);
    return rc;
}

void conf_release(struct conf *c) {
    free(c->sliding);
    c->sliding = NULL;
}

bool conf_slides(const struct conf *c, int layer) {
    return c->sliding[layer / 64] >> (layer % 64) & 1;
}

int64_t conf_params(const struct conf *c) {
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    int64_t layer =
        c->C * (2 * hd + 2 * kd) + 3 * (int64_t)c->C * c->F + 2 * (int64_t)c->C;
    layer += c->qkv_bias ? hd + 2 * kd : 0;
    layer += c->o_bias ? c->C : 0;
    layer += c->qk_norm ? 2 * (int64_t)c->D : 0;
    return c->L * layer + (int64_t)c->V * c->C * (c->tied ? 1 : 2) + c->C;
}
