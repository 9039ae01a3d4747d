/*
 * conf: config.json by table, in the layouts of transformers 4 and 5. What it
 * asks for and this program lacks is refused by name.
 */
#include "core/model/int.h"

#include "core/fs.h"
#include "core/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONF_FILE_MAX (4 << 20)
#define CONF_LAYERS_MAX 4096
#define CONF_EXPERTS_ALL (1 << 17) /* of all layers */
#define CONF_EXPERTS_FLOATS 1e15
#define ROPE_NUMBER_MAX 1e15 /* beyond it, and infinite, is a damaged file */

/* Which layers slide where layer_types does not say: window_every of a family.
 * A number n > 0: all but every n-th. */
enum {
    WINDOW_OPTION = 0, /* with use_sliding_window, from max_window_layers on */
    WINDOW_USED = -1,  /* with use_sliding_window, all */
    WINDOW_ALL = INT32_MAX,
};

/* The architectural switches of a family, and its defaults where config.json
 * is silent. */
struct family {
    const char *model_type;
    uint32_t has;  /* HAS_* always */
    uint32_t bias; /* HAS_* that attention_bias switches on */
    bool has_bias, tied;
    bool has_two_ropes; /* sliding layers rotate by a table of their own */
    bool rope_pairs;
    bool is_gemma; /* (1 + w) norms, sqrt(C) embeddings, its own scale */
    bool has_nope; /* no_rope_layers */
    const char *act;
    int window_every;
    double theta, theta_local, partial, attn_cap, final_cap;
};

#define SPLIT (HAS_SPLIT_QKV | HAS_SPLIT_MLP)
#define BIAS (HAS_QKV_BIAS | HAS_O_BIAS)
#define LLAMA (HAS_NORMS_LLAMA | SPLIT)
#define GEMMA (HAS_NORMS_GEMMA | SPLIT)
#define OLMO (HAS_NORMS_OLMO | HAS_QK_NORM_WIDE | SPLIT)
#define GELU "gelu_pytorch_tanh"

static const struct family families[] = {
    {.model_type = "gemma2",
     .has = GEMMA,
     .bias = BIAS,
     .tied = true,
     .is_gemma = true,
     .act = GELU,
     .window_every = 2,
     .attn_cap = 50,
     .final_cap = 30},
    {.model_type = "gemma3_text",
     .has = GEMMA | HAS_QK_NORM,
     .bias = BIAS,
     .tied = true,
     .has_two_ropes = true,
     .is_gemma = true,
     .act = GELU,
     .window_every = 6,
     .theta = 1e6,
     .theta_local = 1e4},
    {.model_type = "glm4",
     .has = HAS_NORMS_GLM | HAS_SPLIT_QKV | HAS_FUSED_MLP,
     .bias = HAS_QKV_BIAS,
     .has_bias = true,
     .rope_pairs = true,
     .partial = 0.5},
    {.model_type = "gpt_oss",
     .has = HAS_NORMS_LLAMA | HAS_SPLIT_QKV | HAS_STACKED_EXPERTS | HAS_SINKS,
     .bias = BIAS,
     .has_bias = true,
     .window_every = 2,
     .theta = 150000},
    {.model_type = "llama", .has = LLAMA, .bias = BIAS},
    {.model_type = "mistral", .has = LLAMA, .window_every = WINDOW_ALL},
    {.model_type = "olmo2", .has = OLMO, .bias = BIAS, .theta = 500000},
    {.model_type = "olmo3",
     .has = OLMO,
     .bias = BIAS,
     .has_two_ropes = true,
     .window_every = 4,
     .theta = 500000},
    {.model_type = "phi3",
     .has = HAS_NORMS_LLAMA | HAS_FUSED_QKV | HAS_FUSED_MLP,
     .window_every = WINDOW_ALL},
    {.model_type = "qwen2", .has = LLAMA | HAS_QKV_BIAS},
    {.model_type = "qwen3", .has = LLAMA | HAS_QK_NORM, .bias = BIAS},
    {.model_type = "qwen3_moe",
     .has = LLAMA | HAS_QK_NORM | HAS_EXPERTS,
     .bias = BIAS,
     .window_every = WINDOW_USED},
    {.model_type = "smollm3",
     .has = LLAMA,
     .bias = BIAS,
     .tied = true,
     .has_nope = true,
     .window_every = WINDOW_USED,
     .theta = 2e6},
};

