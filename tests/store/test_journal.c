#include "tests/store/home.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static struct home h;
static char model[STORE_NAME_MAX];

enum { BIG = (1 << 20) + 5 };

static void sha_of(int tag, uint8_t sha[STORE_SHA_LEN]) {
    memset(sha, tag, STORE_SHA_LEN);
}

static void make_model(int64_t run, int tag, char id[STORE_NAME_MAX]) {
    uint8_t sha[STORE_SHA_LEN];
    sha_of(tag, sha);
    ok(h.st, store_tmodel_add(h.st, run, "base", sha, 1, id));
}

static void setup(void) {
    home_init(&h);
    home_run(&h, "r");
    make_model(1, 1, model);
}
static void teardown(void) { home_release(&h); }

static int put(int64_t seq, int tag, size_t len, bool *is_new) {
    struct store_op op = {.model = model, .seq = seq, .kind = 2};
    char *p = malloc(len + 1);
    memset(p, tag, len);
    sha_of(tag, op.sha);
    op.payload = p;
    op.payload_len = len;
    int rc = store_op_put(h.st, &op, is_new);
    free(p);
    return rc;
}

static void done(int64_t seq, const char *bytes, size_t len) {
    struct store_result r = {
        .status = STORE_OP_DONE, .data = bytes, .len = len};
    ok(h.st, store_op_result(h.st, model, seq, &r, 100 + seq));
}

