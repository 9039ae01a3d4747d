/*
 * json - reading jansson values with errors that name the field.
 *
 * A getter with a default returns it when the key is absent or null, and fails
 * when the key has another type; `path` of the message is the key. Borrowed
 * values stay borrowed. Any thread.
 */
#ifndef FETTLE_CORE_JSON_H
#define FETTLE_CORE_JSON_H

#include "core/err.h"

#include <jansson.h>
#include <stdint.h>

/* A parsed file or text; the caller's, json_decref() it. The message names
 * `what`, the line and the column. Depth <= 64, duplicate keys refused. */
json_t *json_read_file(const char *path, size_t max, struct err *err);
json_t *json_read(const char *text, size_t len, const char *what,
                  struct err *err);
/* The value of one line of many; the message names the column, the caller the
 * line. nul: strings may hold NUL bytes, so use json_string_length(). */
json_t *json_read_line(const char *line, size_t len, bool nul, struct err *err);

int json_get_str(const json_t *o, const char *key, const char **v,
                 const char *dflt, struct err *err);
int json_get_int(const json_t *o, const char *key, int64_t *v, int64_t dflt,
                 struct err *err);
int json_get_num(const json_t *o, const char *key, double *v, double dflt,
                 struct err *err);
int json_get_bool(const json_t *o, const char *key, bool *v, bool dflt,
                  struct err *err);

/* A double as JSON; non-finite ones as the strings "nan", "inf", "-inf". */
json_t *json_num(double v);
/* The number back out of either form; false when it is neither. */
bool json_to_num(const json_t *v, double *out);

#endif
