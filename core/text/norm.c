/* norm: NFC. */
#include "core/text/norm.h"
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct norm {
    bool nfc;
};

struct norm_buf {
    utf8proc_uint8_t *text;
};

static int norm_add(struct norm *n, const json_t *conf, struct err *err) {
    const char *type = json_string_value(json_object_get(conf, "type"));
    if (!conf || json_is_null(conf))
        return 0;
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *all = json_object_get(conf, "normalizers"), *e;
        size_t i;
        json_array_foreach((json_t *)all, i,
                           e) if (norm_add(n, e, err) < 0) return -1;
        return 0;
    }
    if (!type || strcmp(type, "NFC") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "normalizer '%.40s' is not supported (supported: NFC)",
                       type ? type : "none");
    n->nfc = true;
    return 0;
}

struct norm *norm_new(const json_t *conf, struct err *err) {
    struct norm *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a normalizer");
    if (norm_add(n, conf, err) == 0)
        return n;
    norm_free(n);
    return NULL;
}

void norm_free(struct norm *n) { free(n); }

bool norm_is_none(const struct norm *n) { return !n->nfc; }

void norm_apply(const struct norm *n, const char *text, size_t len,
                struct norm_out *out) {
    out->text = text;
    out->len = len;
    out->at = NULL;
    if (!n->nfc || out->want_at)
        return;
    if (!out->buf)
        out->buf = calloc(1, sizeof *out->buf);
    CHECK(out->buf, "out of memory for text");
    free(out->buf->text);
    utf8proc_ssize_t k =
        utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)len,
                     &out->buf->text, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (k >= 0) {
        out->text = (const char *)out->buf->text;
        out->len = (size_t)k;
    }
}

void norm_out_release(struct norm_out *out) {
    if (out->buf)
        free(out->buf->text);
    free(out->buf);
    memset(out, 0, sizeof *out);
}
