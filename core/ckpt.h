/*
 * ckpt - checkpoint directories: written whole or not at all, verified before
 * anything of them is used, the same bytes for the same state.
 *
 * LoRA:        adapter_config.json, adapter_model.safetensors (PEFT, f32)
 * full tuning: config.json, model.safetensors (HF names, f32), and copies of
 *              the base's tokenizer and generation files
 * kind state:  optimizer.safetensors beside them (m.*, v.*, pending grad.*)
 * always:      MANIFEST.json: what it is, and size and SHA-256 of every file;
 *              its last line is the SHA-256 of the lines above.
 * No times and no run numbers, so equal runs give equal directories.
 *
 *     ckpt_save(dir, tr, CKPT_STATE, step, seq, &bytes, &err);
 *     struct manifest m;
 *     ckpt_verify(dir, &m, &err);      // every byte
 *     ckpt_load(dir, tr, true, &err);  // verifies, then all or nothing
 */
#ifndef FETTLE_CORE_CKPT_H
#define FETTLE_CORE_CKPT_H

#include "core/train.h"

struct manifest {
    enum ckpt_kind kind;
    char base[WIRE_NAME_MAX];     /* base model's registered name */
    char renderer[WIRE_NAME_MAX]; /* of its chats, "" = not told */
    uint64_t step;                /* optimizer steps behind the weights */
    uint64_t seq;                 /* op that saved it, 0 = unknown */
    uint32_t lora_rank;           /* 0 = full weights */
    float lora_alpha;
    uint64_t seed;
    bool train_attn, train_mlp, train_unembed;
    enum tuning tuning; /* bf16: a state has its master's low words */
    int64_t bytes;      /* of all files, the manifest included */
};

/* Commits state(tr) as directory `path`. When a verified directory with the
 * same manifest is there already it is kept (a replay); another one is
 * EXISTS. NOSPACE leaves nothing behind. */
int ckpt_save(const char *path, struct trainer *tr, enum ckpt_kind kind,
              uint64_t seq, int64_t *bytes, struct err *err);

/* Reads the manifest and checks sizes and hashes of all files. */
int ckpt_verify(const char *path, struct manifest *m, struct err *err);

/* Verifies, then replaces tr's weights (and optimizer, from a state). The
 * checkpoint must be of the same shape: rank and targets. */
int ckpt_load(const char *path, struct trainer *tr, bool optimizer,
              struct err *err);
/* The create op that a checkpoint's trainer has. */
struct op_create ckpt_create(const struct manifest *m);

/* For sampling: weights of a checkpoint over its base. */
struct ckpt_policy;
struct ckpt_policy *ckpt_open(const char *path, const struct model *base,
                              struct kern *k, struct err *err);
void ckpt_close(struct ckpt_policy *p);
struct policy ckpt_policy(const struct ckpt_policy *p);
const char *ckpt_renderer(const struct ckpt_policy *p); /* "" = not told */
/* The renderer of a checkpoint's manifest, "" when there is none or it tells
 * nothing; free() it. Other files are not looked at. */
char *ckpt_renderer_of(const char *path);

enum ckpt_export { EXPORT_PEFT, EXPORT_HF };
/* A directory for others: PEFT's adapter, or a complete HF model (an adapter
 * merged into its base), f32 or rounded to bf16. Refuses to replace `out`. */
int ckpt_export(const char *path, const char *base_dir, enum ckpt_export as,
                bool is_bf16, const char *out, struct err *err);

#endif
