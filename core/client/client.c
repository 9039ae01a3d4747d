/*
 * client: HTTP over the Unix socket by libcurl; starts a daemon when none
 * answers. A call is tried again through a restart: every request that changes
 * something is idempotent on the other side.
 */
#include "core/client.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/json.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS 15000 /* a daemon says within that what is wrong */
#define STARTS_MOST 3
#define RETRY_FIRST_MS 50
#define RETRY_MOST_MS 1000
#define ANSWER_MAX (512u << 20)

struct client {
    char *home, *socket;
    bool no_start;
    int retry_ms; /* -1 = never */
    CURL *curl;
};

/* What came back. */
struct reply {
    long status;
    struct buf body;
    /* streams: called with bytes as they come; false = stop */
    bool (*sink)(void *arg, const void *data, size_t len);
    void *arg;
    CURL *curl;
};

struct client *client_open(const struct client_opts *o, struct err *err) {
    struct client *c = calloc(1, sizeof *c);
    CHECK(c, "out of memory for a client");
    c->home = fs_path("%s", o->home);
    c->socket = fs_path("%s/run/d.sock", o->home);
    c->no_start = o->no_start;
    c->retry_ms = o->retry_ms ? o->retry_ms : CLIENT_RETRY_MS;
    c->curl = curl_easy_init();
    if (!c->curl) {
        err_set(err, ERR_NOMEM, "open client: libcurl failed");
        client_close(c);
        return NULL;
    }
    return c;
}

void client_close(struct client *c) {
    if (!c)
        return;
    if (c->curl)
        curl_easy_cleanup(c->curl);
    free(c->home);
    free(c->socket);
    free(c);
}

/* ---- starting a daemon ---- */

/* In the grandchild: a process of its own, with nothing of the caller's. */
static void daemon_exec(const char *home, int report) {
    int null = open("/dev/null", O_RDWR);
    setsid();
    if (chdir("/") < 0) /* only not to pin a directory */
        _exit(126);
    dup2(null, 0);
    dup2(null, 1);
    dup2(report, 2);
    for (int fd = 3; fd < 256; fd++)
        close(fd);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execl("/proc/self/exe", "fettle", "serve", "--detach", "--home", home,
          (char *)NULL);
    _exit(127);
}

static bool daemon_runs(struct client *c) {
    struct err e = {0};
    char *path = fs_path("%s/run/d.lock", c->home);
    int fd = fs_lock(path, &e);
    free(path);
    if (fd >= 0)
        close(fd);
    return fd < 0;
}

/* What the daemon says until it lets go of its stderr: nothing when it is
 * up. */
static void daemon_report(int fd, char *line, size_t size) {
    int64_t end = clock_mono_us() + (int64_t)START_MS * 1000;
    size_t n = 0;
    struct pollfd p = {fd, POLLIN, 0};
    while (n + 1 < size && clock_mono_us() < end) {
        int rc = poll(&p, 1, 100);
        ssize_t k = rc > 0 ? read(fd, line + n, size - 1 - n) : -1;
        if (rc > 0 && k <= 0)
            break;
        n += k > 0 ? (size_t)k : 0;
    }
    line[n] = 0;
    line[strcspn(line, "\n")] = 0;
}

/* Another daemon may win the race to the lock; that is as good. */
static int daemon_start(struct client *c, struct err *err) {
    char line[512];
    int report[2];
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_sys(err, "start the daemon");
    pid_t pid = fork();
    if (pid == 0) {
        if (fork() == 0)
            daemon_exec(c->home, report[1]);
        _exit(0);
    }
    close(report[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    daemon_report(report[0], line, sizeof line);
    close(report[0]);
    if (pid < 0)
        return err_sys(err, "start the daemon");
    const char *why = strncmp(line, "fettle: ", 8) == 0 ? line + 8 : line;
    if (*why && !daemon_runs(c))
        return err_set(err, ERR_UNAVAILABLE, "the daemon does not start: %s",
                       why);
    return 0;
}

/* ---- one exchange ---- */

static size_t on_bytes(char *data, size_t size, size_t n, void *arg) {
    struct reply *r = arg;
    long status = 0; /* the body of an error is kept, not streamed */
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    if (r->sink && status == 200)
        return r->sink(r->arg, data, size * n) ? size * n : 0;
    buf_bytes(&r->body, data, size * n);
    return r->body.failed ? 0 : size * n;
}

static CURLcode exchange(struct client *c, const char *method, const char *path,
                         const char *type, const void *body, size_t len,
                         struct reply *r) {
    char *url = fs_path("http://localhost%s", path);
    struct curl_slist *headers = NULL;
    CURL *h = r->curl = c->curl;
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, 2000L);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, r);
    if (body) {
        curl_easy_setopt(h, CURLOPT_POST, 1L);
        curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
        headers = curl_slist_append(headers, type);
    }
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    CURLcode rc = curl_easy_perform(h);
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &r->status);
    curl_slist_free_all(headers);
    free(url);
    return rc;
}

