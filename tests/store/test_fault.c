/* What the store promises when processes die, disks fail and files rot. */
#include "store/db.h"
#include "tests/store/home.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct home h;

static void setup(void) { home_make(&h); }
static void teardown(void) { home_release(&h); }

static int64_t mono_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void complain(void *arg, const char *finding) {
    (void)arg;
    ck_abort_msg("%s", finding);
}

static int open_writer(struct store **st) {
    return store_open(st, &(struct store_opts){.dir = h.dir,
                                               .mode = STORE_WRITE,
                                               .any_fs = true});
}

/* ---- kill -9 ---- */

/* A training loop seen from the store: one transaction a step with points,
 * cursor and an op, large now and then; each acknowledged step is told. */
static int one_step(struct store *st, int64_t step) {
    static const char *const names[] = {"loss", "lr", "tok"};
    static char big[(1 << 20) + 1];
    struct store_point p[3];
    struct store_op op = {.model = "m1", .seq = step};
    for (int i = 0; i < 3; i++)
        p[i] = (struct store_point){
            .name = names[i], .step = step, .value = (double)step + i};
    op.payload = big;
    op.payload_len = step % 16 == 5 ? sizeof big : 200;
    int rc = store_begin(st);
    if (rc == 0)
        rc = store_op_put(st, &op, NULL);
    if (rc == 0)
        rc = store_points_add(st, 1, p, 3);
    if (rc == 0)
        rc = store_run_advance(st, 1, step + 1, 0);
    if (rc == 0 && step % 8 == 7) {
        struct store_result done = {.status = STORE_OP_DONE};
        for (int64_t s = step - 7; s <= step && rc == 0; s++)
            rc = store_op_result(st, "m1", s, &done, 0);
        if (rc == 0)
            rc = store_snapshot_commit(st, "m1", step, "snap");
    }
    if (rc == 0)
        return store_commit(st);
    store_rollback(st);
    return rc;
}

/* Recovers, goes on from the cursor, never returns. Exits 0 when killed
 * between, 9 on an error. */
static void child(int fd) {
    struct store *st;
    struct store_runs r;
    uint8_t sha[STORE_SHA_LEN] = {0};
    char id[STORE_NAME_MAX];
    int64_t run, step = 0;
    if (open_writer(&st) < 0)
        _exit(9);
    if (store_run_get(st, 1, &r) == 0)
        step = r.row[0].cursor;
    else if (store_begin(st) < 0 ||
             store_run_add(st, &(struct store_run){.recipe = "sft"}, &run) <
                 0 ||
             store_tmodel_add(st, 1, "base", sha, 0, id) < 0 ||
             store_commit(st) < 0)
        _exit(9);
    store_runs_free(&r);
    for (;; step++)
        if (one_step(st, step) < 0 ||
            write(fd, &step, sizeof step) != sizeof step)
            _exit(9);
}

/* The last step that was acknowledged, -1 = none. */
static int64_t kill_one(uint64_t *seed) {
    int fd[2], status;
    int64_t acked = -1, v;
    ck_assert_int_eq(pipe(fd), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        close(fd[0]);
        child(fd[1]);
    }
    close(fd[1]);
    int64_t end = mono_us() + 200 + (int64_t)(home_rand(seed) % 18000);
    while (mono_us() < end) {
        struct pollfd p = {.fd = fd[0], .events = POLLIN};
        if (poll(&p, 1, 1) > 0 && read(fd[0], &v, sizeof v) == sizeof v)
            acked = v;
    }
    kill(pid, SIGKILL);
    while (read(fd[0], &v, sizeof v) == sizeof v)
        acked = v;
    close(fd[0]);
    waitpid(pid, &status, 0);
    ck_assert_msg(WIFSIGNALED(status), "the writer failed: %d", status);
    return acked;
}

