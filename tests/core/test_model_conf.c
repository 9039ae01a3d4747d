/* Configurations: both layouts of config.json, what is refused and by which
 * name, the table of weights against the files of every family. */
#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *model_conf_suite(void);

#define GOLDEN "tests/golden/models"

static const char *const families[] = {
    "gemma2",    "gemma3", "glm4",       "gpt_oss", "llama", "llama3",
    "mistral",   "olmo2",  "olmo3",      "phi3",    "qwen2", "qwen3",
    "qwen3_moe", "smollm", "qwen3_tied", "phi4"};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

static char dir[64];

static void setup(void) {
    snprintf(dir, sizeof dir, "/tmp/fettle-conf-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
}

static json_t *golden_conf(const char *family, const char *file) {
    struct err err = {0};
    char *path = fs_path(GOLDEN "/%s/%s", family, file);
    json_t *j = json_read_file(path, 1 << 20, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    free(path);
    return j;
}

/* Reads j as DIR/config.json; drops j. */
static int read_conf(struct conf *c, json_t *j, struct err *err) {
    char *path = fs_path("%s/config.json", dir);
    ck_assert_int_eq(json_dump_file(j, path, 0), 0);
    json_decref(j);
    free(path);
    return conf_read(c, dir, err);
}

static void expect_same(const struct conf *a, const struct conf *b) {
    struct conf x = *a, y = *b;
    ck_assert_mem_eq(a->layer, b->layer, (size_t)a->L);
    x.layer = y.layer = NULL;
    ck_assert_mem_eq(&x, &y, sizeof x);
}

/* ---- the layouts of transformers 4 ---- */

static json_t *legacy_of(json_t *j, const json_t *scaling) {
    const json_t *p = json_object_get(j, "rope_parameters");
    const json_t *theta = json_object_get(p, "rope_theta");
    if (theta)
        json_object_set(j, "rope_theta", (json_t *)theta);
    if (scaling)
        json_object_set(j, "rope_scaling", (json_t *)scaling);
    json_object_del(j, "rope_parameters");
    json_object_del(j, "layer_types");
    return j;
}

START_TEST(old_layout_of_config_says_the_same) {
    static const char *const both[] = {"llama", "qwen2"};
    struct conf a, b;
    struct err err = {0};
    json_t *j = golden_conf(both[_i], "config.json");
    json_object_del(json_object_get(j, "rope_parameters"), "inv_freq_dtype");
    ck_assert_msg(read_conf(&a, j, &err) == 0, "%s", err.msg);
    j = golden_conf(both[_i], "config.legacy.json");
    ck_assert_msg(read_conf(&b, j, &err) == 0, "%s", err.msg);
    expect_same(&a, &b);
    conf_release(&a);
    conf_release(&b);
}
END_TEST

START_TEST(old_layout_of_gemma3_has_a_local_theta_and_a_pattern) {
    struct conf c;
    struct err err = {0};
    json_t *j = legacy_of(golden_conf("gemma3", "config.json"), NULL);
    json_object_set_new(j, "rope_theta", json_real(5e5));
    json_object_set_new(j, "rope_local_base_freq", json_real(2e4));
    json_object_set_new(j, "sliding_window_pattern", json_integer(2));
    json_object_set_new(
        j, "rope_scaling",
        json_pack("{s:s, s:f}", "rope_type", "linear", "factor", 8.0));
    ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
    ck_assert(c.rope[0].type == ROPE_LINEAR && c.rope[0].factor == 8);
    ck_assert(c.rope[0].theta == 5e5 && c.rope[1].theta == 2e4);
    ck_assert(c.rope[1].type == ROPE_DEFAULT && c.rope[1].factor == 1);
    for (int l = 0; l < 3; l++)
        ck_assert_int_eq(conf_layer_is(&c, l, LAYER_SLIDES), l != 1);
    conf_release(&c);
}
END_TEST

START_TEST(old_layout_of_olmo3_scales_the_full_layers_only) {
    struct conf c;
    struct err err = {0};
    json_t *j = golden_conf("olmo3", "config.json");
    json_object_set_new(j, "num_hidden_layers", json_integer(5));
    json_t *yarn = json_pack("{s:s, s:f, s:i, s:f}", "rope_type", "yarn",
                             "factor", 8.0, "original_max_position_embeddings",
                             32, "attention_factor", 1.25);
    j = legacy_of(j, yarn);
    json_decref(yarn);
    ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
    ck_assert(c.rope[0].type == ROPE_YARN && c.rope[0].scale == 1.25);
    ck_assert(c.rope[1].type == ROPE_DEFAULT && c.rope[1].scale == 1);
    ck_assert(c.rope[0].theta == 5e5 && c.rope[1].theta == 5e5);
    for (int l = 0; l < 5; l++)
        ck_assert_int_eq(conf_layer_is(&c, l, LAYER_SLIDES), l != 3);
    conf_release(&c);
}
END_TEST

/* The original context may stand beside the ropes; "su" is the old name. */
START_TEST(longrope_turns_by_its_short_factors_within_the_original_context) {
    struct conf c, old;
    struct err err = {0};
    ck_assert_int_eq(conf_read(&c, GOLDEN "/phi4", &err), 0);
    ck_assert(c.rope[0].type == ROPE_LONGROPE);
    ck_assert(c.max_pos == 64 && c.rot == 12 && c.rope[0].divisor[5] == 2.25);
    ck_assert_double_eq_tol(c.rope[0].scale, sqrt(1.5), 1e-15);
    json_t *j = golden_conf("phi4", "config.json");
    json_t *p = json_deep_copy(json_object_get(j, "rope_parameters"));
    json_object_set(j, "partial_rotary_factor",
                    json_object_get(p, "partial_rotary_factor"));
    json_object_del(p, "original_max_position_embeddings");
    json_object_del(p, "rope_type");
    json_object_set_new(p, "type", json_string("su"));
    j = legacy_of(j, p);
    json_decref(p);
    ck_assert_msg(read_conf(&old, j, &err) == 0, "%s", err.msg);
    expect_same(&c, &old);
    conf_release(&c);
    conf_release(&old);
}
END_TEST

START_TEST(old_layout_of_glm4_rotates_half_by_default) {
    struct conf c;
    struct err err = {0};
    json_t *j = legacy_of(golden_conf("glm4", "config.json"), NULL);
    json_object_del(j, "partial_rotary_factor");
    ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(c.rot, c.D / 2);
    ck_assert(c.rope_pairs);
    conf_release(&c);
}
END_TEST

START_TEST(windows_follow_the_familys_pattern_without_layer_types) {
    static const struct {
        const char *family, *want; /* s = slides */
    } rows[] = {{"gemma2", "s.s."},  {"gpt_oss", "s.s."}, {"olmo3", "sss."},
                {"mistral", "ssss"}, {"qwen3", "...."},   {"phi3", "...."},
                {"llama", "...."}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct conf c;
        struct err err = {0};
        json_t *j = golden_conf(rows[i].family, "config.json");
        json_object_del(j, "layer_types");
        json_object_set_new(j, "num_hidden_layers", json_integer(4));
        ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
        for (int l = 0; l < 4; l++)
            ck_assert_msg(conf_layer_is(&c, l, LAYER_SLIDES) ==
                              (rows[i].want[l] == 's'),
                          "%s layer %d", rows[i].family, l);
        conf_release(&c);
    }
}
END_TEST

START_TEST(smollm3_leaves_some_layers_unrotated) {
    for (int v = 0; v < 2; v++) {
        struct conf c;
        struct err err = {0};
        json_t *j = golden_conf("llama", "config.json");
        json_object_set_new(j, "model_type", json_string("smollm3"));
        json_object_set_new(j, "num_hidden_layers", json_integer(4));
        if (v)
            json_object_set_new(j, "no_rope_layers",
                                json_pack("[iiii]", 1, 0, 1, 1));
        ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
        for (int l = 0; l < 4; l++)
            ck_assert_int_eq(conf_layer_is(&c, l, LAYER_NOPE),
                             l == (v ? 1 : 3));
        conf_release(&c);
    }
}
END_TEST

START_TEST(sparse_layers_are_those_that_the_config_names) {
    struct conf c;
    struct err err = {0};
    json_t *j = golden_conf("qwen3_moe", "config.json");
    json_object_set_new(j, "num_hidden_layers", json_integer(6));
    json_object_set_new(j, "decoder_sparse_step", json_integer(2));
    json_object_set_new(j, "mlp_only_layers", json_pack("[i]", 3));
    ck_assert_msg(read_conf(&c, j, &err) == 0, "%s", err.msg);
    for (int l = 0; l < 6; l++)
        ck_assert_int_eq(conf_layer_is(&c, l, LAYER_SPARSE), l == 1 || l == 5);
    ck_assert(c.E == 6 && c.top == 2 && c.expert_F == 24 && c.norm_top);
    conf_release(&c);
}
END_TEST

/* ---- refusals ---- */

START_TEST(absurd_numbers_of_experts_are_refused) {
    struct conf c;
    struct err err = {0};
    json_t *j = golden_conf("qwen3_moe", "config.json");
    json_object_set_new(j, "num_hidden_layers", json_integer(4000));
    json_object_set_new(j, "num_local_experts", json_integer(1000));
    ck_assert_int_eq(read_conf(&c, j, &err), -1);
    ck_assert_msg(strstr(err.msg, "1000 experts") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(what_is_not_supported_is_refused_by_name) {
    static const struct {
        const char *family, *key, *value, *says;
    } rows[] = {
        {"llama", "model_type", "\"mamba\"", "mamba"},
        {"llama", "hidden_act", "\"relu\"", "relu"},
        {"llama", "mlp_bias", "true", "mlp_bias"},
        {"qwen3", "quantization_config", "{\"bits\": 4}",
         "quantization_config"},
        {"gemma3", "use_bidirectional_attention", "true",
         "use_bidirectional_attention"},
        {"qwen3", "layer_types", "[\"linear_attention\", \"full_attention\"]",
         "linear_attention"},
        {"phi3", "rope_parameters", "{\"rope_type\": \"dynamic\"}", "dynamic"},
        {"phi3", "rope_parameters",
         "{\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 3]}",
         "short_factor has 3 numbers"},
        {"phi3", "rope_parameters",
         "{\"rope_type\": \"longrope\", \"partial_rotary_factor\": 0.5, "
         "\"short_factor\": [1, 2, 0]}",
         "short_factor 2 is out of range"},
        {"glm4", "rope_parameters", "{\"partial_rotary_factor\": 0.2}",
         "partial_rotary_factor"},
        {"llama", "rope_parameters",
         "{\"rope_type\": \"yarn\", \"factor\": 4, \"beta_fast\": -1}", "yarn"},
        {"qwen3_moe", "num_experts_per_tok", "9", "num_experts_per_tok"},
        {"gpt_oss", "swiglu_limit", "-1", "swiglu_limit"},
        {"gemma2", "final_logit_softcapping", "-1", "final_logit_softcapping"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct conf c;
        struct err err = {0};
        json_t *j = golden_conf(rows[i].family, "config.json");
        json_object_set_new(j, rows[i].key,
                            json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        ck_assert_int_eq(read_conf(&c, j, &err), -1);
        ck_assert_msg(strstr(err.msg, rows[i].says) != NULL, "%s: %s",
                      rows[i].key, err.msg);
    }
}
END_TEST

/* ---- weights ---- */

START_TEST(table_of_weights_names_every_tensor_of_the_files) {
    struct err err = {0};
    struct kern *k = NULL;
    char *path = fs_path(GOLDEN "/%s", families[_i]);
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){"cpu", 1, NULL}), 0);
    struct model *m = model_open(path, k, &err);
    struct st *st = st_open_dir(path, &err);
    ck_assert_msg(m && st, "%s", err.msg);
    int64_t floats = 0;
    ck_assert_int_eq(model_count(m), st_count(st));
    for (int i = 0; i < model_count(m); i++) {
        const struct weight_info *w = model_info(m, i);
        const struct st_tensor *t = st_find(st, w->name);
        ck_assert_msg(t != NULL, "no %s", w->name);
        ck_assert_int_eq(t->rank, w->rank);
        ck_assert_mem_eq(t->shape, w->shape,
                         (size_t)t->rank * sizeof *t->shape);
        floats += t->bytes / (int64_t)kern_dtype_size(t->dtype);
    }
    ck_assert_int_eq(conf_params(model_conf(m)), floats);
    ck_assert_int_eq(model_floats(m), floats);
    st_close(st);
    model_close(m);
    k->ops->close(k);
    free(path);
}
END_TEST

/* The golden qwen3_moe with its experts stacked, as transformers 5 holds them:
 * gate_up_proj (E, 2F, C), down_proj (E, C, F). */
struct stacked {
    const struct model *m;
    struct kern *k;
    struct st_out out[64];
    char name[64][96];
    int n;
};

static void stacked_add(struct stacked *s, const char *name, int rank,
                        const int64_t *shape) {
    struct st_out *o = &s->out[s->n];
    snprintf(s->name[s->n], sizeof s->name[0], "%s", name);
    *o =
        (struct st_out){.name = s->name[s->n], .dtype = KERN_F32, .rank = rank};
    memcpy(o->shape, shape, (size_t)rank * sizeof *shape);
    s->n++;
}

static int expert_fill(const struct stacked *s, enum slot slot, int layer,
                       int e, float *out, struct err *err) {
    int i = model_index(s->m, slot, layer) + e;
    const struct weight *w = &model_weights(s->m)->w[i];
    const struct weight_info *info = model_info(s->m, i);
    int rc =
        s->k->ops->widen(s->k, out, w->dev, w->dtype, info->rows * info->cols);
    return rc ? err_kern(err, rc, "widen") : 0;
}

static int stacked_fill(void *arg, int i, void *out, struct err *err) {
    const struct stacked *s = arg;
    const struct conf *c = model_conf(s->m);
    int64_t each = (int64_t)c->expert_F * c->C;
    const char *name = s->name[i];
    int layer;
    float *y = out;
    if (sscanf(name, "model.layers.%d.mlp.experts.", &layer) != 1 ||
        !strstr(name, "experts")) {
        for (int j = 0; j < model_count(s->m); j++)
            if (strcmp(model_info(s->m, j)->name, name) == 0)
                return expert_fill(s, model_info(s->m, j)->slot,
                                   model_info(s->m, j)->layer, 0, y, err);
        ck_abort_msg("no %s", name);
    }
    for (int e = 0; e < c->E; e++) {
        bool down = strstr(name, "down") != NULL;
        int rc =
            down ? expert_fill(s, SLOT_EXPERT_DOWN, layer, e, y + e * each, err)
                 : expert_fill(s, SLOT_EXPERT_GATE, layer, e, y + 2 * e * each,
                               err) |
                       expert_fill(s, SLOT_EXPERT_UP, layer, e,
                                   y + (2 * e + 1) * each, err);
        if (rc < 0)
            return -1;
    }
    return 0;
}

START_TEST(stacked_experts_load_as_the_separate_ones) {
    struct err err = {0};
    struct kern *k = NULL;
    struct stacked s = {0};
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){"cpu", 1, NULL}), 0);
    struct model *a = model_open(GOLDEN "/qwen3_moe", k, &err);
    ck_assert_msg(a != NULL, "%s", err.msg);
    const struct conf *c = model_conf(a);
    s.m = a;
    s.k = k;
    for (int i = 0; i < model_count(a); i++) {
        const struct weight_info *w = model_info(a, i);
        if (!strstr(w->name, "experts"))
            stacked_add(&s, w->name, w->rank, w->shape);
    }
    for (int l = 0; l < c->L; l++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.gate_up_proj",
                 l);
        stacked_add(&s, name, 3,
                    (const int64_t[]){c->E, 2 * c->expert_F, c->C});
        snprintf(name, sizeof name, "model.layers.%d.mlp.experts.down_proj", l);
        stacked_add(&s, name, 3, (const int64_t[]){c->E, c->C, c->expert_F});
    }
    char *file = fs_path("%s/model.safetensors", dir);
    ck_assert_msg(st_write(file, s.out, s.n, NULL, 0, stacked_fill, &s, &err) ==
                      0,
                  "%s", err.msg);
    char *conf = fs_path("%s/config.json", dir);
    ck_assert_int_eq(fs_copy_file(GOLDEN "/qwen3_moe/config.json", conf, &err),
                     0);
    struct model *b = model_open(dir, k, &err);
    ck_assert_msg(b != NULL, "%s", err.msg);
    size_t bytes = (size_t)model_floats(a) * sizeof(float);
    float *x = malloc(bytes), *y = malloc(bytes);
    ck_assert_int_eq(model_widen(a, k, x, &err) | model_widen(b, k, y, &err),
                     0);
    ck_assert_mem_eq(x, y, bytes);
    free(x);
    free(y);
    free(file);
    free(conf);
    model_close(a);
    model_close(b);
    k->ops->close(k);
}
END_TEST

