/*
 * http: connections to requests, answers to responses, over libmicrohttpd
 * with one polling thread. A handler that has to wait suspends its connection
 * and is called again when it is resumed.
 */
#include "core/daemon/int.h"

#include "core/fs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BODY_MAX (16u << 20) /* but for op bytes: WIRE_MAX */
#define CONNECTIONS_MAX 1024
#define IDLE_S 75

struct exchange {
    struct daemon *d;
    bool tcp;
    struct buf body;
    struct flow *flow;
    enum err_code refused; /* NONE = go on */
    const char *why;
};

/* ---- who may ---- */

static bool same_user(struct MHD_Connection *c) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred u;
    socklen_t n = sizeof u;
    return i &&
           getsockopt(i->connect_fd, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0 &&
           u.uid == geteuid();
}

static bool same_text(const char *a, const char *b) {
    size_t n = strlen(a);
    unsigned diff = n != strlen(b);
    for (size_t i = 0; diff == 0 && i < n; i++)
        diff |= (unsigned)(a[i] ^ b[i]);
    return diff == 0;
}

static bool has_token(struct MHD_Connection *c, const char *token) {
    const char *key =
        MHD_lookup_connection_value(c, MHD_HEADER_KIND, "X-API-Key");
    const char *auth =
        MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    if (auth && strncmp(auth, "Bearer ", 7) == 0)
        key = auth + 7;
    return token && key && same_text(key, token);
}

static bool host_is_local(const char *host) {
    static const char *const names[] = {"127.0.0.1", "localhost", "[::1]"};
    for (size_t i = 0; host && i < 3; i++) {
        size_t n = strlen(names[i]);
        if (strncmp(host, names[i], n) == 0 && (!host[n] || host[n] == ':'))
            return true;
    }
    return false;
}

static void exchange_check(struct exchange *x, struct MHD_Connection *c) {
    const char *origin =
        MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host");
    if (!x->tcp && !same_user(c)) {
        x->refused = ERR_PERM;
        x->why = "another user's socket";
    } else if (x->tcp && (origin || !host_is_local(host))) {
        x->refused = ERR_PERM;
        x->why = "requests of web pages are refused";
    } else if (x->tcp && !has_token(c, x->d->o.token)) {
        x->refused = ERR_AUTH;
        x->why = "a token is wanted (Authorization: Bearer …)";
    }
}

/* ---- answers ---- */

static enum MHD_Result send_bytes(struct MHD_Connection *c, int status,
                                  const char *type, void *bytes, size_t len) {
    struct MHD_Response *r =
        MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(bytes);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    if (status == 503 || status == 429)
        MHD_add_response_header(r, "Retry-After", "1");
    enum MHD_Result rc = MHD_queue_response(c, (unsigned)status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result send_json(struct MHD_Connection *c, int status,
                                 json_t *j) {
    char *text = json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(j);
    CHECK(text, "out of memory for an answer");
    return send_bytes(c, status, "application/json", text, strlen(text));
}

static enum MHD_Result send_error(struct MHD_Connection *c, enum err_code code,
                                  const char *why) {
    return send_json(c, err_http(code),
                     json_pack("{s:{s:s, s:s}}", "error", "code",
                               err_name(code), "message", why));
}

static ssize_t flow_read(void *cls, uint64_t pos, char *buf, size_t max) {
    struct flow *f = cls;
    ssize_t n = 0;
    (void)pos;
    pthread_mutex_lock(&f->d->lock);
    size_t left = f->out.len - f->sent;
    if (left > 0) {
        n = (ssize_t)(left < max ? left : max);
        memcpy(buf, f->out.data + f->sent, (size_t)n);
        f->sent += (size_t)n;
    } else if (f->done) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        f->conn = f->owner;
        MHD_suspend_connection(f->owner);
    }
    pthread_mutex_unlock(&f->d->lock);
    return n;
}

static enum MHD_Result send_stream(struct MHD_Connection *c, struct flow *f) {
    f->owner = c;
    struct MHD_Response *r = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, 4096, flow_read, f, NULL);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "Content-Type",
                            f->mode == FLOW_FRAMES ? "application/octet-stream"
                                                   : "text/event-stream");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    enum MHD_Result rc = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return rc;
}

/* Under the lock: a whole answer that is there, or the wait for it. */
static enum MHD_Result send_flow(struct MHD_Connection *c, struct flow *f) {
    if (f->mode == FLOW_FRAMES || f->stream)
        return send_stream(c, f);
    if (!f->done && !f->d->stopping) {
        f->conn = f->owner = c;
        MHD_suspend_connection(c);
        return MHD_YES;
    }
    if (!f->done)
        return send_error(c, ERR_UNAVAILABLE, "the daemon stops");
    size_t len;
    uint8_t *bytes = buf_take(&f->out, &len);
    return send_bytes(c, f->status, "application/json", bytes, len);
}

