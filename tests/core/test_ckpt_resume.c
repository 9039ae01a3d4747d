/* A snapshot at any point, a new trainer, the rest of the ops: the same bytes
 * as without; and directories that are damaged are named, never used. */
#include "core/ckpt.h"
#include "core/fs.h"
#include "core/rng.h"

#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *ckpt_resume_suite(void);

#define STEPS 4
static const char *const families[] = {"qwen3", "qwen2", /* tied: qwen2 */
                                       "gpt_oss", "phi3"};

static char dir[64];
static struct kern *kern;
static struct model *model;

static void setup(void) {
    snprintf(dir, sizeof dir, "/tmp/fettle-ckpt-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
    model_close(model);
    if (kern)
        kern->ops->close(kern);
    model = NULL;
    kern = NULL;
}

static void open_model(const char *family) {
    struct err err = {0};
    char *path = fs_path("tests/golden/models/%s", family);
    ck_assert_int_eq(kern_open(&kern, &(struct kern_opts){"cpu", 2, NULL}), 0);
    model = model_open(path, kern, &err);
    ck_assert_msg(model != NULL, "%s", err.msg);
    free(path);
}

static struct trainer *new_trainer(uint32_t rank) {
    struct err err = {0};
    struct op_create op = {.base = "m",
                           .lora_rank = rank,
                           .lora_alpha = 32,
                           .seed = 3,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true};
    struct trainer *tr = trainer_new(model, kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    return tr;
}

/* Op k of the script: even = a pass on drawn rows, odd = an update. */
static void run_op(struct trainer *tr, int k) {
    struct err err = {0};
    struct result r = {0};
    uint32_t tokens[3][21], targets[3][21];
    struct datum d[3] = {{0}};
    if (k % 2) {
        struct op_optim o = {1e-2, 0.9, 0.95, 1e-8, 0.1, 1.0};
        ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
        result_release(&r);
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        d[i].n = 5 + 8 * i;
        d[i].k = 1;
        d[i].tokens = tokens[i];
        d[i].targets = targets[i];
        for (uint32_t t = 0; t < d[i].n; t++) {
            tokens[i][t] =
                (uint32_t)(rng_u64(1, (uint64_t)k, i * 50 + t) % 257);
            targets[i][t] =
                (uint32_t)(rng_u64(2, (uint64_t)k, i * 50 + t) % 257);
        }
    }
    struct op_pass p = {.loss = LOSS_CROSS_ENTROPY,
                        .clip_low = NAN,
                        .clip_high = NAN,
                        .beta = NAN,
                        .n = 3,
                        .datums = d};
    ck_assert_int_eq(trainer_pass(tr, &p, true, &r, &err), 0);
    result_release(&r);
}

static void same_files(const char *a, const char *b) {
    DIR *d = opendir(a);
    int n = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));) {
        struct err err = {0};
        char x[65], y[65];
        if (e->d_name[0] == '.')
            continue;
        char *pa = fs_path("%s/%s", a, e->d_name);
        char *pb = fs_path("%s/%s", b, e->d_name);
        ck_assert_int_eq(fs_sha256_file(pa, x, &err), 0);
        ck_assert_msg(fs_sha256_file(pb, y, &err) == 0, "%s", err.msg);
        ck_assert_msg(strcmp(x, y) == 0, "%s differs", e->d_name);
        free(pa);
        free(pb);
        n++;
    }
    closedir(d);
    ck_assert_int_ge(n, 3);
}

static char *path_of(const char *name, int k) {
    return fs_path("%s/%s-%d", dir, name, k);
}

static void save(struct trainer *tr, const char *path) {
    struct err err = {0};
    int64_t bytes = 0;
    ck_assert_msg(ckpt_save(path, tr, CKPT_STATE, 7, &bytes, &err) == 0, "%s",
                  err.msg);
    ck_assert_int_gt(bytes, 1000);
}

/* _i: family * 2 + (0 LoRA, 1 full). */
START_TEST(state_resumed_at_any_op_ends_in_the_same_bytes) {
    struct err err = {0};
    uint32_t rank = _i % 2 ? 0 : 4;
    open_model(families[_i / 2]);
    char *calm = path_of("calm", 0);
    struct trainer *tr = new_trainer(rank);
    for (int k = 0; k < 2 * STEPS; k++)
        run_op(tr, k);
    save(tr, calm);
    trainer_free(tr);
    for (int cut = 0; cut <= 2 * STEPS; cut++) {
        char *snap = path_of("snap", cut), *end = path_of("end", cut);
        tr = new_trainer(rank);
        for (int k = 0; k < cut; k++)
            run_op(tr, k);
        save(tr, snap);
        trainer_free(tr);
        tr = new_trainer(rank);
        ck_assert_msg(ckpt_load(snap, tr, true, &err) == 0, "%s", err.msg);
        for (int k = cut; k < 2 * STEPS; k++)
            run_op(tr, k);
        save(tr, end);
        same_files(calm, end);
        trainer_free(tr);
        free(snap);
        free(end);
    }
    free(calm);
}
END_TEST

