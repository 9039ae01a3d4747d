/* prefer: losses of preference pairs. Every loss is a function of two scores,
 * one a side, so one loop carries its slopes to the tokens. */
#include "core/recipe/objective.h"

#include <math.h>
#include <string.h>

/* log s(z), s(z) and max without cancellation or overflow. */
static double log_sigmoid(double z) {
    return z < 0 ? z - log1p(exp(z)) : -log1p(exp(-z));
}
static double sigmoid(double z) {
    return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z));
}

/* Slopes of the loss in the two scores. */
struct slopes {
    double chosen, rejected;
};

/* c, r: sums or averages of lp - ref (or of lp), as the table says. */
typedef double pref_fn(const struct pref_conf *k, double c, double r,
                       struct slopes *d);

static double loss_sigmoid(const struct pref_conf *k, double c, double r,
                           struct slopes *d) {
    double z = k->beta * (c - r), e = k->smoothing;
    d->chosen = k->beta * (e * sigmoid(z) - (1 - e) * sigmoid(-z));
    d->rejected = -d->chosen;
    return -(1 - e) * log_sigmoid(z) - e * log_sigmoid(-z);
}

static double loss_robust(const struct pref_conf *k, double c, double r,
                          struct slopes *d) {
    double z = k->beta * (c - r), e = k->smoothing, f = 1 / (1 - 2 * e);
    d->chosen = -f * k->beta * ((1 - e) * sigmoid(-z) + e * sigmoid(z));
    d->rejected = -d->chosen;
    return f * (-(1 - e) * log_sigmoid(z) + e * log_sigmoid(-z));
}

static double loss_hinge(const struct pref_conf *k, double c, double r,
                         struct slopes *d) {
    double room = 1 - k->beta * (c - r);
    d->chosen = room > 0 ? -k->beta : 0;
    d->rejected = -d->chosen;
    return room > 0 ? room : 0;
}

static double loss_ipo(const struct pref_conf *k, double c, double r,
                       struct slopes *d) {
    double off = c - r - 1 / (2 * k->beta);
    d->chosen = 2 * off;
    d->rejected = -d->chosen;
    return off * off;
}

static double loss_simpo(const struct pref_conf *k, double c, double r,
                         struct slopes *d) {
    double z = k->beta * (c - r) - k->gamma;
    d->chosen = -k->beta * sigmoid(-z);
    d->rejected = -d->chosen;
    return -log_sigmoid(z);
}

/* Log-odds of an average logprob and its slope, which is 0 where it is cut:
 * at 0 it would be infinite. */
static double log_odds(double a, double *slope) {
    double cut = a < -50 ? -50 : a > -1e-6 ? -1e-6 : a;
    *slope = cut == a ? -1 / expm1(a) : 0;
    return cut - log(-expm1(cut));
}

static double loss_orpo(const struct pref_conf *k, double c, double r,
                        struct slopes *d) {
    double dc, dr, z = log_odds(c, &dc) - log_odds(r, &dr);
    d->chosen = -1 - k->lambda * sigmoid(-z) * dc;
    d->rejected = k->lambda * sigmoid(-z) * dr;
    return -c - k->lambda * log_sigmoid(z);
}

struct pref_row {
    const char *name;
    pref_fn *fn;
    bool is_average, has_reference;
};
static const struct pref_row rows[PREF_N] = {
    [PREF_SIGMOID] = {"sigmoid", loss_sigmoid, false, true},
    [PREF_ROBUST] = {"robust", loss_robust, false, true},
    [PREF_HINGE] = {"hinge", loss_hinge, false, true},
    [PREF_IPO] = {"ipo", loss_ipo, true, true},
    [PREF_SIMPO] = {"simpo", loss_simpo, true, false},
    [PREF_ORPO] = {"orpo", loss_orpo, true, false},
};

const char *pref_name(enum pref_loss loss) { return rows[loss].name; }
bool pref_needs_reference(enum pref_loss loss) {
    return rows[loss].has_reference;
}

bool pref_by_name(const char *name, enum pref_loss *loss) {
    for (int i = 0; i < PREF_N; i++)
        if (strcmp(rows[i].name, name) == 0) {
            *loss = (enum pref_loss)i;
            return true;
        }
    return false;
}

static double weight_of(const struct pref_seq *s, size_t t) {
    return s->w ? (double)s->w[t] : 1;
}

/* The score of a side; *per is its slope in a token of weight 1. A token of
 * weight 0 is left out whatever its logprob is. */
static double score(const struct pref_seq *s, const struct pref_row *row,
                    double *per) {
    double sum = 0, weights = 0;
    for (size_t t = 0; t < s->n; t++) {
        double w = weight_of(s, t);
        if (w == 0)
            continue;
        bool ref = row->has_reference && s->ref;
        sum += w * ((double)s->lp[t] - (ref ? (double)s->ref[t] : 0));
        weights += w;
    }
    *per = !row->is_average ? 1 : weights > 0 ? 1 / weights : 0;
    return sum * *per;
}

static void spread(const struct pref_seq *s, double slope) {
    for (size_t t = 0; t < s->n; t++)
        s->dlp[t] = slope * weight_of(s, t);
}

void pref_pair(const struct pref_conf *k, const struct pref_seq *chosen,
               const struct pref_seq *rejected, double scale,
               struct pref_result *out) {
    const struct pref_row *row = &rows[k->loss];
    double pc, pr;
    struct slopes d;
    double c = score(chosen, row, &pc), r = score(rejected, row, &pr);
    out->loss = row->fn(k, c, r, &d);
    out->margin_raw = c - r;
    out->margin = k->beta * (c - r);
    out->chosen_reward = k->beta * c;
    out->rejected_reward = k->beta * r;
    out->is_correct = c > r;
    spread(chosen, scale * d.chosen * pc);
    spread(rejected, scale * d.rejected * pr);
}

double pref_reward(double chosen, double rejected, double *dchosen) {
    *dchosen = -sigmoid(rejected - chosen);
    return -log_sigmoid(chosen - rejected);
}