/* Everything up to the cursor is there, nothing beyond, no gap. */
static int64_t check_prefix(bool full) {
    struct store_runs r;
    struct store_series_list s;
    struct store_tmodels t;
    struct store *st = home_open(&h, STORE_WRITE);
    int64_t cursor = 0;
    if (store_run_get(st, 1, &r) == 0) {
        cursor = r.row[0].cursor;
        ok(st, store_series_list(st, 1, &s));
        ck_assert_int_eq(s.n, cursor > 0 ? 3 : 0);
        for (int i = 0; i < s.n; i++) {
            ck_assert_int_eq(s.row[i].n, cursor);
            ck_assert_int_eq(s.row[i].last_step, cursor - 1);
        }
        store_series_list_free(&s);
        ok(st, store_tmodel_get(st, "m1", &t));
        ck_assert_int_eq(t.row[0].next_seq, cursor);
        ck_assert_int_eq(t.row[0].snapshot_seq, cursor / 8 * 8 - 1);
        store_tmodels_free(&t);
    }
    store_runs_free(&r);
    ok(st, store_check(st, full, complain, NULL));
    store_close(st);
    return cursor;
}

START_TEST(nothing_acknowledged_is_lost_by_kill_9) {
    uint64_t seed = 1;
    const char *asked = getenv("FETTLE_TEST_KILLS"); /* for a campaign */
    int kills = asked ? (int)strtol(asked, NULL, 10) : 100, most = 0;
    int64_t last = 0, acked = -1;
    for (int i = 0; i < kills; i++) {
        int64_t told = kill_one(&seed);
        acked = told > acked ? told : acked;
        if (i % 10 != 9 && i != kills - 1)
            continue; /* kill recovery too: only now and then look */
        int64_t cursor = check_prefix(i % 50 == 49);
        ck_assert_msg(cursor > acked && cursor >= last,
                      "kill %d: acknowledged %lld, have %lld", i,
                      (long long)acked, (long long)cursor);
        last = cursor;
        most++;
    }
    printf("store: %d kills, %lld steps, %d checks, nothing lost\n", kills,
           (long long)last, most);
}
END_TEST

/* ---- readers beside the writer ---- */

/* Reads like a screen until the parent goes; every answer must be whole. */
static void reader_child(int fd) {
    struct store *st;
    struct store_curve c;
    struct store_runs r;
    int64_t reads = 0, last = 0;
    char stop;
    if (store_open(&st, &(struct store_opts){
                            .dir = h.dir, .read_ms = 200, .any_fs = true}) < 0)
        _exit(9);
    while (read(fd, &stop, 1) != 0) {
        if (store_run_get(st, 1, &r) < 0)
            _exit(8);
        int64_t cursor = r.row[0].cursor, n = 0;
        store_runs_free(&r);
        if (cursor == 0)
            continue;
        if (store_series_read(st, 1, "loss", 0, INT64_MAX, 80, &c) < 0)
            _exit(7);
        for (int i = 0; i < c.n; i++)
            n += c.row[i].n;
        store_curve_free(&c);
        if (n < cursor || cursor < last)
            _exit(6); /* a gap, or time went back */
        last = cursor;
        reads++;
    }
    store_close(st);
    _exit(reads > 0 ? 0 : 5);
}

START_TEST(readers_never_stop_the_writer_nor_see_half_a_step) {
    enum { READERS = 4, STEPS = 600 };
    int fd[2], status;
    uint8_t sha[STORE_SHA_LEN] = {0};
    char id[STORE_NAME_MAX];
    pid_t pid[READERS];
    ck_assert_int_eq(pipe2(fd, O_NONBLOCK), 0);
    h.st = home_open(&h, STORE_WRITE);
    home_run(&h, "r");
    ok(h.st, store_tmodel_add(h.st, 1, "base", sha, 0, id));
    store_close(h.st); /* no handle crosses the fork */
    h.st = NULL;
    for (int i = 0; i < READERS; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            close(fd[1]);
            reader_child(fd[0]);
        }
    }
    h.st = home_open(&h, STORE_WRITE);
    int64_t worst = 0, t0 = mono_us();
    for (int i = 0; i < STEPS || mono_us() - t0 < 500000; i++) {
        int64_t t = mono_us();
        ok(h.st, one_step(h.st, i));
        t = mono_us() - t;
        worst = t > worst ? t : worst;
    }
    close(fd[1]);
    for (int i = 0; i < READERS; i++) {
        waitpid(pid[i], &status, 0);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                      "reader %d ended with %d", i, WEXITSTATUS(status));
    }
    close(fd[0]);
    printf("store: worst commit beside %d readers %.1f ms\n", READERS,
           (double)worst / 1e3);
}
END_TEST