static const struct family *family_find(const char *type, struct err *err) {
    char known[256] = "";
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
    if ((int64_t)c->H * c->D > 1 << 24)
        return err_set(err, ERR_INVAL, "attention of %d heads of %d is absurd",
                       c->H, c->D);
    return 0;
}

static int rope_llama3(struct rope_conf *r, const json_t *j, struct err *err) {
    if (json_get_num(j, "low_freq_factor", &r->low_freq_factor, 1, err) < 0 ||
        json_get_num(j, "high_freq_factor", &r->high_freq_factor, 4, err) < 0)
        return -1;
    if (!(r->low_freq_factor > 0) || !(r->original_max > 0) ||
        !(r->high_freq_factor > r->low_freq_factor) ||
        !(r->high_freq_factor < ROPE_NUMBER_MAX))
        return err_set(err, ERR_INVAL, "llama3 rope factors are out of range");
    return 0;
}

static double yarn_mscale(double factor, double m) {
    return factor > 1 ? 0.1 * m * kern_log(factor) + 1 : 1;
}

static int rope_yarn(struct rope_conf *r, const json_t *j, struct err *err) {
    double scale, m, all;
    if (json_get_num(j, "beta_fast", &r->beta_fast, 32, err) < 0 ||
        json_get_num(j, "beta_slow", &r->beta_slow, 1, err) < 0 ||
        json_get_bool(j, "truncate", &r->truncate, true, err) < 0 ||
        json_get_num(j, "attention_factor", &scale, 0, err) < 0 ||
        json_get_num(j, "mscale", &m, 0, err) < 0 ||
        json_get_num(j, "mscale_all_dim", &all, 0, err) < 0)
        return -1;
    if (!(r->beta_fast > 0 && r->beta_fast < ROPE_NUMBER_MAX) ||
        !(r->beta_slow > 0 && r->beta_slow < ROPE_NUMBER_MAX) ||
        !(r->original_max > 0) || !(m < ROPE_NUMBER_MAX) ||
        !(scale >= 0 && scale < ROPE_NUMBER_MAX) || !(m >= 0) || !(all >= 0))
        return err_set(err, ERR_INVAL, "yarn rope factors are out of range");
    r->scale = scale > 0 ? scale
               : m > 0 && all > 0
                   ? yarn_mscale(r->factor, m) / yarn_mscale(r->factor, all)
                   : yarn_mscale(r->factor, 1);
    return 0;
}

/* Without a factor it is how much longer than the original the context is. */
static int rope_longrope(struct rope_conf *r, const json_t *j,
                         const struct conf *c, struct err *err) {
    const json_t *list = json_object_get(j, "short_factor");
    double scale, factor = r->factor;
    if (json_get_num(j, "attention_factor", &scale, 0, err) < 0)
        return -1;
    if (c->rot / 2 > ROPE_PAIRS_MAX ||
        json_array_size(list) != (size_t)c->rot / 2)
        return err_set(err, ERR_INVAL,
                       "longrope short_factor has %zu numbers, a head rotates "
                       "%d pairs",
                       json_array_size(list), c->rot / 2);
    for (int i = 0; i < c->rot / 2; i++) {
        r->divisor[i] = json_number_value(json_array_get(list, (size_t)i));
        if (!(r->divisor[i] > 0) || !(r->divisor[i] < ROPE_NUMBER_MAX))
            return err_set(err, ERR_INVAL,
                           "longrope short_factor %d is out of range", i);
    }
    if (!(r->original_max > 1) || !(scale >= 0 && scale < ROPE_NUMBER_MAX))
        return err_set(err, ERR_INVAL, "longrope factors are out of range");
    if (!json_object_get(j, "factor"))
        factor = c->max_pos / r->original_max;
    r->scale = scale > 0 ? scale
               : factor > 1
                   ? sqrt(1 + kern_log(factor) / kern_log(r->original_max))
                   : 1;
    return 0;
}

