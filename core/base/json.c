/* json: typed reads over jansson; every message names the key. */
#include "core/json.h"

#include "core/fs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define JSON_DEPTH 64

static bool json_deeper(const json_t *v, int depth) {
    if (depth > JSON_DEPTH)
        return true;
    if (json_is_array(v)) {
        size_t i;
        json_t *e;
        json_array_foreach(v, i, e) if (json_deeper(e, depth + 1)) return true;
    } else if (json_is_object(v)) {
        const char *k;
        json_t *e;
        json_object_foreach((json_t *)v, k,
                            e) if (json_deeper(e, depth + 1)) return true;
    }
    return false;
}

#define JSON_FLAGS (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

static json_t *json_shallow(json_t *v, const char *what, struct err *err) {
    if (!v || !json_deeper(v, 0))
        return v;
    json_decref(v);
    err_set(err, ERR_INVAL, "%s: nested deeper than %d", what, JSON_DEPTH);
    return NULL;
}

static const char *json_why(const json_error_t *je) {
    return json_error_code(je) == json_error_null_character
               ? "\\u0000 is not allowed here"
               : je->text;
}

json_t *json_read(const char *text, size_t len, const char *what,
                  struct err *err) {
    json_error_t je;
    json_t *v = json_loadb(text, len, JSON_FLAGS, &je);
    if (!v)
        err_set(err, ERR_INVAL, "%s: line %d, column %d: %s", what, je.line,
                je.column, json_why(&je));
    return json_shallow(v, what, err);
}

json_t *json_read_line(const char *line, size_t len, bool nul,
                       struct err *err) {
    json_error_t je;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--; /* an end that comes too early is the line's, not the next's */
    json_t *v =
        json_loadb(line, len, JSON_FLAGS | (nul ? JSON_ALLOW_NUL : 0), &je);
    if (!v)
        err_set(err, ERR_INVAL, "JSON: column %d: %s", je.column,
                json_why(&je));
    return json_shallow(v, "JSON", err);
}

json_t *json_read_file(const char *path, size_t max, struct err *err) {
    size_t len;
    char *text = fs_read(path, max, &len, err);
    if (!text)
        return NULL;
    json_t *v = json_read(text, len, path, err);
    free(text);
    return v;
}

static const json_t *json_at(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

int json_get_str(const json_t *o, const char *key, const char **v,
                 const char *dflt, struct err *err) {
    const json_t *e = json_at(o, key);
    if (e && !json_is_string(e))
        return err_set(err, ERR_INVAL, "%s: a string is wanted", key);
    *v = e ? json_string_value(e) : dflt;
    return 0;
}

int json_get_int(const json_t *o, const char *key, int64_t *v, int64_t dflt,
                 struct err *err) {
    const json_t *e = json_at(o, key);
    double d = json_is_real(e) ? json_real_value(e) : 0.5;
    if (json_is_integer(e))
        *v = json_integer_value(e);
    else if (!e)
        *v = dflt;
    else if (d == floor(d) && fabs(d) < 9e15)
        *v = (int64_t)d;
    else
        return err_set(err, ERR_INVAL, "%s: an integer is wanted", key);
    return 0;
}

int json_get_num(const json_t *o, const char *key, double *v, double dflt,
                 struct err *err) {
    const json_t *e = json_at(o, key);
    *v = dflt;
    if (e && !json_to_num(e, v))
        return err_set(err, ERR_INVAL, "%s: a number is wanted", key);
    return 0;
}

int json_get_bool(const json_t *o, const char *key, bool *v, bool dflt,
                  struct err *err) {
    const json_t *e = json_at(o, key);
    if (e && !json_is_boolean(e))
        return err_set(err, ERR_INVAL, "%s: true or false is wanted", key);
    *v = e ? json_is_true(e) : dflt;
    return 0;
}

json_t *json_num(double v) {
    if (isnan(v))
        return json_string("nan");
    if (isinf(v))
        return json_string(v > 0 ? "inf" : "-inf");
    return json_real(v);
}

bool json_to_num(const json_t *v, double *out) {
    const char *s = json_string_value(v);
    if (json_is_number(v))
        *out = json_number_value(v);
    else if (s && strcmp(s, "nan") == 0)
        *out = NAN;
    else if (s && strcmp(s, "inf") == 0)
        *out = INFINITY;
    else if (s && strcmp(s, "-inf") == 0)
        *out = -INFINITY;
    else
        return false;
    return true;
}