/* {"error":{code,message}} into err. */
static void reply_error(const struct reply *r, struct err *err) {
    json_t *j = json_loadb((const char *)r->body.data, r->body.len, 0, NULL);
    const json_t *e = json_object_get(j, "error");
    const char *code = json_string_value(json_object_get(e, "code"));
    const char *msg = json_string_value(json_object_get(e, "message"));
    if (code && msg)
        err_set(err, err_by_name(code), "%s", msg);
    else
        err_set(err, ERR_BUG, "the daemon answered with status %ld", r->status);
    json_decref(j);
}

/* Tries until it is answered for good. 0 = a good answer in r. */
static int client_try(struct client *c, const char *method, const char *path,
                      const char *type, const void *body, size_t len,
                      struct reply *r, struct err *err) {
    int64_t end = clock_mono_us() + (int64_t)c->retry_ms * 1000;
    int pause = RETRY_FIRST_MS, failed = 0;
    for (;;) {
        struct err e = {0};
        buf_clear(&r->body);
        CURLcode rc = exchange(c, method, path, type, body, len, r);
        if (rc == CURLE_OK && r->status >= 200 && r->status < 300)
            return 0;
        if (rc == CURLE_WRITE_ERROR) /* a sink that has enough */
            return r->sink ? 0 : err_set(err, ERR_TOOBIG, "an answer too big");
        if (rc == CURLE_OK)
            reply_error(r, &e);
        else
            err_set(&e, ERR_UNAVAILABLE,
                    "no daemon answers at %s: %s (fettle serve starts one)",
                    c->socket, curl_easy_strerror(rc));
        bool again = rc != CURLE_OK ||
                     (err_retryable(e.code) && r->status != WIRE_HTTP_FAILED);
        int64_t now = clock_mono_us();
        if (!again || c->retry_ms < 0 || now >= end || c->no_start)
            return err_set(err, e.code, "%s", e.msg);
        if (rc != CURLE_OK && !daemon_runs(c)) {
            struct err why = {0};
            if (daemon_start(c, &why) == 0)
                failed = 0;
            else if (++failed == STARTS_MOST)
                return err_set(err, why.code, "%s", why.msg);
        }
        clock_sleep_ms(pause);
        pause = pause * 2 < RETRY_MOST_MS ? pause * 2 : RETRY_MOST_MS;
    }
}

json_t *client_call(struct client *c, const char *method, const char *path,
                    const json_t *body, struct err *err) {
    struct reply r = {0};
    json_t *j = NULL;
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    bool post = text || strcmp(method, "GET") != 0;
    buf_init(&r.body, ANSWER_MAX);
    if (client_try(c, method, path, "Content-Type: application/json",
                   text   ? text
                   : post ? ""
                          : NULL,
                   text ? strlen(text) : 0, &r, err) == 0)
        j = json_read(buf_str(&r.body), r.body.len, "the daemon's answer", err);
    buf_release(&r.body);
    free(text);
    return j;
}

static int send_op(struct client *c, const char *path, const struct op *op,
                   struct reply *r, struct err *err) {
    struct buf b;
    buf_init(&b, WIRE_MAX);
    op_encode(op, &b);
    int rc = buf_check(&b, "encode op", err);
    if (rc == 0)
        rc = client_try(c, "POST", path,
                        "Content-Type: application/octet-stream", b.data, b.len,
                        r, err);
    buf_release(&b);
    return rc;
}

int client_create(struct client *c, int64_t run, const struct op_create *create,
                  char model[WIRE_NAME_MAX], struct err *err) {
    struct op op = {.kind = OP_CREATE, .model = "", .create = *create};
    struct reply r = {0};
    const char *id;
    json_t *j = NULL;
    buf_init(&r.body, 1 << 20);
    char *path = fs_path("/fettle/v1/create?run=%lld", (long long)run);
    int rc = send_op(c, path, &op, &r, err);
    if (rc == 0) {
        j = json_read(buf_str(&r.body), r.body.len, "the daemon's answer", err);
        rc = j ? json_get_str(j, "model", &id, "", err) : -1;
    }
    if (rc == 0)
        snprintf(model, WIRE_NAME_MAX, "%s", id);
    json_decref(j);
    free(path);
    buf_release(&r.body);
    return rc;
}