START_TEST(adapter_floats_are_those_of_its_block) {
    struct err err = {0};
    struct kern *k = NULL;
    char *path = fs_path(GOLDEN "/%s", families[_i]);
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){"cpu", 1, NULL}), 0);
    struct model *m = model_open(path, k, &err);
    ck_assert_msg(m != NULL, "%s", err.msg);
    for (int v = 1; v < 8; v++) {
        struct lora_conf c = {3, 32, v & 1, v & 2, v & 4};
        struct adapter *a = adapter_new(m, k, &c, 1, &err);
        if (a)
            ck_assert_int_eq(adapter_floats(m, &c), a->floats);
        else /* only mlps, and all of them sparse */
            ck_assert(model_conf(m)->E && v == 4 && adapter_floats(m, &c) == 0);
        adapter_free(a);
    }
    model_close(m);
    k->ops->close(k);
    free(path);
}
END_TEST

Suite *model_conf_suite(void) {
    Suite *s = suite_create("configurations");
    TCase *tc = tcase_create("conf");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, old_layout_of_config_says_the_same, 0, 2);
    tcase_add_test(tc, old_layout_of_gemma3_has_a_local_theta_and_a_pattern);
    tcase_add_test(tc, old_layout_of_olmo3_scales_the_full_layers_only);
    tcase_add_test(
        tc, longrope_turns_by_its_short_factors_within_the_original_context);
    tcase_add_test(tc, old_layout_of_glm4_rotates_half_by_default);
    tcase_add_test(tc, windows_follow_the_familys_pattern_without_layer_types);
    tcase_add_test(tc, smollm3_leaves_some_layers_unrotated);
    tcase_add_test(tc, sparse_layers_are_those_that_the_config_names);
    tcase_add_test(tc, what_is_not_supported_is_refused_by_name);
    tcase_add_test(tc, absurd_numbers_of_experts_are_refused);
    tcase_add_loop_test(tc, table_of_weights_names_every_tensor_of_the_files, 0,
                        N_FAMILIES);
    tcase_add_test(tc, stacked_experts_load_as_the_separate_ones);
    tcase_add_loop_test(tc, adapter_floats_are_those_of_its_block, 0,
                        N_FAMILIES);
    suite_add_tcase(s, tc);
    return s;
}