static enum MHD_Result exchange_route(struct exchange *x,
                                      struct MHD_Connection *c, const char *url,
                                      const char *method) {
    struct request q = {.d = x->d,
                        .method = method,
                        .path = url,
                        .conn = c,
                        .body = x->body.data,
                        .len = x->body.len};
    struct answer a = {.status = 200};
    enum MHD_Result rc;
    pthread_mutex_lock(&x->d->lock);
    if (x->flow) { /* resumed */
        rc = send_flow(c, x->flow);
        pthread_mutex_unlock(&x->d->lock);
        return rc;
    }
    route(&q, &a);
    x->flow = a.flow;
    if (a.suspended)
        rc = MHD_YES;
    else if (a.flow)
        rc = send_flow(c, a.flow);
    else if (a.bytes)
        rc =
            send_bytes(c, a.status, "application/octet-stream", a.bytes, a.len);
    else
        rc = send_json(c, a.status, a.json);
    pthread_mutex_unlock(&x->d->lock);
    return rc;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *c,
                              const char *url, const char *method,
                              const char *version, const char *data,
                              size_t *size, void **state) {
    struct daemon *d = cls;
    struct exchange *x = *state;
    (void)version;
    if (!x) {
        x = calloc(1, sizeof *x);
        CHECK(x, "out of memory for a request");
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(c, MHD_CONNECTION_INFO_DAEMON);
        x->d = d;
        x->tcp = i && i->daemon == d->tcp_http;
        bool ops = strncmp(url, "/fettle/v1/ops", 14) == 0;
        buf_init(&x->body, ops ? WIRE_MAX : BODY_MAX);
        exchange_check(x, c);
        *state = x;
        return MHD_YES;
    }
    if (*size > 0) {
        if (x->refused == ERR_NONE)
            buf_bytes(&x->body, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (x->refused != ERR_NONE)
        return send_error(c, x->refused, x->why);
    if (x->body.failed)
        return send_error(c, ERR_TOOBIG, "the body is too big");
    return exchange_route(x, c, url, method);
}

static void handled(void *cls, struct MHD_Connection *c, void **state,
                    enum MHD_RequestTerminationCode code) {
    struct exchange *x = *state;
    (void)cls;
    (void)c;
    (void)code;
    if (!x)
        return;
    if (x->flow) {
        pthread_mutex_lock(&x->d->lock);
        flow_cancel(x->flow);
        pthread_mutex_unlock(&x->d->lock);
    }
    buf_release(&x->body);
    free(x);
    *state = NULL;
}

/* ---- listening ---- */

static int unix_listen(struct daemon *d, struct err *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    d->socket = fs_path("%s/run/d.sock", d->o.home);
    if (strlen(d->socket) >= sizeof a.sun_path)
        return err_set(err, ERR_CONFIG,
                       "listen on %s: the path is longer than %zu bytes (use a "
                       "shorter --home)",
                       d->socket, sizeof a.sun_path - 1);
    memcpy(a.sun_path, d->socket, strlen(d->socket) + 1);
    unlink(d->socket); /* stale: we hold the lock */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof a);
    umask(old);
    if (rc < 0 || listen(fd, 128) < 0) {
        err_sys(err, "listen on %s", d->socket);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static int tcp_listen(const char *where, struct err *err) {
    char host[256];
    const char *colon = strrchr(where, ':');
    if (!colon || (size_t)(colon - where) >= sizeof host)
        return err_set(err, ERR_USAGE, "--tcp %s: HOST:PORT is wanted", where);
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || port < 1 || port > 65535)
        return err_set(err, ERR_USAGE,
                       "--tcp %s: a port from 1 to 65535 is wanted", where);
    snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
    struct addrinfo hint = {.ai_family = AF_UNSPEC,
                            .ai_socktype = SOCK_STREAM,
                            .ai_flags = AI_PASSIVE},
                    *list = NULL;
    int rc = getaddrinfo(host, colon + 1, &hint, &list);
    if (rc != 0)
        return err_set(err, ERR_USAGE, "--tcp %s: %s", where, gai_strerror(rc));
    int one = 1, fd = socket(list->ai_family,
                             SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 ||
        listen(fd, 128) < 0) {
        if (errno == EADDRINUSE)
            err_set(err, ERR_BUSY,
                    "listen on %s: the port is in use (choose another)", where);
        else
            err_sys(err, "listen on %s", where);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

static struct MHD_Daemon *http_start(struct daemon *d, int fd) {
    return MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
            MHD_USE_POLL | MHD_USE_ITC,
        0, NULL, NULL, handle, d, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_NOTIFY_COMPLETED, handled, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(64 << 10), MHD_OPTION_END);
}

int http_open(struct daemon *d, struct err *err) {
    if (d->o.tcp) {
        if (!d->o.token || strlen(d->o.token) < 16)
            return err_set(err, ERR_CONFIG,
                           "--tcp needs a token of at least "
                           "16 characters in FETTLE_TOKEN");
        int fd = tcp_listen(d->o.tcp, err);
        if (fd < 0)
            return -1;
        d->tcp_http = http_start(d, fd);
        if (!d->tcp_http)
            return err_set(err, ERR_IO, "listen on %s failed", d->o.tcp);
    }
    int fd = unix_listen(d, err);
    if (fd < 0)
        return -1;
    d->unix_http = http_start(d, fd);
    return d->unix_http
               ? 0
               : err_set(err, ERR_IO, "listen on %s failed", d->socket);
}

void http_close(struct daemon *d) {
    pthread_mutex_lock(&d->lock);
    d->stopping = true;
    waiters_tick(d);
    for (struct flow *f = d->flows; f; f = f->next) {
        if (!f->done)
            flow_error(f, ERR_UNAVAILABLE, "the daemon stops");
        flow_wake(f);
    }
    pthread_mutex_unlock(&d->lock);
    if (d->unix_http)
        MHD_stop_daemon(d->unix_http);
    if (d->tcp_http)
        MHD_stop_daemon(d->tcp_http);
    d->unix_http = d->tcp_http = NULL;
}