START_TEST(the_log_flows_back_while_readers_come_and_go) {
    char path[256];
    struct stat s;
    struct store_runs r;
    uint8_t sha[STORE_SHA_LEN] = {0};
    char id[STORE_NAME_MAX];
    h.st = home_open(&h, STORE_WRITE);
    home_run(&h, "r");
    ok(h.st, store_tmodel_add(h.st, 1, "base", sha, 0, id));
    struct store *st = home_open(&h, STORE_READ);
    for (int i = 0; i < 2000; i++) {
        ok(h.st, one_step(h.st, i));
        ok(st, store_run_get(st, 1, &r));
        store_runs_free(&r);
    }
    home_path(&h, "store.db-wal", path);
    ck_assert_int_eq(stat(path, &s), 0);
    ck_assert_int_lt(s.st_size, 32 << 20);
    store_close(st);
    store_close(h.st);
    h.st = NULL;
    ck_assert_int_eq(stat(path, &s), -1);
}
END_TEST

/* ---- rot ---- */

static void fill(int steps) {
    uint8_t sha[STORE_SHA_LEN] = {0};
    char id[STORE_NAME_MAX];
    h.st = home_open(&h, STORE_WRITE);
    home_run(&h, "r");
    ok(h.st, store_tmodel_add(h.st, 1, "base", sha, 0, id));
    for (int i = 0; i < steps; i++)
        ok(h.st, one_step(h.st, i));
    store_close(h.st);
    h.st = NULL;
}

static void damage(const char *name, off_t at, const void *p, size_t len) {
    char path[256];
    home_path(&h, name, path);
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, p, len, at), (ssize_t)len);
    close(fd);
}

static off_t size_of(const char *name) {
    char path[256];
    struct stat s;
    home_path(&h, name, path);
    return stat(path, &s) == 0 ? s.st_size : -1;
}

static void count(void *arg, const char *finding) {
    (void)finding;
    ++*(int *)arg;
}

/* Everything a screen asks, the way it asks it. */
static int read_all(struct store *st) {
    struct store_runs r;
    struct store_series_list s;
    struct store_curve c;
    struct store_points p;
    struct store_ops o;
    int rc = store_runs(st, &(struct store_run_query){0}, &r);
    store_runs_free(&r);
    if (rc == 0)
        rc = store_series_list(st, 1, &s);
    if (rc < 0)
        return rc;
    store_series_list_free(&s);
    for (int i = 0; i < 3 && rc == 0; i++) {
        static const char *const names[] = {"loss", "lr", "tok"};
        rc = store_series_read(st, 1, names[i], 0, INT64_MAX, 20, &c);
        store_curve_free(&c);
        if (rc == 0)
            rc = store_points(st, 1, names[i], -1, 1000, &p);
        if (rc == 0)
            store_points_free(&p);
    }
    for (int i = 0; i < 40 && rc == 0; i += 3) {
        rc = store_op_get(st, "m1", i, &o);
        store_ops_free(&o);
    }
    return rc;
}

