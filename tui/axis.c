/* axis.c - see axis.h. Steps are 1, 2, 2.5 and 5 times a power of ten. */
#include "tui/axis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double NICE[] = {1, 2, 2.5, 5, 10};

double nice_ceil(double v) {
    if (!(v > 0) || !isfinite(v))
        return 1;
    double mag = pow(10, floor(log10(v)));
    for (size_t i = 0; i < sizeof NICE / sizeof *NICE; i++)
        if (NICE[i] * mag >= v * (1 - 1e-12))
            return NICE[i] * mag;
    return 10 * mag;
}

static double warp(enum chart_scale s, double v) {
    switch (s) {
    case CHART_LOG: return v > 0 ? log10(v) : NAN;
    case CHART_SYMLOG: return copysign(log10(1 + fabs(v)), v);
    default: return v;
    }
}

static double unwarp(enum chart_scale s, double u) {
    switch (s) {
    case CHART_LOG: return pow(10, u);
    case CHART_SYMLOG: return copysign(pow(10, fabs(u)) - 1, u);
    default: return u;
    }
}

double axis_pos(const struct axis *a, double v) {
    double lo = warp(a->scale, a->lo), hi = warp(a->scale, a->hi);
    if (isfinite(hi - lo))
        return (warp(a->scale, v) - lo) / (hi - lo);
    /* Halves, so that the widest range does not overflow. */
    return (warp(a->scale, v) / 2 - lo / 2) / (hi / 2 - lo / 2);
}

double axis_value(const struct axis *a, double pos) {
    double lo = warp(a->scale, a->lo), hi = warp(a->scale, a->hi);
    return unwarp(a->scale, lo * (1 - pos) + hi * pos);
}

/* The greatest 1, 2, 5 × 10^k <= v, or the least >= v. */
static double nice_log(double v, bool up) {
    static const double m[] = {1, 2, 5, 10};
    double mag = pow(10, floor(log10(v) + 1e-9));
    if (up) {
        for (int i = 0; i < 4; i++)
            if (m[i] * mag >= v * (1 - 1e-9))
                return m[i] * mag;
        return 10 * mag;
    }
    for (int i = 3; i >= 0; i--)
        if (m[i] * mag <= v * (1 + 1e-9))
            return m[i] * mag;
    return mag;
}

static struct axis nice_linear(enum chart_scale scale, double lo, double hi,
                               int n) {
    struct axis a = {scale, lo, hi};
    double step = nice_ceil((hi / n - lo / n));
    for (int tries = 0; tries < 8; tries++) {
        a.lo = floor(lo / step + 1e-9) * step;
        a.hi = ceil(hi / step - 1e-9) * step;
        if (!(a.lo < a.hi))
            a.hi = a.lo + step;
        if (a.hi / step - a.lo / step <= n + 1e-9)
            break;
        step = nice_ceil(step * 1.01);
    }
    if (!isfinite(a.lo) || !isfinite(a.hi) || !(a.lo < a.hi))
        return (struct axis){scale, lo, hi};
    return a;
}

struct axis axis_nice(enum chart_scale scale, double lo, double hi, int n) {
    n = n < 1 ? 1 : n;
    if (!isfinite(lo) || !isfinite(hi) || lo > hi) {
        lo = 0;
        hi = 1;
    }
    if (scale == CHART_LOG) {
        lo = lo > 1e-300 ? lo : 1e-300;
        hi = hi > lo ? hi : lo;
        struct axis a = {scale, nice_log(lo, false), nice_log(hi, true)};
        if (!(a.lo < a.hi))
            a.hi = a.lo * 10;
        return a;
    }
    if (hi - lo <= fabs(hi) * 1e-12) { /* a constant: room on both sides */
        double pad = hi == 0 ? 1 : fabs(hi) * 0.1;
        lo -= pad;
        hi += pad;
    }
    return nice_linear(scale, lo, hi, n);
}

int chart_ticks(double lo, double hi, int max, double *out, double *step) {
    int n = 0;
    *step = 1;
    if (!(lo < hi) || !isfinite(lo) || !isfinite(hi) || max < 1)
        return 0;
    *step = nice_ceil(hi / max - lo / max);
    for (int tries = 0; tries < 8; tries++) {
        double first = ceil(lo / *step - 1e-9), last = floor(hi / *step + 1e-9);
        if (last - first + 1 <= max) {
            for (double k = first; k <= last && n < max; k++)
                out[n++] = k == 0 ? 0 : k * *step;
            return n;
        }
        *step = nice_ceil(*step * 1.01);
    }
    return 0;
}