START_TEST(sampler_of_a_checkpoint_has_the_trainers_logits) {
    struct err err = {0};
    open_model("qwen3");
    for (uint32_t rank = 0; rank <= 4; rank += 4) {
        char *path = path_of("c", (int)rank);
        struct trainer *tr = new_trainer(rank);
        for (int k = 0; k < 4; k++)
            run_op(tr, k);
        save(tr, path);
        struct ckpt_policy *cp = ckpt_open(path, model, kern, &err);
        ck_assert_msg(cp != NULL, "%s", err.msg);
        int32_t ids[6] = {1, 2, 3, 4, 5, 6}, start[2] = {0, 5};
        float a[5], b[5];
        struct policy p[2] = {trainer_policy(tr), ckpt_policy(cp)};
        struct net *net = net_new(model, kern, &err);
        for (int i = 0; i < 2; i++) {
            struct net_batch nb = {5, 1, ids, start};
            struct net_head h = {
                .k = 1, .targets = ids + 1, .logprobs = i ? b : a};
            ck_assert_int_eq(net_pass(net, &p[i], &nb, false, &err), 0);
            ck_assert_int_eq(net_head(net, &p[i], &h, &err), 0);
        }
        ck_assert_mem_eq(a, b, sizeof a);
        net_free(net);
        ckpt_close(cp);
        trainer_free(tr);
        free(path);
    }
}
END_TEST

START_TEST(damaged_checkpoint_is_named_and_changes_nothing) {
    struct err err = {0};
    open_model("qwen3");
    char *path = path_of("c", 0);
    struct trainer *tr = new_trainer(4);
    run_op(tr, 0);
    run_op(tr, 1);
    save(tr, path);
    static const char *const files[] = {
        "adapter_model.safetensors", "optimizer.safetensors", "MANIFEST.json"};
    for (int f = 0; f < 3; f++) {
        char *file = fs_path("%s/%s", path, files[f]);
        size_t len;
        char *good = fs_read(file, 1 << 24, &len, &err);
        for (int kind = 0; kind < 3; kind++) {
            struct err e = {0};
            struct manifest m;
            char *bad = malloc(len);
            memcpy(bad, good, len);
            bad[len / 2] ^= 1;
            if (kind == 2)
                unlink(file);
            else
                fs_write_atomic(file, kind ? good : bad, kind ? len - 9 : len,
                                &e);
            ck_assert_int_eq(ckpt_verify(path, &m, &e), -1);
            ck_assert_msg(strstr(e.msg, files[f]) != NULL, "%s", e.msg);
            struct err e2 = {0};
            ck_assert_int_eq(ckpt_load(path, tr, true, &e2), -1);
            free(bad);
        }
        fs_write_atomic(file, good, len, &err);
        free(good);
        free(file);
    }
    ck_assert_int_eq(ckpt_load(path, tr, true, &err), 0);
    trainer_free(tr);
    free(path);
}
END_TEST

START_TEST(name_that_is_taken_is_kept_or_refused) {
    struct err err = {0};
    int64_t bytes;
    open_model("qwen3");
    char *path = path_of("c", 0);
    struct trainer *tr = new_trainer(4);
    save(tr, path);
    save(tr, path); /* the same state: a replay */
    run_op(tr, 0);
    run_op(tr, 1);
    ck_assert_int_eq(ckpt_save(path, tr, CKPT_STATE, 7, &bytes, &err), -1);
    ck_assert_int_eq(err.code, ERR_EXISTS);
    trainer_free(tr);
    free(path);
}
END_TEST

Suite *ckpt_resume_suite(void) {
    Suite *s = suite_create("checkpoints");
    TCase *tc = tcase_create("resume");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, state_resumed_at_any_op_ends_in_the_same_bytes, 0,
                        8);
    tcase_add_test(tc, sampler_of_a_checkpoint_has_the_trainers_logits);
    tcase_add_test(tc, damaged_checkpoint_is_named_and_changes_nothing);
    tcase_add_test(tc, name_that_is_taken_is_kept_or_refused);
    suite_add_tcase(s, tc);
    return s;
}
