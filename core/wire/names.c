/* names: the words that wire's enums have outside the program. */
#include "core/wire.h"

#include <string.h>

static const char *const op_names[OP_N] = {
    [OP_CREATE] = "create",
    [OP_FORWARD] = "forward",
    [OP_FORWARD_BACKWARD] = "forward_backward",
    [OP_OPTIM_STEP] = "optim_step",
    [OP_SAVE] = "save",
    [OP_LOAD] = "load",
    [OP_SAMPLE] = "sample",
    [OP_LOGPROBS] = "logprobs",
};

static const char *const loss_names[LOSS_N] = {
    [LOSS_CROSS_ENTROPY] = "cross_entropy",
    [LOSS_IMPORTANCE_SAMPLING] = "importance_sampling",
    [LOSS_PPO] = "ppo",
    [LOSS_CISPO] = "cispo",
    [LOSS_DRO] = "dro",
    [LOSS_GSPO] = "gspo",
};

static const char *const tuning_names[TUNES] = {
    [TUNE_FP32] = "fp32",
    [TUNE_BF16] = "bf16",
};

static const char *const ckpt_kind_names[CKPT_KINDS] = {
    [CKPT_STATE] = "state",
    [CKPT_SAMPLER] = "sampler",
};

static const char *const stop_names[] = {
    [STOP_LENGTH] = "length",
    [STOP_TOKEN] = "stop",
    [STOP_STRING] = "stop",
    [STOP_CANCELED] = "canceled",
};

static const char *const precision_names[PRECISION_N] = {
    [PRECISION_EXACT] = "exact",
    [PRECISION_Q8] = "q8",
    [PRECISION_Q4] = "q4",
};

#define NAME_OF(table, i) \
    ((size_t)(i) < sizeof(table) / sizeof *(table) ? (table)[i] : "unknown")

const char *op_kind_name(enum op_kind kind) { return NAME_OF(op_names, kind); }
const char *loss_name(enum loss_kind kind) { return NAME_OF(loss_names, kind); }

const char *tuning_name(enum tuning t) { return NAME_OF(tuning_names, t); }

const char *ckpt_kind_name(enum ckpt_kind kind) {
    return NAME_OF(ckpt_kind_names, kind);
}

const char *stop_reason_name(enum stop_reason r) {
    return NAME_OF(stop_names, r);
}

const char *precision_name(enum precision p) {
    return NAME_OF(precision_names, p);
}

int precision_by_name(const char *name) {
    for (int i = 0; i < PRECISION_N; i++)
        if (strcmp(precision_names[i], name) == 0)
            return i;
    return -1;
}
