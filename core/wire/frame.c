/* frame: u32 magic "FFR1", u32 type, u64 id, u64 length, then the bytes. */
#include "core/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAGIC 0x31524646u
#define FRAME_HEAD 24

static int frame_send(int fd, const uint8_t *p, size_t n, struct err *err) {
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
        if (w < 0 && errno == ENOTSOCK)
            w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_sys(err, "write frame");
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

int frame_write(int fd, enum frame_type type, uint64_t id, const void *data,
                size_t len, struct err *err) {
    struct buf b;
    buf_init(&b, FRAME_HEAD);
    buf_u32(&b, FRAME_MAGIC);
    buf_u32(&b, type);
    buf_u64(&b, id);
    buf_u64(&b, len);
    int rc = buf_check(&b, "write frame", err);
    if (rc == 0)
        rc = frame_send(fd, b.data, b.len, err);
    if (rc == 0)
        rc = frame_send(fd, data, len, err);
    buf_release(&b);
    return rc;
}

/* 1 = all n bytes, 0 = the end before the first, -1 = error. */
static int frame_recv(int fd, uint8_t *p, size_t n, struct err *err) {
    for (size_t have = 0; have < n;) {
        ssize_t r = read(fd, p + have, n - have);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_sys(err, "read frame");
        if (r == 0 && have == 0)
            return 0;
        if (r == 0)
            return err_set(err, ERR_UNAVAILABLE,
                           "read frame: the other side went away");
        have += (size_t)r;
    }
    return 1;
}

int frame_read(int fd, struct frame *f, struct err *err) {
    uint8_t head[FRAME_HEAD];
    struct cur c;
    *f = (struct frame){0};
    int rc = frame_recv(fd, head, sizeof head, err);
    if (rc != 1)
        return rc;
    cur_init(&c, head, sizeof head);
    uint32_t magic = cur_u32(&c), type = cur_u32(&c);
    f->id = cur_u64(&c);
    uint64_t len = cur_u64(&c);
    if (magic != FRAME_MAGIC || type >= FRAME_N || len > WIRE_MAX)
        return err_set(err, ERR_INVAL, "read frame: not a frame of fettle's");
    f->type = (enum frame_type)type;
    f->len = (size_t)len;
    f->data = malloc(f->len + 1);
    if (!f->data)
        return err_set(err, ERR_NOMEM, "read frame: no memory for %zu bytes",
                       f->len);
    rc = f->len ? frame_recv(fd, f->data, f->len, err) : 1;
    f->data[f->len] = 0;
    if (rc == 1)
        return 1;
    free(f->data);
    f->data = NULL;
    return rc < 0 ? -1
                  : err_set(err, ERR_UNAVAILABLE,
                            "read frame: the other side went away");
}
