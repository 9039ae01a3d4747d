/*
 * plan: the memory of a job, class by class, from the configuration and the
 * job's limits; and the memory that there is. Sizes come from the functions
 * that carve the buffers, so that the plan is what happens.
 */
#include "core/model.h"

#include "core/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_MICRO_MOST 4096
#define PLAN_MICRO_LEAST 256
#define PLAN_FILE_MAX (64 << 10)

static const struct {
    const char *name, *help;
} classes[PLAN_CLASSES] = {
    [PLAN_WEIGHTS] = {"weights", "base model as stored, mapped"},
    [PLAN_MASTER] = {"master", "f32 copy that full tuning changes"},
    [PLAN_ADAPTER] = {"adapter", "LoRA's A and B"},
    [PLAN_GRADIENTS] = {"gradients", "f32, of what is trained"},
    [PLAN_OPTIMIZER] = {"optimizer", "AdamW's two moments, f32"},
    [PLAN_ACTIVATIONS] = {"activations", "one micro-batch, for its backward"},
    [PLAN_WORK] = {"work", "head and backward pass"},
    [PLAN_KV] = {"kv cache", "one sequence while sampling"},
};

const char *plan_name(enum plan_class c) { return classes[c].name; }
const char *plan_help(enum plan_class c) { return classes[c].help; }

static int64_t pass_bytes(const struct model *m, int32_t T, int32_t rank) {
    struct net_size z = net_bytes(model_conf(m), T, rank, 1, true);
    return z.keep + z.work;
}

int32_t plan_micro(const struct model *m, int32_t rank, int64_t memory) {
    int32_t T = PLAN_MICRO_MOST;
    while (T > PLAN_MICRO_LEAST && pass_bytes(m, T, rank) > memory / 2)
        T /= 2;
    return T;
}

/* Tables of cos and sin for positions up to a power of two. */
static int64_t rope_bytes(const struct conf *c, int64_t positions) {
    int64_t n = 256;
    while (n < positions)
        n *= 2;
    return n * conf_ropes(c) * c->rot * (int64_t)sizeof(float);
}

void plan_make(const struct model *m, const struct plan_job *job,
               int64_t memory, struct plan *p) {
    const struct conf *c = model_conf(m);
    int32_t R = job->lora.rank;
    int64_t trained = R ? adapter_floats(m, &job->lora) : model_floats(m);
    int64_t head = R || !c->tied ? 0 : (int64_t)c->V * c->C;
    int64_t longest =
        job->max_length < c->max_pos ? job->max_length : c->max_pos;
    memset(p, 0, sizeof *p);
    p->memory = memory;
    p->bytes[PLAN_WEIGHTS] = model_bytes(m);
    p->bytes[R ? PLAN_ADAPTER : PLAN_MASTER] = 4 * trained;
    p->bytes[PLAN_GRADIENTS] = 4 * (trained + head);
    p->bytes[PLAN_OPTIMIZER] = 8 * trained;
    p->bytes[PLAN_KV] =
        ((longest + KERN_PAGE - 1) / KERN_PAGE + 1) * kv_page_bytes(m);
    for (int i = 0; i < PLAN_CLASSES; i++)
        if (i != PLAN_WEIGHTS || R)
            p->total += p->bytes[i];
    int64_t T = plan_micro(m, R, memory - p->total);
    T = T < longest ? longest : T;
    if (job->batch_size <= T / longest)
        T = longest * job->batch_size;
    p->micro = (int32_t)T;
    struct net_size z = net_bytes(c, p->micro, R, 1, true);
    p->bytes[PLAN_ACTIVATIONS] = z.keep;
    p->bytes[PLAN_WORK] = z.work + rope_bytes(c, longest);
    p->total += p->bytes[PLAN_ACTIVATIONS] + p->bytes[PLAN_WORK];
}

/* What makes the most of the total, and can be lowered. */
static const char *plan_advice(const struct plan *p,
                               const struct plan_job *job) {
    int64_t step = p->bytes[PLAN_ACTIVATIONS] + p->bytes[PLAN_WORK];
    if (step > p->total / 2)
        return "lower max_length";
    if (job->lora.rank == 0)
        return "train an adapter (lora_rank=32), or a smaller model";
    if (p->bytes[PLAN_WEIGHTS] > p->total / 2)
        return "use a smaller model";
    return "lower lora_rank";
}

static const char *size_text(int64_t bytes, char out[24]) {
    double mib = (double)bytes / (1 << 20);
    snprintf(out, 24, mib < 1024 ? "%.0f MiB" : "%.1f GiB",
             mib < 1024 ? mib : mib / 1024);
    return out;
}