/* The rope that p describes; p may be NULL. */
static int rope_read(struct rope_conf *r, const json_t *p, double theta,
                     const struct conf *c, double original, struct err *err) {
    static const char *const types[] = {
        [ROPE_DEFAULT] = "default",   [ROPE_LINEAR] = "linear",
        [ROPE_LLAMA3] = "llama3",     [ROPE_YARN] = "yarn",
        [ROPE_LONGROPE] = "longrope",
    };
    const char *type, *old, *dtype;
    memset(r, 0, sizeof *r);
    r->theta = theta;
    r->factor = r->scale = 1;
    r->original_max = original;
    if (!json_is_object(p))
        return 0;
    if (json_get_str(p, "type", &old, "default", err) < 0 ||
        json_get_str(p, "rope_type", &type, old, err) < 0 ||
        json_get_num(p, "rope_theta", &r->theta, theta, err) < 0 ||
        json_get_num(p, "factor", &r->factor, 1, err) < 0 ||
        json_get_num(p, "original_max_position_embeddings", &r->original_max,
                     original, err) < 0 ||
        json_get_str(p, "inv_freq_dtype", &dtype, "", err) < 0)
        return -1;
    r->is_bf16 = strcmp(dtype, "bfloat16") == 0;
    if (!(r->theta > 1) || !(r->factor >= 1) || !(r->theta < ROPE_NUMBER_MAX) ||
        !(r->factor < ROPE_NUMBER_MAX) || !(r->original_max < ROPE_NUMBER_MAX))
        return err_set(err, ERR_INVAL, "rope_theta or factor is out of range");
    size_t i = 0, n = sizeof types / sizeof *types;
    if (strcmp(type, "su") == 0) /* its first name */
        type = types[ROPE_LONGROPE];
    while (i < n && strcmp(type, types[i]) != 0)
        i++;
    if (i == n)
        return err_set(err, ERR_UNSUPPORTED,
                       "rope_type '%.64s' is not supported (supported: "
                       "default, linear, llama3, yarn, longrope)",
                       type);
    r->type = (enum rope_type)i;
    return r->type == ROPE_LLAMA3     ? rope_llama3(r, p, err)
           : r->type == ROPE_YARN     ? rope_yarn(r, p, err)
           : r->type == ROPE_LONGROPE ? rope_longrope(r, p, c, err)
                                      : 0;
}

/* How much of a head is rotated, and in which pairs. */
static int rope_partial(struct conf *c, const json_t *j, const json_t *p,
                        const struct family *f, struct err *err) {
    double part;
    if (json_get_num(j, "partial_rotary_factor", &part,
                     f->partial > 0 ? f->partial : 1, err) < 0 ||
        (json_is_object(p) &&
         json_get_num(p, "partial_rotary_factor", &part, part, err) < 0))
        return -1;
    c->rope_pairs = f->rope_pairs;
    c->rot = part > 0 && part <= 1 ? (int32_t)(c->D * part) : 0;
    if (c->rot < 2 || c->rot % 2)
        return err_set(err, ERR_UNSUPPORTED,
                       "partial_rotary_factor %g of head_dim %d is not "
                       "supported",
                       part, c->D);
    return 0;
}

/* rope_parameters (5), by layer type where a family has two; or rope_theta
 * with rope_scaling (4), which is of the full layers. */
static int conf_rope(struct conf *c, const json_t *j, const struct family *f,
                     struct err *err) {
    const json_t *p = json_object_get(j, "rope_parameters");
    double theta, local, original, dflt = f->theta > 0 ? f->theta : 10000;
    if (json_get_num(j, "original_max_position_embeddings", &original,
                     c->max_pos, err) < 0 ||
        json_get_num(j, "rope_theta", &theta, dflt, err) < 0 ||
        json_get_num(j, "rope_local_base_freq", &local, f->theta_local, err) <
            0)
        return -1;
    if (!json_is_object(p))
        p = json_object_get(j, "rope_scaling");
    const json_t *full = json_object_get(p, "full_attention");
    const json_t *slide = json_object_get(p, "sliding_attention");
    if (rope_partial(c, j, p, f, err) < 0 ||
        rope_read(&c->rope[0], full ? full : p, theta, c, original, err) < 0)
        return -1;
    if (c->rope[0].type == ROPE_LONGROPE &&
        c->max_pos > c->rope[0].original_max)
        c->max_pos = (int32_t)c->rope[0].original_max;
    if (!f->has_two_ropes) {
        c->rope[1] = c->rope[0];
        return 0;
    }
    if (rope_read(&c->rope[1], slide, local > 0 ? local : c->rope[0].theta, c,
                  original, err) < 0)
        return -1;
    c->rope[1].is_bf16 |= !slide && c->rope[0].is_bf16;
    return 0;
}