START_TEST(a_damaged_page_is_reported_and_never_written) {
    static const char zero[4096];
    int findings = 0, reported = 0;
    fill(400);
    off_t pages = size_of("store.db") / 4096;
    ck_assert_int_gt(pages, 20);
    for (off_t page = 1; page < pages; page += 1 + pages / 25) {
        char path[256], name[256], keep[4096];
        home_path(&h, "store.db", path);
        int fd = open(path, O_RDWR);
        ck_assert_int_eq(pread(fd, keep, 4096, page * 4096), 4096);
        damage("store.db", page * 4096, zero, 4096);
        struct store *st;
        int rc =
            store_open(&st, &(struct store_opts){.dir = h.dir, .any_fs = true});
        if (rc == 0)
            rc = read_all(st);
        if (rc < 0) {
            reported++;
            ck_assert_int_eq(rc, STORE_CORRUPT);
            ck_assert_msg(strstr(store_errmsg(st), path), "%s",
                          store_errmsg(st));
        }
        store_close(st);
        st = NULL;
        findings = 0;
        if (open_writer(&st) == 0) {
            rc = store_check(st, true, count, &findings);
            ck_assert(rc == STORE_OK || rc == STORE_CORRUPT);
            ck_assert(rc == STORE_OK || findings > 0);
        } else {
            findings++;
        }
        store_close(st);
        snprintf(name, sizeof name, "page %lld of %lld", (long long)page,
                 (long long)pages);
        char now[4096];
        ck_assert_int_eq(pread(fd, now, 4096, page * 4096), 4096);
        ck_assert_msg(findings > 0 || memcmp(keep, zero, 4096) == 0,
                      "%s: nobody noticed", name);
        ck_assert_msg(memcmp(now, zero, 4096) == 0, "%s: written", name);
        ck_assert_int_eq(pwrite(fd, keep, 4096, page * 4096), 4096);
        close(fd);
    }
    ck_assert_int_gt(reported, 2);
    h.st = home_open(&h, STORE_WRITE);
    ok(h.st, store_check(h.st, true, complain, NULL));
}
END_TEST

START_TEST(no_damage_crashes_the_store) {
    uint64_t seed = 42;
    char path[256];
    fill(400);
    off_t size = size_of("store.db");
    home_path(&h, "store.db", path);
    char *keep = malloc((size_t)size);
    int fd = open(path, O_RDWR), findings = 0, noticed = 0;
    ck_assert_int_eq(pread(fd, keep, (size_t)size, 0), size);
    for (int i = 0; i < 150; i++) {
        struct store *st;
        for (int k = 0; k <= i % 5; k++) {
            char byte = (char)home_rand(&seed);
            off_t at =
                (off_t)(home_rand(&seed) % (i % 3 ? (uint64_t)size : 4096u));
            ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        }
        if (i % 10 == 9)
            ck_assert_int_eq(
                ftruncate(fd, (off_t)(home_rand(&seed) % (uint64_t)size)), 0);
        int rc =
            store_open(&st, &(struct store_opts){.dir = h.dir, .any_fs = true});
        if (rc == 0)
            rc = read_all(st);
        if (rc == 0)
            rc = store_check(st, true, count, &findings);
        noticed += rc < 0;
        ck_assert(rc <= 0);
        store_close(st);
        ck_assert_int_eq(pwrite(fd, keep, (size_t)size, 0), size);
    }
    printf("store: %d of 150 random damages noticed, no crash\n", noticed);
    close(fd);
    free(keep);
}
END_TEST

START_TEST(a_truncated_file_is_reported) {
    char path[256];
    struct store *st;
    fill(400);
    home_path(&h, "store.db", path);
    ck_assert_int_eq(truncate(path, size_of("store.db") / 2 / 4096 * 4096), 0);
    int findings = 0, rc = open_writer(&st);
    if (rc == 0)
        rc = store_check(st, false, count, &findings);
    ck_assert_int_eq(rc, STORE_CORRUPT);
    ck_assert_ptr_nonnull(strstr(store_errmsg(st), "store.db"));
    store_close(st);
}
END_TEST