int plan_check(const struct plan *p, const struct plan_job *job,
               struct err *err) {
    char all[24], state[24], pass[24], have[24];
    if (p->total <= p->memory)
        return 0;
    const int64_t *b = p->bytes;
    size_text(b[PLAN_MASTER] + b[PLAN_ADAPTER] + b[PLAN_GRADIENTS] +
                  b[PLAN_OPTIMIZER],
              state);
    return err_set(err, ERR_NOMEM,
                   "this job takes %s (%s for training state, %s for passes of "
                   "%d tokens) and %s are free: %s",
                   size_text(p->total, all), state,
                   size_text(b[PLAN_ACTIVATIONS] + b[PLAN_WORK], pass),
                   p->micro, size_text(p->memory, have), plan_advice(p, job));
}

/* ---- the memory that there is ---- */

/* The text of a file whose size says nothing; NULL = not there. */
static char *file_text(const char *path) {
    FILE *f = fopen(path, "re");
    char *text = f ? calloc(1, PLAN_FILE_MAX + 1) : NULL;
    if (text && fread(text, 1, PLAN_FILE_MAX, f) == 0)
        text[0] = 0;
    if (f)
        fclose(f);
    return text;
}

/* The number behind `key` (at a line's start) in a file, times unit; -1 when
 * there is none, as in "max". NULL key = the file's first word. */
static int64_t file_number(const char *path, const char *key, int64_t unit) {
    char *text = file_text(path);
    const char *at = text;
    while (at && key && strncmp(at, key, strlen(key)) != 0)
        at = (at = strchr(at, '\n')) ? at + 1 : NULL;
    char *end;
    long long v = -1;
    if (at) {
        at += key ? strlen(key) : 0;
        v = strtoll(at, &end, 10);
        v = end == at || v < 0 || v > INT64_MAX / unit ? -1 : v * unit;
    }
    free(text);
    return v;
}

/* limit - used + what the kernel would give back; INT64_MAX = no limit. */
static int64_t group_left(const char *dir, const char *limit, const char *used,
                          const char *inactive) {
    char *l = fs_path("%s/%s", dir, limit), *u = fs_path("%s/%s", dir, used);
    char *s = fs_path("%s/memory.stat", dir);
    int64_t most = file_number(l, NULL, 1), now = file_number(u, NULL, 1);
    int64_t cache = file_number(s, inactive, 1);
    free(l);
    free(u);
    free(s);
    if (most < 0 || now < 0)
        return INT64_MAX;
    now -= cache > 0 ? cache : 0;
    return most > now ? most - now : 0;
}

/* The least over the group `path` and those above it. */
static int64_t groups_left(const char *mount, char *path, bool is_v2) {
    int64_t least = INT64_MAX;
    for (;;) {
        char *dir = fs_path("%s%s", mount, path);
        int64_t left =
            is_v2 ? group_left(dir, "memory.max", "memory.current",
                               "inactive_file ")
                  : group_left(dir, "memory.limit_in_bytes",
                               "memory.usage_in_bytes", "total_inactive_file ");
        free(dir);
        least = left < least ? left : least;
        char *slash = strrchr(path, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

/* Lines "N:controllers:/path"; version 2 has none and N = 0. */
static int64_t cgroup_left(const char *root) {
    int64_t least = INT64_MAX;
    char *file = fs_path("%s/proc/self/cgroup", root);
    char *text = file_text(file), *next;
    for (char *line = text; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *kind = strchr(line, ':'),
             *path = kind ? strchr(kind + 1, ':') : 0;
        if (!path)
            continue;
        *path++ = 0;
        bool is_v2 = kind[1] == 0;
        if (!is_v2 && strcmp(kind, ":memory") != 0)
            continue;
        char *mount =
            fs_path("%s/sys/fs/cgroup%s", root, is_v2 ? "" : "/memory");
        int64_t left = groups_left(mount, path, is_v2);
        least = left < least ? left : least;
        free(mount);
    }
    free(text);
    free(file);
    return least;
}

int64_t plan_memory_at(const char *root) {
    char *info = fs_path("%s/proc/meminfo", root);
    int64_t free_now = file_number(info, "MemAvailable:", 1024);
    int64_t group = cgroup_left(root);
    free(info);
    if (free_now < 0)
        free_now = INT64_MAX;
    return group < free_now ? group : free_now;
}

/* $FETTLE_MEMORY; INT64_MAX when it is not there or no size. */
static int64_t memory_wanted(void) {
    static const struct {
        char suffix;
        int64_t unit;
    } units[] = {{0, 1}, {'K', 1 << 10}, {'M', 1 << 20}, {'G', 1 << 30}};
    const char *text = getenv("FETTLE_MEMORY");
    char *end;
    long long v = text ? strtoll(text, &end, 10) : -1;
    for (size_t i = 0; v >= 0 && end > text && i < 4; i++)
        if (*end == units[i].suffix && (!*end || !end[1]) &&
            v <= INT64_MAX / units[i].unit)
            return v * units[i].unit;
    return INT64_MAX;
}

int64_t plan_memory(void) {
    int64_t have = plan_memory_at(""), want = memory_wanted();
    return want < have ? want : have;
}