int client_submit(struct client *c, const struct op *op, struct err *err) {
    struct reply r = {0};
    buf_init(&r.body, 1 << 20);
    int rc = send_op(c, "/fettle/v1/ops", op, &r, err);
    buf_release(&r.body);
    return rc;
}

int client_wait(struct client *c, const char *model, uint64_t seq,
                struct result *res, struct err *err) {
    char *path = fs_path("/fettle/v1/ops/%s/%llu?wait_ms=20000", model,
                         (unsigned long long)seq);
    struct reply r = {0};
    int rc;
    buf_init(&r.body, ANSWER_MAX);
    do
        rc = client_try(c, "GET", path, NULL, NULL, 0, &r, err);
    while (rc == 0 && r.status == 202);
    if (rc == 0)
        rc = result_decode(res, r.body.data, r.body.len, err);
    buf_release(&r.body);
    free(path);
    return rc;
}

/* ---- streams of frames ---- */

struct stream {
    struct buf in; /* bytes of a frame that is not whole yet */
    client_partial_fn *partial;
    void *arg;
    struct result *res;
    struct err *err;
    int rc;    /* 1 = not ended, 0 = a result, -1 = an error */
    bool some; /* a partial was handed on */
};

static bool stream_frame(struct stream *s, uint32_t type, const uint8_t *data,
                         size_t len) {
    struct cur c;
    cur_init(&c, data, len);
    if (type == FRAME_PARTIAL) {
        uint32_t index = cur_u32(&c), n = cur_u32(&c);
        cur_bytes(&c, (size_t)n * 8);
        char *text = cur_lstr(&c, 1 << 20);
        bool go = !s->partial || !text || s->partial(s->arg, index, text);
        s->some = true;
        free(text);
        return go;
    }
    if (type == FRAME_RESULT) {
        s->rc = result_decode(s->res, data, len, s->err);
        return true;
    }
    char *code = cur_lstr(&c, 64), *msg = cur_lstr(&c, 4096);
    err_set(s->err, err_by_name(code), "%s", msg ? msg : "?");
    s->rc = -1;
    free(code);
    free(msg);
    return true;
}

static bool stream_bytes(void *arg, const void *data, size_t len) {
    struct stream *s = arg;
    buf_bytes(&s->in, data, len);
    for (;;) {
        struct cur c;
        cur_init(&c, s->in.data, s->in.len);
        cur_u32(&c);
        uint32_t type = cur_u32(&c);
        cur_u64(&c);
        uint64_t n = cur_u64(&c);
        if (c.bad || n > cur_left(&c))
            return !s->in.failed;
        bool go = stream_frame(s, type, c.p, (size_t)n);
        size_t used = (size_t)(c.p - s->in.data) + (size_t)n;
        memmove(s->in.data, s->in.data + used, s->in.len - used);
        s->in.len -= used;
        if (!go)
            return false;
    }
}

int client_run(struct client *c, const char *target, const struct op *op,
               client_partial_fn *partial, void *arg, struct result *res,
               struct err *err) {
    char *safe = curl_easy_escape(c->curl, target, 0);
    char *path = fs_path("/fettle/v1/run?target=%s", safe ? safe : "");
    int64_t end = clock_mono_us() + (int64_t)c->retry_ms * 1000;
    struct err e;
    struct stream s;
    int rc;
    do {
        e = (struct err){0};
        s = (struct stream){
            .partial = partial, .arg = arg, .res = res, .err = &e, .rc = 1};
        struct reply r = {.sink = stream_bytes, .arg = &s};
        buf_init(&s.in, ANSWER_MAX);
        buf_init(&r.body, 1 << 20);
        rc = send_op(c, path, op, &r, &e);
        if (rc == 0 && s.rc == 1)
            err_set(&e, ERR_CANCELED, "stopped");
        if (rc == 0)
            rc = s.rc == 0 ? 0 : -1;
        buf_release(&s.in);
        buf_release(&r.body);
        if (rc < 0 && !s.some && err_retryable(e.code) && c->retry_ms > 0)
            clock_sleep_ms(200);
    } while (rc < 0 && !s.some && err_retryable(e.code) && c->retry_ms > 0 &&
             clock_mono_us() < end && e.code != ERR_DEVICE);
    curl_free(safe);
    free(path);
    return rc < 0 ? err_set(err, e.code, "%s", e.msg) : 0;
}
