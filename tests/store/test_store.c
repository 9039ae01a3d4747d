#include "store/db.h"
#include "tests/store/home.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct home h;

static void setup(void) { home_init(&h); }
static void setup_empty(void) { home_make(&h); }
static void teardown(void) { home_release(&h); }

static int open_at(const char *dir, enum store_mode mode, struct store **st) {
    return store_open(
        st, &(struct store_opts){.dir = dir, .mode = mode, .any_fs = true});
}

/* Opening must fail like this, with a message that says so. */
static void refused(enum store_mode mode, int status, const char *text) {
    struct store *st;
    ck_assert_int_eq(open_at(h.dir, mode, &st), status);
    ck_assert_msg(strstr(store_errmsg(st), text), "%s", store_errmsg(st));
    ck_assert_ptr_nonnull(strstr(store_errmsg(st), "open the store: "));
    store_close(st);
}

static void run_sql(const char *sql) {
    sqlite3 *db;
    char path[256];
    home_path(&h, "store.db", path);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s",
                  sqlite3_errmsg(db));
    sqlite3_close(db);
}

static int64_t ask(const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *q;
    char path[256];
    home_path(&h, "store.db", path);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return v;
}

static char *slurp(const char *name, size_t *len) {
    char path[256];
    struct stat s;
    home_path(&h, name, path);
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    fstat(fd, &s);
    char *p = malloc((size_t)s.st_size + 1);
    ck_assert_int_eq(read(fd, p, (size_t)s.st_size), s.st_size);
    close(fd);
    *len = (size_t)s.st_size;
    return p;
}

static void spill(const char *name, const void *p, size_t len) {
    char path[256];
    home_path(&h, name, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, p, len), (ssize_t)len);
    close(fd);
}

START_TEST(a_new_store_has_its_pragmas_and_its_mode) {
    char path[256];
    struct stat s;
    home_path(&h, "store.db", path);
    ck_assert_int_eq(stat(path, &s), 0);
    ck_assert_int_eq(s.st_mode & 0777, 0600);
    home_path(&h, "store.db-wal", path);
    ck_assert_int_eq(stat(path, &s), 0);
    ck_assert_int_eq(s.st_mode & 0777, 0600);
    static const struct {
        const char *sql;
        int64_t want;
    } pragmas[] = {
        {"PRAGMA synchronous", 2},
        {"PRAGMA foreign_keys", 1},
        {"PRAGMA trusted_schema", 0},
        {"PRAGMA cell_size_check", 1},
        {"PRAGMA wal_autocheckpoint", 0},
        {"PRAGMA user_version", 2},
        {"PRAGMA temp_store", 2},
        {"PRAGMA application_id", STORE_APP_ID},
        {"PRAGMA busy_timeout", 5000},
    };
    for (size_t i = 0; i < sizeof pragmas / sizeof pragmas[0]; i++) {
        int64_t v = -1;
        ok(h.st, db_int(h.st, &v, pragmas[i].sql, ""));
        ck_assert_msg(v == pragmas[i].want, "%s is %lld", pragmas[i].sql,
                      (long long)v);
    }
}
END_TEST

START_TEST(a_second_writer_is_told_who_writes) {
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    refused(STORE_WRITE, STORE_BUSY, pid);
    store_close(h.st);
    h.st = home_open(&h, STORE_WRITE);
}
END_TEST

START_TEST(a_reader_reads_with_and_without_a_daemon) {
    struct store_runs r;
    home_run(&h, "one");
    for (int i = 0; i < 3; i++) {
        struct store *st = home_open(&h, STORE_READ);
        ok(st, store_runs(st, &(struct store_run_query){0}, &r));
        ck_assert_int_eq(r.n, 1);
        store_runs_free(&r);
        ck_assert_int_eq(store_run_note(st, 1, "x"), STORE_PERM);
        ck_assert_int_eq(store_begin(st), STORE_PERM);
        store_close(st);
        store_close(h.st); /* second round: nobody has it open */
        h.st = NULL;
        if (i == 1) { /* third: only the file itself is there */
            size_t len;
            char *db = slurp("store.db", &len);
            nftw(h.dir, home_rm_one, 16, FTW_DEPTH | FTW_PHYS);
            ck_assert_int_eq(mkdir(h.dir, 0700), 0);
            spill("store.db", db, len);
            free(db);
        }
    }
}
END_TEST