static int window_type(const json_t *types, int i, bool *slides,
                       struct err *err) {
    const char *type = json_string_value(json_array_get(types, (size_t)i));
    if (!type)
        return err_set(err, ERR_INVAL, "layer_types has no entry %d", i);
    *slides = strcmp(type, "sliding_attention") == 0;
    if (!*slides && strcmp(type, "full_attention") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "layer type '%.64s' is not supported", type);
    return 0;
}

/* Which layers slide: layer_types (5), or the family's pattern (4). */
static int conf_windows(struct conf *c, const json_t *j, const struct family *f,
                        struct err *err) {
    const json_t *types = json_object_get(j, "layer_types");
    int64_t window, from, every;
    bool use;
    if (json_get_int(j, "sliding_window", &window, 0, err) < 0 ||
        json_get_bool(j, "use_sliding_window", &use, f->window_every > 0, err) <
            0 ||
        json_get_int(j, "max_window_layers", &from, 28, err) < 0 ||
        json_get_int(j, "sliding_window_pattern", &every, f->window_every,
                     err) < 0)
        return -1;
    for (int i = 0; i < c->L; i++) {
        bool slides = use && window > 0;
        if (f->window_every == WINDOW_OPTION)
            slides &= i >= from;
        else if (f->window_every > 0 && every > 0)
            slides &= (i + 1) % every != 0;
        if (json_is_array(types) && window_type(types, i, &slides, err) < 0)
            return -1;
        if (slides)
            c->layer[i] |= LAYER_SLIDES;
        if (slides && (window < 1 || window > INT32_MAX))
            return err_set(err, ERR_INVAL, "sliding_window is %lld",
                           (long long)window);
    }
    c->window = (int32_t)window;
    return 0;
}

/* no_rope_layers: 1 = rotated; else every no_rope_layer_interval-th is not. */
static int conf_nope(struct conf *c, const json_t *j, struct err *err) {
    const json_t *list = json_object_get(j, "no_rope_layers");
    int64_t every;
    if (json_get_int(j, "no_rope_layer_interval", &every, 4, err) < 0)
        return -1;
    for (int i = 0; i < c->L; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        if (json_is_array(list) && !json_is_integer(v))
            return err_set(err, ERR_INVAL, "no_rope_layers has no entry %d", i);
        if (v ? json_integer_value(v) == 0 : every > 0 && (i + 1) % every == 0)
            c->layer[i] |= LAYER_NOPE;
    }
    return 0;
}

/* Which layers are sparse, and their experts. */
static int conf_experts(struct conf *c, const json_t *j, struct err *err) {
    const json_t *dense = json_object_get(j, "mlp_only_layers");
    bool stacked = c->has & HAS_STACKED_EXPERTS;
    int64_t step, local;
    double alpha, limit;
    if (!(c->has & (HAS_EXPERTS | HAS_STACKED_EXPERTS)))
        return 0;
    if (json_get_int(j, "num_local_experts", &local, 0, err) < 0 ||
        conf_int32(j, "num_experts", &c->E, local, KERN_EXPERTS_MAX, err) < 0 ||
        conf_int32(j, "num_experts_per_tok", &c->top, 0, c->E, err) < 0 ||
        conf_int32(j, "moe_intermediate_size", &c->expert_F, stacked ? c->F : 0,
                   1 << 22, err) < 0 ||
        json_get_int(j, "decoder_sparse_step", &step, 1, err) < 0 ||
        json_get_bool(j, "norm_topk_prob", &c->norm_top, stacked, err) < 0 ||
        json_get_num(j, "swiglu_alpha", &alpha, 1.702, err) < 0 ||
        json_get_num(j, "swiglu_limit", &limit, 7, err) < 0)
        return -1;
    if ((int64_t)c->L * c->E > CONF_EXPERTS_ALL ||
        (double)c->L * c->E * c->C * c->expert_F > CONF_EXPERTS_FLOATS)
        return err_set(err, ERR_INVAL, "%d layers of %d experts are absurd",
                       c->L, c->E);
    if (step < 1 || !(limit > 0) || !(fabs(alpha) < 1e9))
        return err_set(err, ERR_INVAL,
                       "decoder_sparse_step, swiglu_alpha or swiglu_limit is "
                       "out of range");
    c->glu_alpha = (float)alpha;
    c->glu_limit = (float)limit;
    for (int i = 0; i < c->L; i++) {
        bool sparse = (i + 1) % step == 0;
        for (size_t k = 0; k < json_array_size(dense); k++)
            sparse &= json_integer_value(json_array_get(dense, k)) != i;
        if (sparse)
            c->layer[i] |= LAYER_SPARSE;
    }
    return 0;
}