static int files(void) {
    char path[256];
    int n = 0;
    home_path(&h, "journal", path);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void tmodel(struct store_tmodel *t) {
    struct store_tmodels r;
    ok(h.st, store_tmodel_get(h.st, model, &r));
    *t = r.row[0];
    store_tmodels_free(&r);
}

START_TEST(a_model_is_made_once_for_a_request) {
    char again[STORE_NAME_MAX], other[STORE_NAME_MAX], free1[STORE_NAME_MAX],
        free2[STORE_NAME_MAX];
    struct store_tmodels r;
    make_model(1, 1, again);
    make_model(1, 2, other);
    make_model(0, 1, free1);
    make_model(0, 1, free2);
    ck_assert_str_eq(model, "m1");
    ck_assert_str_eq(again, model);
    ck_assert_str_ne(other, model);
    ck_assert_str_ne(free1, free2);
    ok(h.st, store_tmodel_state(h.st, other, STORE_TMODEL_FAILED, "why"));
    ok(h.st, store_tmodels(h.st, STORE_TMODEL_LIVE, &r));
    ck_assert_int_eq(r.n, 3);
    store_tmodels_free(&r);
    ok(h.st, store_tmodels(h.st, -1, &r));
    ck_assert_int_eq(r.n, 4);
    ck_assert_str_eq(r.row[1].error, "why");
    store_tmodels_free(&r);
    static const char *const none[] = {"m99", "m01", "x1", "m", "", "m1x"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        ck_assert_int_eq(store_tmodel_get(h.st, none[i], &r), STORE_NOTFOUND);
}
END_TEST

START_TEST(an_op_is_recorded_once) {
    bool is_new;
    struct store_ops r;
    ok(h.st, put(0, 7, 10, &is_new));
    ck_assert(is_new);
    ok(h.st, put(0, 7, 10, &is_new));
    ck_assert(!is_new);
    ck_assert_int_eq(put(0, 8, 10, &is_new), STORE_CONFLICT);
    ck_assert_int_eq(put(-1, 8, 10, &is_new), STORE_INVAL);
    ok(h.st, store_op_get(h.st, model, 0, &r));
    ck_assert(r.row[0].payload_len == 10 && r.row[0].kind == 2);
    ck_assert_int_eq(memcmp(r.row[0].payload, "\7\7\7\7\7\7\7\7\7\7", 10), 0);
    ck_assert_int_eq(r.row[0].sha[31], 7);
    ck_assert_int_eq(r.row[0].result.status, STORE_OP_PENDING);
    store_ops_free(&r);
    ck_assert_int_eq(store_op_get(h.st, model, 1, &r), STORE_NOTFOUND);
    ok(h.st, store_tmodel_state(h.st, model, STORE_TMODEL_CLOSED, ""));
    ok(h.st, put(0, 7, 10, &is_new));
    ck_assert_int_eq(put(1, 7, 10, &is_new), STORE_CONFLICT);
}
END_TEST

START_TEST(next_seq_passes_over_what_came_early) {
    static const int64_t seqs[] = {0, 3, 2, 5, 1, 4};
    static const int64_t next[] = {1, 1, 1, 1, 4, 6};
    struct store_tmodel t;
    for (int i = 0; i < 6; i++) {
        ok(h.st, put(seqs[i], 1, 3, NULL));
        tmodel(&t);
        ck_assert_int_eq(t.next_seq, next[i]);
    }
    ck_assert(t.applied_seq == -1 && t.snapshot_seq == -1);
    done(0, "r", 1);
    tmodel(&t);
    ck_assert_int_eq(t.applied_seq, 0);
}
END_TEST

START_TEST(the_first_result_stays) {
    struct store_ops r;
    struct store_result failed = {
        .status = STORE_OP_FAILED, .code = "invalid", .error = "no such loss"};
    ok(h.st, put(0, 1, 3, NULL));
    ok(h.st, put(1, 1, 3, NULL));
    done(0, "one", 3);
    done(0, "two", 3);
    ok(h.st, store_op_result(h.st, model, 1, &failed, 5));
    ck_assert_int_eq(store_op_result(h.st, model, 2, &failed, 5),
                     STORE_NOTFOUND);
    failed.status = STORE_OP_PENDING;
    ck_assert_int_eq(store_op_result(h.st, model, 1, &failed, 5), STORE_INVAL);
    ok(h.st, store_op_get(h.st, model, 0, &r));
    ck_assert(r.row[0].result.len == 3);
    ck_assert_int_eq(memcmp(r.row[0].result.data, "one", 3), 0);
    store_ops_free(&r);
    ok(h.st, store_ops_unread_errors(h.st, &r));
    ck_assert_int_eq(r.n, 1);
    ck_assert_str_eq(r.row[0].result.code, "invalid");
    ck_assert_str_eq(r.row[0].result.error, "no such loss");
    ck_assert_str_eq(r.row[0].model, model);
    store_ops_free(&r);
    ok(h.st, store_op_fetched(h.st, model, 1));
    ok(h.st, store_ops_unread_errors(h.st, &r));
    ck_assert_int_eq(r.n, 0);
    store_ops_free(&r);
    ck_assert_int_eq(store_op_fetched(h.st, model, 9), STORE_NOTFOUND);
}
END_TEST

struct seen {
    int64_t seq[16];
    size_t bytes;
    int n, stop_at;
};

static bool see(void *arg, const struct store_op *op) {
    struct seen *s = arg;
    s->seq[s->n++] = op->seq;
    s->bytes += op->payload_len;
    return s->n != s->stop_at;
}

START_TEST(replay_gives_ops_in_order_with_their_bytes) {
    struct seen s = {0}, two = {.stop_at = 2};
    ok(h.st, put(2, 1, BIG, NULL));
    ok(h.st, put(0, 1, 3, NULL));
    ok(h.st, put(1, 1, 0, NULL));
    ok(h.st, store_ops_after(h.st, model, -1, see, &s));
    ck_assert(s.n == 3 && s.seq[0] == 0 && s.seq[2] == 2);
    ck_assert_int_eq(s.bytes, BIG + 3);
    ok(h.st, store_ops_after(h.st, model, 0, see, &two));
    ck_assert(two.n == 2 && two.seq[1] == 2);
    ok(h.st, put(3, 1, 3, NULL));
}
END_TEST

START_TEST(a_snapshot_drops_payloads_that_are_not_needed) {
    struct store_ops r;
    struct store_tmodel t;
    bool is_new;
    char *big = calloc(1, BIG);
    ok(h.st, put(0, 1, 3, NULL));
    ok(h.st, put(1, 1, BIG, NULL));
    ok(h.st, put(2, 1, BIG, NULL));
    ok(h.st, put(3, 1, BIG, NULL));
    ck_assert_int_eq(files(), 3);
    done(0, "a", 1);
    done(1, big, BIG);
    ck_assert_int_eq(files(), 4);
    ok(h.st, store_snapshot_commit(h.st, model, 2, "m1/2"));
    ck_assert_int_eq(files(), 3); /* op 2 has no result yet */
    tmodel(&t);
    ck_assert_int_eq(t.snapshot_seq, 2);
    done(2, "c", 1);
    ck_assert_int_eq(files(), 2);
    ok(h.st, store_op_get(h.st, model, 1, &r));
    ck_assert(!r.row[0].payload && r.row[0].result.len == BIG);
    store_ops_free(&r);
    ok(h.st, put(1, 1, BIG, &is_new)); /* still known */
    ck_assert(!is_new);
    ck_assert_int_eq(store_snapshot_commit(h.st, model, 1, "x"),
                     STORE_CONFLICT);
    ck_assert_int_eq(store_snapshot_commit(h.st, model, 9, "x"),
                     STORE_CONFLICT);
    ok(h.st, store_results_drop(h.st, 102));
    ck_assert_int_eq(files(), 1);
    ok(h.st, store_op_get(h.st, model, 1, &r));
    ck_assert(!r.row[0].result.data && r.row[0].is_expired);
    ck_assert_int_eq(r.row[0].result.status, STORE_OP_DONE);
    store_ops_free(&r);
    ok(h.st, store_op_get(h.st, model, 2, &r));
    ck_assert(r.row[0].result.len == 1 && !r.row[0].is_expired);
    store_ops_free(&r);
    free(big);
}
END_TEST

START_TEST(a_closed_model_and_a_removed_run_leave_nothing_behind) {
    struct store_tmodels r;
    char *big = calloc(1, BIG);
    ok(h.st, put(0, 1, BIG, NULL));
    ok(h.st, put(1, 1, BIG, NULL));
    done(0, big, BIG);
    ck_assert_int_eq(files(), 3);
    ok(h.st, store_tmodel_state(h.st, model, STORE_TMODEL_CLOSED, ""));
    ck_assert_int_eq(files(), 1);
    make_model(1, 2, model);
    ok(h.st, put(0, 1, BIG, NULL));
    ok(h.st, store_run_state(h.st, 1, STORE_RUN_DONE, "", 1));
    ok(h.st, store_run_rm(h.st, 1));
    ck_assert_int_eq(files(), 0);
    ok(h.st, store_tmodels(h.st, -1, &r));
    ck_assert_int_eq(r.n, 0);
    free(big);
}
END_TEST

START_TEST(files_follow_their_transaction) {
    struct store_ops r;
    ok(h.st, store_begin(h.st));
    ok(h.st, put(0, 1, BIG, NULL));
    ck_assert_int_eq(files(), 1);
    store_rollback(h.st);
    ck_assert_int_eq(files(), 0);
    ok(h.st, put(0, 1, BIG, NULL));
    done(0, "x", 1);
    ok(h.st, store_begin(h.st));
    ok(h.st, store_snapshot_commit(h.st, model, 0, "m1/0"));
    store_rollback(h.st);
    ck_assert_int_eq(files(), 1);
    ok(h.st, store_op_get(h.st, model, 0, &r));
    ck_assert(r.row[0].payload_len == BIG);
    store_ops_free(&r);
    ok(h.st, store_snapshot_commit(h.st, model, 0, "m1/0"));
    ck_assert_int_eq(files(), 0);
}
END_TEST

START_TEST(orphans_are_swept_and_others_kept) {
    char path[256];
    static const char *const orphans[] = {"m1-7.op",  "m9-1.op", "m1-0.res",
                                          "m1-0.opx", "junk",    "writing.tmp"};
    ok(h.st, put(0, 1, BIG, NULL));
    for (size_t i = 0; i < sizeof orphans / sizeof orphans[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "journal/%s", orphans[i]);
        home_path(&h, name, path);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    store_close(h.st);
    h.st = home_open(&h, STORE_WRITE);
    ck_assert_int_eq(files(), 1);
}
END_TEST

static void note(void *arg, const char *finding) {
    snprintf(arg, 256, "%s", finding);
}

START_TEST(damaged_journal_files_are_noticed) {
    char path[256], finding[256] = "";
    struct store_ops r;
    struct seen s = {0};
    ok(h.st, put(0, 1, BIG, NULL));
    home_path(&h, "journal/m1-0.op", path);
    int fd = open(path, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, "!", 1, 4711), 1);
    ck_assert_int_eq(store_op_get(h.st, model, 0, &r), STORE_CORRUPT);
    ck_assert_ptr_nonnull(strstr(store_errmsg(h.st), "m1-0.op"));
    ck_assert_int_eq(store_ops_after(h.st, model, -1, see, &s), STORE_CORRUPT);
    ck_assert_int_eq(ftruncate(fd, 100), 0);
    close(fd);
    ck_assert_int_eq(store_op_get(h.st, model, 0, &r), STORE_CORRUPT);
    ck_assert_int_eq(store_check(h.st, false, note, finding), STORE_CORRUPT);
    ck_assert_int_eq(store_check(h.st, false, NULL, NULL), STORE_CORRUPT);
    ck_assert_ptr_nonnull(strstr(finding, "m1-0.op"));
    unlink(path);
    ck_assert_int_eq(store_op_get(h.st, model, 0, &r), STORE_CORRUPT);
    ck_assert_int_eq(r.n, 0);
}
END_TEST

Suite *journal_suite(void);
Suite *journal_suite(void) {
    Suite *s = suite_create("store_journal");
    TCase *t = tcase_create("journal");
    tcase_set_timeout(t, 20);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_model_is_made_once_for_a_request);
    tcase_add_test(t, an_op_is_recorded_once);
    tcase_add_test(t, next_seq_passes_over_what_came_early);
    tcase_add_test(t, the_first_result_stays);
    tcase_add_test(t, replay_gives_ops_in_order_with_their_bytes);
    tcase_add_test(t, a_snapshot_drops_payloads_that_are_not_needed);
    tcase_add_test(t, a_closed_model_and_a_removed_run_leave_nothing_behind);
    tcase_add_test(t, files_follow_their_transaction);
    tcase_add_test(t, orphans_are_swept_and_others_kept);
    tcase_add_test(t, damaged_journal_files_are_noticed);
    suite_add_tcase(s, t);
    return s;
}