START_TEST(an_unclean_start_looks_before_it_writes) {
    static const char zero[4096];
    char path[256], wal[256];
    struct store *st;
    fill(400);
    h.st = home_open(&h, STORE_WRITE);
    home_run(&h, "in the log");
    /* The log as a crash leaves it, beside a file with a bad page. */
    home_path(&h, "store.db-wal", path);
    home_path(&h, "wal.kept", wal);
    ck_assert_int_eq(link(path, wal), 0);
    off_t size = size_of("store.db-wal");
    char *log = malloc((size_t)size);
    int fd = open(wal, O_RDONLY);
    ck_assert_int_eq(read(fd, log, (size_t)size), size);
    close(fd);
    store_close(h.st);
    h.st = NULL;
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    ck_assert_int_eq(write(fd, log, (size_t)size), size);
    close(fd);
    free(log);
    for (off_t page = 20; page < 60; page++)
        damage("store.db", page * 4096, zero, 4096);
    ck_assert_int_eq(open_writer(&st), STORE_CORRUPT);
    ck_assert_ptr_nonnull(strstr(store_errmsg(st), "fettle doctor"));
    ck_assert_int_eq(store_ui_set(st, "a", "1"), STORE_CORRUPT);
    store_close(st);
    ck_assert_int_eq(size_of("store.db-wal"), size);
}
END_TEST

/* ---- a disk that fails: SQLite's own file layer with a fuse ---- */

struct fuse {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    sqlite3_io_methods io[4]; /* copies of the kinds met, two methods changed */
    const sqlite3_io_methods *real_io[4];
    int writes_left; /* -1 = never blows */
    int error;       /* what a write or sync gives from then on */
    bool blown;
};

static struct fuse fuse;

static bool fuse_blows(void) {
    if (fuse.writes_left > 0)
        fuse.writes_left--;
    if (fuse.writes_left == 0)
        fuse.blown = true;
    return fuse.writes_left == 0;
}

static const sqlite3_io_methods *real_io(sqlite3_file *f) {
    return fuse.real_io[f->pMethods - fuse.io];
}

static int fuse_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    return fuse_blows() ? fuse.error : real_io(f)->xWrite(f, p, n, at);
}

static int fuse_sync(sqlite3_file *f, int flags) {
    int e = fuse.error == SQLITE_FULL ? SQLITE_IOERR_FSYNC : fuse.error;
    return fuse_blows() ? e : real_io(f)->xSync(f, flags);
}

static int fuse_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f,
                     int flags, int *out) {
    int i = 0;
    (void)vfs;
    int rc = fuse.real->xOpen(fuse.real, name, f, flags, out);
    if (rc != SQLITE_OK || !f->pMethods)
        return rc;
    while (fuse.real_io[i] && fuse.real_io[i] != f->pMethods)
        i++;
    fuse.real_io[i] = f->pMethods;
    fuse.io[i] = *f->pMethods;
    fuse.io[i].xWrite = fuse_write;
    fuse.io[i].xSync = fuse_sync;
    f->pMethods = &fuse.io[i];
    return rc;
}

static void fuse_init(void) {
    fuse.real = sqlite3_vfs_find(NULL);
    fuse.vfs = *fuse.real;
    fuse.vfs.zName = "fuse";
    fuse.vfs.xOpen = fuse_open;
    fuse.writes_left = -1;
    ck_assert_int_eq(sqlite3_vfs_register(&fuse.vfs, 1), SQLITE_OK);
}

/* Fails the n-th write and all after it; what was acknowledged before must be
 * there afterwards, and nothing by halves. */