static int conf_act(struct conf *c, const json_t *j, const struct family *f,
                    struct err *err) {
    static const char *const acts[] = {
        [KERN_SILU] = "silu", [KERN_GELU_TANH] = GELU};
    const char *act;
    if (json_get_str(j, f->is_gemma ? "hidden_activation" : "hidden_act", &act,
                     f->act ? f->act : "silu", err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strcmp(act, acts[i]) == 0) {
            c->act = (enum kern_act)i;
            return 0;
        }
    return err_set(err, ERR_UNSUPPORTED,
                   "hidden_act '%.64s' is not supported (supported: silu, "
                   "gelu_pytorch_tanh)",
                   act);
}

/* Scales and caps. */
static int conf_scales(struct conf *c, const json_t *j, const struct family *f,
                       struct err *err) {
    double scalar, attn_cap, final_cap;
    if (json_get_num(j, "attn_logit_softcapping", &attn_cap, f->attn_cap, err) <
            0 ||
        json_get_num(j, "final_logit_softcapping", &final_cap, f->final_cap,
                     err) < 0 ||
        json_get_num(j, "query_pre_attn_scalar", &scalar, 256, err) < 0)
        return -1;
    if (json_is_null(json_object_get(j, "attn_logit_softcapping")))
        attn_cap = 0;
    if (json_is_null(json_object_get(j, "final_logit_softcapping")))
        final_cap = 0;
    if (!(attn_cap >= 0 && attn_cap < 1e9) ||
        !(final_cap >= 0 && final_cap < 1e9) || !(scalar > 0 && scalar < 1e9))
        return err_set(err, ERR_INVAL,
                       "attn_logit_softcapping, final_logit_softcapping or "
                       "query_pre_attn_scalar is out of range");
    c->attn_cap = f->attn_cap > 0 ? (float)attn_cap : 0; /* else not in use */
    c->final_cap = f->is_gemma ? (float)final_cap : 0;
    c->attn_scale = (float)(1 / sqrt(f->is_gemma ? scalar : (double)c->D));
    double embed = f->is_gemma ? sqrt((double)c->C) : 1;
    c->embed_scale = (float)(c->rope[0].is_bf16 ? bf16_round(embed) : embed);
    c->norm_plus = f->is_gemma ? 1 : 0;
    return 0;
}

static int conf_refuse(const json_t *j, struct err *err) {
    static const char *const flags[] = {"mlp_bias",
                                        "use_bidirectional_attention"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool on;
        if (json_get_bool(j, flags[i], &on, false, err) < 0)
            return -1;
        if (on)
            return err_set(err, ERR_UNSUPPORTED, "%s is not supported",
                           flags[i]);
    }
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
        json_get_bool(j, "tie_word_embeddings", &c->tied, f->tied, err) < 0 ||
        json_get_bool(j, "attention_bias", &bias, f->has_bias, err) < 0)
        return -1;
    snprintf(c->family, sizeof c->family, "%s", type);
    c->has = f->has | (bias ? f->bias : 0) | (c->tied ? 0 : HAS_HEAD);
    c->layer = calloc((size_t)c->L, sizeof *c->layer);
    CHECK(c->layer, "out of memory for %d layers", c->L);
    if (conf_act(c, j, f, err) < 0 || conf_rope(c, j, f, err) < 0 ||
        conf_scales(c, j, f, err) < 0 || conf_windows(c, j, f, err) < 0 ||
        (f->has_nope && conf_nope(c, j, err) < 0) ||
        conf_experts(c, j, err) < 0)
        return -1;
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
    free(c->layer);
    c->layer = NULL;
}

bool conf_layer_is(const struct conf *c, int layer, enum conf_layer what) {
    return c->layer[layer] & what;
}

uint32_t conf_layer_has(const struct conf *c, int layer) {
    bool sparse = conf_layer_is(c, layer, LAYER_SPARSE);
    uint32_t other = sparse ? HAS_SPLIT_MLP | HAS_FUSED_MLP
                            : HAS_EXPERTS | HAS_STACKED_EXPERTS;
    return c->has & ~other;
}

int conf_ropes(const struct conf *c) {
    return memcmp(&c->rope[0], &c->rope[1], sizeof c->rope[0]) ? 2 : 1;
}
