/* fmt: numbers and states as the screen shows them. */
#include "views/app_int.h"

#include "core/clock.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

int64_t id_of(const char *text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return (int64_t)(h >> 2) + 1;
}

void fmt_bytes(int64_t n, char *buf, size_t cap) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)n;
    int u = 0;
    for (; v >= 1000 && u < 4; u++)
        v /= 1000;
    snprintf(buf, cap, u && v < 10 ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

void fmt_secs(double s, char *buf, size_t cap) {
    if (!isfinite(s) || s < 0)
        snprintf(buf, cap, "-");
    else if (s < 100)
        snprintf(buf, cap, "%.0fs", s);
    else if (s < 6000)
        snprintf(buf, cap, "%.0fm", s / 60);
    else if (s < 172800)
        snprintf(buf, cap, "%.0fh%02.0f", floor(s / 3600),
                 floor(fmod(s, 3600) / 60));
    else
        snprintf(buf, cap, "%.0fd", s / 86400);
}

void fmt_age(int64_t us, char *buf, size_t cap) {
    fmt_secs(us ? (double)(clock_wall_us() - us) / 1e6 : -1, buf, cap);
}

void fmt_num(double v, char *buf, size_t cap) {
    double m = fabs(v);
    if (isnan(v))
        snprintf(buf, cap, "-");
    else if (isinf(v))
        snprintf(buf, cap, v > 0 ? "inf" : "-inf");
    else if (m >= 10000)
        snprintf(buf, cap, "%.1fk", v / 1000);
    else if (m != 0 && m < 1e-3)
        snprintf(buf, cap, "%.1e", v);
    else /* five digits */
        snprintf(buf, cap, "%.*f",
                 m >= 1000  ? 1
                 : m >= 100 ? 2
                 : m >= 10  ? 3
                            : 4,
                 v);
}

const char *state_word(enum store_run_state s, enum role *r, const char **g) {
    static const struct {
        const char *word, *glyph;
        enum role role;
    } rows[STORE_RUN_STATES] = {
        [STORE_RUN_QUEUED] = {"WAIT", "◌", ROLE_DIM},
        [STORE_RUN_RUNNING] = {"RUN", "●", ROLE_OK},
        [STORE_RUN_PAUSED] = {"PAUSE", "‖", ROLE_WARN},
        [STORE_RUN_DONE] = {"DONE", " ", ROLE_TEXT},
        [STORE_RUN_FAILED] = {"FAIL", "✗", ROLE_BAD},
        [STORE_RUN_KILLED] = {"KILL", "-", ROLE_DIM},
    };
    *r = rows[s].role;
    *g = rows[s].glyph;
    return rows[s].word;
}

const struct job_row *job_of(const struct snap *s, int64_t run) {
    for (int i = 0; i < s->runs.n; i++)
        if (s->runs.row[i].id == run)
            return &s->jobs[i];
    return NULL;
}

const struct snap_curve *curve_of(const struct snap *s, const char *name) {
    for (int i = 0; i < s->n_curves; i++)
        if (strcmp(s->curves[i].series->name, name) == 0)
            return &s->curves[i];
    return NULL;
}