static void blow_at(int n, int error, int want) {
    struct store *st;
    struct store_runs r;
    int64_t steps = 0;
    int rc = STORE_OK;
    nftw(h.dir, home_rm_one, 16, FTW_DEPTH | FTW_PHYS);
    ck_assert_int_eq(mkdir(h.dir, 0700), 0);
    fill(40);
    st = home_open(&h, STORE_WRITE);
    fuse.error = error;
    fuse.blown = false;
    fuse.writes_left = n;
    for (steps = 40; steps < 70 && rc == 0; steps++)
        rc = one_step(st, steps);
    if (rc < 0) {
        steps--;
        ck_assert_msg(rc == want || rc == STORE_IO, "write %d: %d %s", n, rc,
                      store_errmsg(st));
        ck_assert_ptr_nonnull(strstr(store_errmsg(st), "store.db"));
    }
    fuse.writes_left = -1;
    if (rc == STORE_NOSPACE) { /* space appears: it goes on by itself */
        ok(st, one_step(st, steps));
        steps++;
    } else if (rc == STORE_IO) {
        ck_assert_int_eq(one_step(st, steps), STORE_IO);
    }
    store_close(st);
    st = home_open(&h, STORE_WRITE);
    ok(st, store_run_get(st, 1, &r));
    ck_assert_msg(r.row[0].cursor >= steps && r.row[0].cursor <= steps + 1,
                  "write %d: %lld of %lld steps", n, (long long)r.row[0].cursor,
                  (long long)steps);
    store_runs_free(&r);
    store_close(st);
    check_prefix(true);
}

START_TEST(a_full_disk_loses_nothing_and_heals) {
    int n = 1;
    fuse_init();
    do {
        blow_at(n, SQLITE_FULL, STORE_NOSPACE);
        n += 1 + n / 5;
    } while (fuse.blown);
    ck_assert_int_gt(n, 30);
}
END_TEST

START_TEST(a_failing_disk_stops_all_writing) {
    int n = 1;
    fuse_init();
    do {
        blow_at(n, SQLITE_IOERR_WRITE, STORE_IO);
        n += 1 + n / 5;
    } while (fuse.blown);
    ck_assert_int_gt(n, 30);
}
END_TEST

/* ---- memory runs out inside SQLite ---- */

static sqlite3_mem_methods real_mem;
static int allocs_left = -1;

static bool alloc_fails(void) {
    if (allocs_left > 0)
        allocs_left--;
    return allocs_left == 0;
}
static void *mem_malloc(int n) {
    return alloc_fails() ? NULL : real_mem.xMalloc(n);
}
static void *mem_realloc(void *p, int n) {
    return alloc_fails() ? NULL : real_mem.xRealloc(p, n);
}

START_TEST(running_out_of_memory_is_an_error_like_others) {
    struct store *st;
    int n = 1, failed = 0;
    sqlite3_shutdown();
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_mem);
    sqlite3_mem_methods m = real_mem;
    m.xMalloc = mem_malloc;
    m.xRealloc = mem_realloc;
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &m), SQLITE_OK);
    fill(40);
    int64_t step = 40;
    bool blown = true;
    for (; blown; n += 1 + n / 6) {
        allocs_left = n;
        int rc = open_writer(&st);
        if (rc == 0)
            rc = read_all(st);
        if (rc == 0)
            rc = one_step(st, step);
        blown = allocs_left == 0;
        allocs_left = -1;
        failed += rc < 0;
        step += rc == 0;
        ck_assert_msg(rc == 0 || rc == STORE_NOMEM || rc == STORE_PERM,
                      "allocation %d: %d %s", n, rc, store_errmsg(st));
        store_close(st);
    }
    ck_assert_int_gt(failed, 20);
    ck_assert_int_ge(check_prefix(true), step);
}
END_TEST

Suite *fault_suite(void);
Suite *fault_suite(void) {
    Suite *s = suite_create("store_fault");
    TCase *t = tcase_create("faults");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_acknowledged_is_lost_by_kill_9);
    tcase_add_test(t, readers_never_stop_the_writer_nor_see_half_a_step);
    tcase_add_test(t, the_log_flows_back_while_readers_come_and_go);
    tcase_add_test(t, a_damaged_page_is_reported_and_never_written);
    tcase_add_test(t, no_damage_crashes_the_store);
    tcase_add_test(t, a_truncated_file_is_reported);
    tcase_add_test(t, an_unclean_start_looks_before_it_writes);
    tcase_add_test(t, a_full_disk_loses_nothing_and_heals);
    tcase_add_test(t, a_failing_disk_stops_all_writing);
    tcase_add_test(t, running_out_of_memory_is_an_error_like_others);
    suite_add_tcase(s, t);
    return s;
}
