/* group: advantages of a prompt's rollouts, the reductions that group
 * objectives differ in, and KL estimators. */
#include "core/recipe/objective.h"

#include <math.h>

void advantages(enum adv_kind kind, const double *reward, size_t n, double eps,
                double *out) {
    double mean = 0, square = 0, scale = 1;
    bool equal = true;
    for (size_t i = 0; i < n; i++) {
        mean += reward[i] / (double)n;
        equal &= reward[i] == reward[0];
    }
    for (size_t i = 0; i < n; i++)
        square += (reward[i] - mean) * (reward[i] - mean);
    if (kind == ADV_GRPO && n > 1)
        scale = 1 / (sqrt(square / (double)(n - 1)) + eps);
    if (kind == ADV_RLOO && n > 1)
        scale = (double)n / (double)(n - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = equal ? 0 : (reward[i] - mean) * scale;
}

static const char *const group_names[GROUP_N] = {
    [GROUP_GRPO] = "grpo",       [GROUP_DAPO] = "dapo", [GROUP_BNPO] = "bnpo",
    [GROUP_DR_GRPO] = "dr_grpo", [GROUP_GSPO] = "gspo",
};
const char *group_name(enum group_kind kind) { return group_names[kind]; }

void group_weights(enum group_kind kind, const double *tokens, size_t n,
                   double max_length, double *w) {
    double all = 0;
    for (size_t i = 0; i < n; i++)
        all += tokens[i];
    for (size_t i = 0; i < n; i++) {
        double by = kind == GROUP_DR_GRPO ? (double)n * max_length
                    : kind == GROUP_DAPO || kind == GROUP_BNPO
                        ? all
                        : (double)n * tokens[i];
        w[i] = by > 0 ? 1 / by : 0;
    }
}

double kl_term(enum kl_kind kind, double p, double ref, double *dp) {
    double d = p - ref;
    switch (kind) {
    case KL_K1: *dp = 1; return d;
    case KL_K2: *dp = d; return d * d / 2;
    default: *dp = -expm1(-d); return expm1(-d) + d;
    }
}
