/*
 * fuzz: a mutating driver for gcc. With -fsanitize-coverage=trace-pc inputs
 * that reach new code join the corpus; without, the seeds are mutated.
 *
 * usage: fuzz TARGET|all [-runs=N] [-seed=S] [-corpus=DIR]
 *        fuzz TARGET FILE...          runs just these inputs
 * An input that ends the process, takes over a second of its CPU, ten of the
 * clock or 2 GB, is written to fuzz-TARGET-crash in the working directory.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifdef FUZZ_LIBFUZZER
#define FUZZ_CAT2(a, b) a##b
#define FUZZ_CAT(a, b) FUZZ_CAT2(a, b)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    return FUZZ_CAT(fuzz_, FUZZ_LIBFUZZER).run(data, len);
}
#else

#define FUZZ_CORPUS 4096
#define FUZZ_EDGES (1u << 16)
#define FUZZ_CPU_S 1    /* of one run: more work than an input is worth */
#define FUZZ_CLOCK_S 10 /* of one run: it waits for something */

#if defined(__GNUC__) && __GNUC__ >= 12
#define NO_COVERAGE __attribute__((no_sanitize_coverage))
#else
#define NO_COVERAGE
#endif
#define NO_CHECKS __attribute__((no_sanitize("address", "undefined")))

struct input {
    uint8_t *data;
    size_t len;
};

/* One process fuzzes one target at a time; signal handlers need it, too. */
static struct {
    const struct fuzz_target *target;
    struct input corpus[FUZZ_CORPUS];
    size_t n;
    const uint8_t *now; /* the input that runs */
    size_t now_len;
    uint8_t edges[FUZZ_EDGES];
    uintptr_t last;
    size_t seen;
    double slowest_ms;
} fz;

void __sanitizer_cov_trace_pc(void);
NO_COVERAGE NO_CHECKS __attribute__((optimize("O2"))) void
__sanitizer_cov_trace_pc(void) {
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    uintptr_t e = (pc ^ fz.last) * 0x9e3779b97f4a7c15u >> 48;
    fz.last = pc >> 1;
    if (!fz.edges[e]) {
        fz.edges[e] = 1;
        fz.seen++;
    }
}

static void save_input(void) {
    char name[64];
    snprintf(name, sizeof name, "fuzz-%s-crash",
             fz.target ? fz.target->name : "none");
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, fz.now, fz.now_len) == (ssize_t)fz.now_len)
        fprintf(stderr, "fuzz: the input is in %s (%zu bytes)\n", name,
                fz.now_len);
    if (fd >= 0)
        close(fd);
}

/* ASan and UBSan end here, CHECK and hangs in on_signal. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*fn)(void));

/* ASan asks for it, before anything else is set up: an input of 64 KB has no
 * use for more memory. */
const char *__asan_default_options(void);
NO_COVERAGE NO_CHECKS const char *__asan_default_options(void) {
    return "hard_rss_limit_mb=2048";
}

static void on_signal(int sig) {
    if (sig == SIGALRM || sig == SIGPROF)
        fprintf(stderr, "fuzz: no end after %d s of %s\n",
                sig == SIGALRM ? FUZZ_CLOCK_S : FUZZ_CPU_S,
                sig == SIGALRM ? "the clock" : "CPU");
    save_input();
    _exit(1);
}

/* Starts or stops the clocks that on_signal answers to. */
static void watch(bool on) {
    struct itimerval t = {.it_value.tv_sec = on ? FUZZ_CPU_S : 0};
    setitimer(ITIMER_PROF, &t, NULL);
    alarm(on ? FUZZ_CLOCK_S : 0);
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void run_one(const uint8_t *data, size_t len) {
    /* An exact copy: one byte too far is out of bounds. */
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, data, len);
    fz.now = exact;
    fz.now_len = len;
    fz.last = 0;
    double start = cpu_ms();
    watch(true);
    fz.target->run(exact, len);
    watch(false);
    double ms = cpu_ms() - start;
    fz.slowest_ms = ms > fz.slowest_ms ? ms : fz.slowest_ms;
    free(exact);
}

