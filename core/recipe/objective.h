/*
 * objective - losses of whole sequences as functions of token logprobs, with
 * their gradients: pairs of a preference, groups of rollouts, KL terms and
 * advantages (spec/recipes.md §4, §5). Pure: no allocation, no I/O; any
 * thread. Arithmetic in double.
 *
 * The service sums token losses (core/wire.h), so a recipe gets an objective
 * by what it sends: a preference loss as cross_entropy with weights = -dloss
 * of the logprobs (forward_backward_custom), a group objective as ppo or gspo
 * with advantages scaled by group_weights():
 *
 *     advantages(ADV_GRPO, reward, n, eps, A);
 *     group_weights(GROUP_DAPO, seq, n, max_length, w);
 *     // advantage of token t of sequence i: A[i] * w[i] where mask[t], else 0
 */
#ifndef FETTLE_CORE_RECIPE_OBJECTIVE_H
#define FETTLE_CORE_RECIPE_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>

/* ---- preferences ---- */

enum pref_loss {
    PREF_SIGMOID, /* -(1-e) log s(z) - e log s(-z), z = beta * margin */
    PREF_ROBUST,  /* (-(1-e) log s(z) + e log s(-z)) / (1 - 2e) */
    PREF_HINGE,   /* max(0, 1 - z) */
    PREF_IPO,     /* (margin - 1/(2 beta))^2, margin of averages a token */
    PREF_SIMPO,   /* -log s(beta (c - r) - gamma), averages, no reference */
    PREF_ORPO,    /* -c - lambda log s(odds(c) - odds(r)), averages, no
                     reference; odds(a) = a - log(1 - exp a) */
    PREF_N
};
const char *pref_name(enum pref_loss loss); /* "sigmoid" */
bool pref_by_name(const char *name, enum pref_loss *loss);
bool pref_needs_reference(enum pref_loss loss); /* see struct pref_seq.ref */

struct pref_conf {
    enum pref_loss loss;
    double beta;
    double smoothing; /* e of sigmoid and robust, 0 to 0.5 */
    double gamma;     /* simpo */
    double lambda;    /* orpo */
};

/* One side of a pair. A token counts with its weight; the score is the
 * weighted sum, and an average is over the sum of weights. */
struct pref_seq {
    size_t n;
    const float *lp;  /* (n) of the policy */
    const float *ref; /* (n) of the reference; NULL = not wanted */
    const float *w;   /* (n), NULL = all 1 */
    double *dlp;      /* (n) out: dloss/dlp */
};

struct pref_result {
    double loss;
    double margin_raw, margin;             /* margin = beta * margin_raw */
    double chosen_reward, rejected_reward; /* beta * (policy - reference) */
    bool is_correct;                       /* margin > 0, strictly */
};

/* The loss of one pair; `scale`, usually 1/pairs, multiplies dlp only. */
void pref_pair(const struct pref_conf *c, const struct pref_seq *chosen,
               const struct pref_seq *rejected, double scale,
               struct pref_result *out);
/* Bradley-Terry on two rewards: -log s(c - r), and its slope in c. */
double pref_reward(double chosen, double rejected, double *dchosen);

/* ---- groups ---- */

enum adv_kind {
    ADV_CENTRED, /* R - mean */
    ADV_GRPO,    /* (R - mean) / (std + eps), std with n - 1; 0 when all are
                    equal */
    ADV_RLOO,    /* (R - mean) * n / (n - 1) */
    ADV_N
};
/* Advantages of one prompt's n rewards. */
void advantages(enum adv_kind kind, const double *reward, size_t n, double eps,
                double *out);

enum group_kind {
    GROUP_GRPO,    /* mean over sequences of the mean over tokens */
    GROUP_DAPO,    /* mean over the tokens of the whole batch */
    GROUP_BNPO,    /* the same, of the local batch */
    GROUP_DR_GRPO, /* sum over (sequences * max_length) */
    GROUP_GSPO,    /* as grpo, for the loss gspo instead of ppo */
    GROUP_N
};
const char *group_name(enum group_kind kind); /* "dr_grpo" */
/* Weights of the sequences: tokens[i] of sequence i count. */
void group_weights(enum group_kind kind, const double *tokens, size_t n,
                   double max_length, double *w);

/* ---- KL to a reference, per token ---- */

enum kl_kind {
    KL_K1, /* p - ref */
    KL_K2, /* (p - ref)^2 / 2 */
    KL_K3, /* exp(ref - p) - (ref - p) - 1 */
    KL_N
};
double kl_term(enum kl_kind kind, double p, double ref, double *dp);

#endif