/* Decades first, then 2 and 5 between, each only with room around it. */
static int log_ticks(const struct axis *a, int cells, int apart,
                     double out[AXIS_TICKS]) {
    static const double m[] = {1, 5, 2};
    bool has_zero = a->scale == CHART_SYMLOG && a->lo <= 0 && a->hi >= 0;
    int n = 0;
    if (has_zero)
        out[n++] = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int k = -300; k <= 300; k++)
            for (int sign = a->scale == CHART_LOG ? 1 : -1; sign <= 1;
                 sign += 2) {
                double v = sign * m[pass] * pow(10, k);
                bool is_near = v < a->lo * (1 - sign * 1e-9) ||
                               v > a->hi * (1 + sign * 1e-9);
                for (int i = 0; i < n && !is_near; i++)
                    is_near =
                        fabs(axis_pos(a, v) - axis_pos(a, out[i])) * cells <
                        apart;
                if (!is_near && n < AXIS_TICKS)
                    out[n++] = v;
            }
    for (int i = 1; i < n; i++) /* few: insertion sort */
        for (int j = i; j > 0 && out[j] < out[j - 1]; j--) {
            double t = out[j];
            out[j] = out[j - 1];
            out[j - 1] = t;
        }
    return n;
}

int axis_ticks(const struct axis *a, int cells, int apart,
               double out[AXIS_TICKS], double *step) {
    apart = apart > 0 ? apart : 1;
    if (a->scale != CHART_LINEAR) {
        *step = 0; /* each label by its own size */
        return log_ticks(a, cells, apart, out);
    }
    int max = cells / apart + 1;
    max = max > AXIS_TICKS ? AXIS_TICKS : max < 2 ? 2 : max;
    return chart_ticks(a->lo, a->hi, max, out, step);
}

/* Digits behind the point so that multiples of step print exactly. */
static int decimals_of(double step) {
    int d = 0;
    while (d < 9 && fabs(step - round(step)) > 1e-6 * step) {
        step *= 10;
        d++;
    }
    return d;
}

/* "2e-05" as "2e-5", "1.50e+06" as "1.5e6". */
static void tidy_exp(char *s) {
    char *e = strchr(s, 'e'), *p, *q;
    if (!e)
        return;
    for (p = e; p > s && p[-1] == '0' && strchr(s, '.'); p--) {
    }
    if (p > s && p[-1] == '.')
        p--;
    q = e + 1;
    bool is_neg = *q == '-';
    q += *q == '-' || *q == '+';
    while (*q == '0' && q[1])
        q++;
    char tail[16];
    snprintf(tail, sizeof tail, "e%s%s", is_neg ? "-" : "", q);
    memcpy(p, tail, strlen(tail) + 1);
}

void chart_label(double v, double step, char *buf, size_t cap) {
    static const struct {
        double at;
        const char *unit;
    } UNIT[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
    double a = fabs(v);
    step = step > 0 && isfinite(step) ? step : a;
    if (!isfinite(v)) {
        snprintf(buf, cap, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
    } else if (v == 0 && (step < 1e-4 || step >= 1)) {
        snprintf(buf, cap, "0");
    } else if ((a < 1e-3 && step < 1e-3 && a > 0) || a >= 1e13) {
        char t[48];
        int d = a > 0 && step < a
                    ? (int)(floor(log10(a)) - floor(log10(step))) + 1
                    : 1;
        snprintf(t, sizeof t, "%.*e", d < 0 ? 0 : d > 6 ? 6 : d, v);
        tidy_exp(t);
        snprintf(buf, cap, "%s", t);
    } else {
        for (size_t i = 0; i < 3; i++)
            if (a >= UNIT[i].at && step >= UNIT[i].at / 1000) {
                snprintf(buf, cap, "%.*f%s", decimals_of(step / UNIT[i].at),
                         v / UNIT[i].at, UNIT[i].unit);
                return;
            }
        snprintf(buf, cap, "%.*f", decimals_of(step), v);
    }
}

void chart_ema(const double *v, int n, double weight, double *out) {
    double last = 0, bias = 1;
    bool is_constant = true;
    for (int i = 1; i < n && is_constant; i++)
        is_constant = v[i] == v[0];
    for (int i = 0; i < n; i++) {
        out[i] = v[i];
        if (!isfinite(v[i]) || is_constant || !(weight > 0))
            continue;
        last = weight * last + (1 - weight) * v[i];
        bias *= weight;
        out[i] = last / (1 - bias);
    }
}