START_TEST(a_reader_reads_what_a_killed_writer_left) {
    store_close(h.st);
    h.st = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        struct store *st;
        int64_t run;
        if (open_at(h.dir, STORE_WRITE, &st) == 0)
            store_run_add(st, &(struct store_run){.recipe = "sft"}, &run);
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    struct store_runs r;
    struct store *st = home_open(&h, STORE_READ);
    ok(st, store_run_find(st, "sft-1", &r));
    store_runs_free(&r);
    store_close(st);
}
END_TEST

START_TEST(read_only_media_can_be_read) {
    struct store_runs r;
    home_run(&h, "one");
    store_close(h.st);
    h.st = NULL;
    /* Root ignores permissions: ask as nobody. */
    ck_assert_int_eq(chmod(h.dir, 0555), 0);
    char path[256];
    home_path(&h, "store.db", path);
    ck_assert_int_eq(chmod(path, 0444), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct store *st;
        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(9);
        if (open_at(h.dir, STORE_READ, &st) < 0)
            _exit(1);
        if (store_run_find(st, "one", &r) < 0)
            _exit(2);
        store_runs_free(&r);
        store_close(st);
        if (open_at(h.dir, STORE_WRITE, &st) != STORE_PERM)
            _exit(3);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(chmod(h.dir, 0700), 0);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(no_store_yet_is_not_found) {
    refused(STORE_READ, STORE_NOTFOUND, "fettle serve");
    struct store *st;
    ck_assert_int_eq(open_at("/nonexistent-fettle", STORE_WRITE, &st),
                     STORE_NOTFOUND);
    store_close(st);
    ck_assert_int_eq(open_at("", STORE_WRITE, &st), STORE_INVAL);
    store_close(st);
    store_close(NULL);
    spill("store.db", "", 0);
    refused(STORE_READ, STORE_NOTFOUND, "is empty");
}
END_TEST

START_TEST(a_directory_in_its_place_is_named) {
    char path[256];
    home_path(&h, "store.db", path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    refused(STORE_WRITE, STORE_INVAL, "is a directory");
    refused(STORE_READ, STORE_INVAL, "is a directory");
}
END_TEST

START_TEST(a_file_of_another_program_is_left_alone) {
    size_t len, now;
    run_sql("CREATE TABLE mine(x)");
    char *was = slurp("store.db", &len);
    refused(STORE_WRITE, STORE_CORRUPT, "another program");
    refused(STORE_READ, STORE_CORRUPT, "another program");
    char *is = slurp("store.db", &now);
    ck_assert_int_eq(len, now);
    ck_assert_int_eq(memcmp(was, is, len), 0);
    free(was);
    free(is);
    spill("store.db",
          "{\"not\": \"a database, but longer than a header of "
          "one hundred bytes, so that it is looked at as one\"}",
          100);
    refused(STORE_WRITE, STORE_CORRUPT, "not a database");
}
END_TEST

START_TEST(a_newer_store_is_refused_and_unchanged) {
    size_t len, now;
    store_close(h.st);
    h.st = NULL;
    run_sql("PRAGMA user_version=99");
    char *was = slurp("store.db", &len);
    refused(STORE_WRITE, STORE_NEWER, "schema 99");
    refused(STORE_READ, STORE_NEWER, "update fettle");
    char *is = slurp("store.db", &now);
    ck_assert_int_eq(len, now);
    ck_assert_int_eq(memcmp(was, is, len), 0);
    free(was);
    free(is);
}
END_TEST

static const struct migration future[] = {
    {1, "SELECT 1"},
    {2, "SELECT 1"},
    {3, "CREATE TABLE extra(x); INSERT INTO extra VALUES(7)"},
    {4, "ALTER TABLE extra ADD COLUMN y"},
};
static const struct migration broken[] = {
    {1, "SELECT 1"},
    {2, "SELECT 1"},
    {3, "CREATE TABLE extra(x); INSERT INTO nowhere VALUES(7)"},
};

START_TEST(migrations_go_forward_after_a_backup) {
    char path[256];
    struct stat s;
    home_run(&h, "kept");
    ok(h.st, schema_migrate(h.st, future, 4));
    home_path(&h, "store.db.bak-v2", path);
    ck_assert_int_eq(stat(path, &s), 0);
    store_close(h.st);
    h.st = NULL;
    ck_assert_int_eq(ask("PRAGMA user_version"), 4);
    ck_assert_int_eq(ask("SELECT x FROM extra"), 7);
    refused(STORE_WRITE, STORE_NEWER, "schema 4");
    /* The backup is a whole store of the old version. */
    char to[256];
    home_path(&h, "store.db", to);
    ck_assert_int_eq(rename(path, to), 0);
    h.st = home_open(&h, STORE_WRITE);
    struct store_runs r;
    ok(h.st, store_run_find(h.st, "kept", &r));
    store_runs_free(&r);
}
END_TEST

/* Schema 1 had no precision: what was deployed goes on as it is. */
START_TEST(a_store_of_schema_1_serves_exact_weights) {
    struct store_deployments r;
    ok(h.st, store_model_add(h.st, &(struct store_model){.name = "base",
                                                         .dir = "/b",
                                                         .family = "llama"}));
    ok(h.st, store_deploy(h.st, "chat", "", "base", NULL, 1, NULL));
    store_close(h.st);
    h.st = NULL;
    run_sql("ALTER TABLE version DROP COLUMN precision;"
            "PRAGMA user_version=1");
    refused(STORE_READ, STORE_OLDER, "schema 1");
    h.st = home_open(&h, STORE_WRITE);
    ok(h.st, store_deployments(h.st, &r));
    ck_assert_int_eq(r.n, 1);
    ck_assert_str_eq(r.row[0].precision, "exact");
    store_deployments_free(&r);
}
END_TEST

START_TEST(a_migration_that_fails_changes_nothing) {
    ck_assert_int_lt(schema_migrate(h.st, broken, 3), 0);
    store_close(h.st);
    h.st = home_open(&h, STORE_WRITE);
    int64_t n = -1;
    ok(h.st,
       db_int(h.st, &n, "SELECT count(*) FROM sqlite_schema WHERE name='extra'",
              ""));
    ck_assert_int_eq(n, 0);
    home_run(&h, "still writable");
}
END_TEST

START_TEST(an_older_store_is_for_the_daemon_to_update) {
    store_close(h.st);
    h.st = NULL;
    run_sql("PRAGMA user_version=0");
    refused(STORE_READ, STORE_NOTFOUND, "is empty");
}
END_TEST

static void copy(const char *from, const char *to) {
    size_t len;
    char *p = slurp(from, &len);
    spill(to, p, len);
    free(p);
}

/* _i = 0: everything was in the log; 1: the last transactions were. */
START_TEST(a_removed_log_is_noticed) {
    char path[256];
    struct store_runs r;
    if (_i == 1) {
        home_run(&h, "checkpointed");
        store_close(h.st);
        h.st = home_open(&h, STORE_WRITE);
    }
    for (int i = 0; i < 5; i++)
        home_run(&h, "r");
    copy("store.db", "db.crashed"); /* as kill -9 leaves them */
    copy("store.db-wal", "wal.crashed");
    store_close(h.st);
    h.st = NULL;
    copy("db.crashed", "store.db");
    refused(STORE_WRITE, STORE_CORRUPT, "lacks its last 5 transactions");
    /* Nothing was changed: put back, it is all there. */
    copy("wal.crashed", "store.db-wal");
    h.st = home_open(&h, STORE_WRITE);
    ok(h.st, store_runs(h.st, &(struct store_run_query){0}, &r));
    ck_assert_int_eq(r.n, 5 + _i);
    store_runs_free(&r);
    store_close(h.st);
    h.st = NULL;
    /* Or go on without. */
    copy("db.crashed", "store.db");
    home_path(&h, "store.hwm", path);
    ck_assert_int_eq(unlink(path), 0);
    h.st = home_open(&h, STORE_WRITE);
    ok(h.st, store_runs(h.st, &(struct store_run_query){0}, &r));
    ck_assert_int_eq(r.n, _i);
    store_runs_free(&r);
}
END_TEST

START_TEST(a_failed_call_leaves_the_transaction_as_it_was) {
    struct store_runs r;
    ok(h.st, store_begin(h.st));
    ck_assert_int_eq(store_begin(h.st), STORE_BUG);
    home_run(&h, "in");
    ck_assert_int_eq(store_run_config(h.st, 1, "[\"no object\"]"), STORE_INVAL);
    home_run(&h, "too");
    ok(h.st, store_commit(h.st));
    ck_assert_int_eq(store_commit(h.st), STORE_BUG);
    ok(h.st, store_begin(h.st));
    home_run(&h, "out");
    store_rollback(h.st);
    store_rollback(h.st);
    ok(h.st, store_runs(h.st, &(struct store_run_query){0}, &r));
    ck_assert_int_eq(r.n, 2);
    store_runs_free(&r);
}
END_TEST

START_TEST(settings_are_kept_by_key) {
    char *json;
    ck_assert_int_eq(store_ui_get(h.st, "view", &json), STORE_NOTFOUND);
    ok(h.st, store_ui_set(h.st, "view", "{\"a\":1}"));
    ok(h.st, store_ui_set(h.st, "view", "{\"a\":2}"));
    ok(h.st, store_ui_get(h.st, "view", &json));
    ck_assert_str_eq(json, "{\"a\":2}");
    free(json);
}
END_TEST

START_TEST(a_slow_read_is_given_up) {
    struct store *st;
    struct store_series_list s;
    int64_t run = home_run(&h, "r"), gen;
    ok(h.st, store_begin(h.st));
    for (int i = 0; i < 50000; i++) {
        char name[32];
        snprintf(name, sizeof name, "metric-%d", i);
        struct store_point p = {.name = name, .step = i, .value = i};
        ok(h.st, store_points_add(h.st, run, &p, 1));
    }
    ok(h.st, store_commit(h.st));
    ok(h.st, store_open(&st, &(struct store_opts){
                                 .dir = h.dir, .read_ms = 1, .any_fs = true}));
    ck_assert_int_eq(store_series_list(st, run, &s), STORE_BUSY);
    ck_assert_ptr_nonnull(strstr(store_errmsg(st), "too long"));
    ck_assert_int_eq(s.n, 0);
    ok(st, store_generation(st, &gen));
    store_close(st);
}
END_TEST

START_TEST(statuses_have_names) {
    ck_assert_str_eq(store_status_name(0), "ok");
    ck_assert_str_eq(store_status_name(STORE_BUG), "internal");
    ck_assert_str_eq(store_status_name(STORE_NOSPACE), "disk_full");
    ck_assert_str_eq(store_status_name(-99), "unknown");
    ck_assert_str_eq(store_status_name(3), "unknown");
}
END_TEST

Suite *store_suite(void);
Suite *store_suite(void) {
    Suite *s = suite_create("store");
    TCase *t = tcase_create("open");
    tcase_set_timeout(t, 20);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_new_store_has_its_pragmas_and_its_mode);
    tcase_add_test(t, a_second_writer_is_told_who_writes);
    tcase_add_test(t, a_reader_reads_with_and_without_a_daemon);
    tcase_add_test(t, a_reader_reads_what_a_killed_writer_left);
    tcase_add_test(t, read_only_media_can_be_read);
    tcase_add_test(t, a_newer_store_is_refused_and_unchanged);
    tcase_add_test(t, migrations_go_forward_after_a_backup);
    tcase_add_test(t, a_store_of_schema_1_serves_exact_weights);
    tcase_add_test(t, a_migration_that_fails_changes_nothing);
    tcase_add_test(t, an_older_store_is_for_the_daemon_to_update);
    tcase_add_loop_test(t, a_removed_log_is_noticed, 0, 2);
    tcase_add_test(t, a_failed_call_leaves_the_transaction_as_it_was);
    tcase_add_test(t, settings_are_kept_by_key);
    tcase_add_test(t, a_slow_read_is_given_up);
    tcase_add_test(t, statuses_have_names);
    suite_add_tcase(s, t);
    t = tcase_create("nothing there");
    tcase_add_checked_fixture(t, setup_empty, teardown);
    tcase_add_test(t, no_store_yet_is_not_found);
    tcase_add_test(t, a_directory_in_its_place_is_named);
    tcase_add_test(t, a_file_of_another_program_is_left_alone);
    suite_add_tcase(s, t);
    return s;
}