static void keep(void *arg, const void *data, size_t len) {
    (void)arg;
    if (fz.n == FUZZ_CORPUS || len > FUZZ_MAX)
        return;
    struct input *i = &fz.corpus[fz.n++];
    i->data = malloc(len + 1);
    i->len = len;
    memcpy(i->data, data, len);
}

static bool read_file(const char *path) {
    static uint8_t data[FUZZ_MAX];
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    keep(NULL, data, fread(data, 1, sizeof data, f));
    fclose(f);
    return true;
}

/* DIR/TARGET/…: inputs that once failed. */
static void read_corpus(const char *dir) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, fz.target->name);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char file[2048];
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.')
            read_file(file);
    }
    if (d)
        closedir(d);
}

static void fuzz(const struct fuzz_target *t, uint64_t runs, uint64_t seed,
                 const char *dir) {
    static uint8_t data[FUZZ_MAX];
    time_t start = time(NULL);
    fz.target = t;
    fz.n = fz.seen = 0;
    fz.slowest_ms = 0;
    memset(fz.edges, 0, sizeof fz.edges);
    t->seeds(keep, NULL);
    if (dir)
        read_corpus(dir);
    size_t first = fz.n;
    for (size_t i = 0; i < first; i++)
        run_one(fz.corpus[i].data, fz.corpus[i].len);
    for (uint64_t r = 0; r < runs; r++) {
        /* the seeds, and rather what was found last */
        uint64_t h = (r + seed) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
        size_t back = (size_t)(h >> 8) % fz.n;
        const struct input *in =
            &fz.corpus[h % 4 ? fz.n - 1 - back % (1 + fz.n / 4) : back];
        const struct input *other = &fz.corpus[(size_t)(h >> 32) % fz.n];
        memcpy(data, in->data, in->len);
        size_t before = fz.seen,
               len = fuzz_mutate(data, in->len, other->data, other->len,
                                 t->words, seed, r);
        run_one(data, len);
        if (fz.seen > before)
            keep(NULL, data, len);
    }
    printf("fuzz %-12s %llu runs, %zu inputs kept, %zu edges, %ld s, slowest "
           "%.0f ms\n",
           t->name, (unsigned long long)runs, fz.n - first, fz.seen,
           (long)(time(NULL) - start), fz.slowest_ms);
    fflush(stdout);
    for (size_t i = 0; i < fz.n; i++)
        free(fz.corpus[i].data);
}

static const char *option(int argc, char **argv, const char *name,
                          const char *dflt) {
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], name, strlen(name)) == 0)
            return argv[i] + strlen(name);
    return dflt;
}

int main(int argc, char **argv) {
    const struct fuzz_target *t = argc > 1 ? fuzz_find(argv[1]) : NULL;
    if (!t && (argc < 2 || strcmp(argv[1], "all") != 0)) {
        fprintf(stderr, "usage: fuzz TARGET|all [-runs=N] [-seed=S] "
                        "[-corpus=DIR] | fuzz TARGET FILE...\ntargets:");
        for (int i = 0; fuzz_targets[i]; i++)
            fprintf(stderr, " %s", fuzz_targets[i]->name);
        fprintf(stderr, "\n");
        return 64;
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    signal(SIGPROF, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(save_input);
    if (t && argc > 2 && argv[2][0] != '-') {
        fz.target = t;
        for (int i = 2; i < argc; i++)
            if (!read_file(argv[i])) {
                fprintf(stderr, "fuzz: %s cannot be read\n", argv[i]);
                return 66;
            }
        for (size_t i = 0; i < fz.n; i++) {
            run_one(fz.corpus[i].data, fz.corpus[i].len);
            free(fz.corpus[i].data);
        }
        printf("%zu inputs\n", fz.n);
        return 0;
    }
    uint64_t runs = strtoull(option(argc, argv, "-runs=", "10000"), NULL, 10);
    uint64_t seed = strtoull(option(argc, argv, "-seed=", "1"), NULL, 10);
    const char *dir = option(argc, argv, "-corpus=", NULL);
    for (int i = 0; fuzz_targets[i]; i++)
        if (!t || t == fuzz_targets[i])
            fuzz(fuzz_targets[i], runs, seed, dir);
    return 0;
}
#endif
