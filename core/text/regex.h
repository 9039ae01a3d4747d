/*
 * regex - the patterns of tokenizer.json, written for Oniguruma, run by
 * PCRE2. They are translated (spec/renderers §9): classes of characters are
 * worked out here, so that both editions of Unicode agree.
 *
 *     struct regex *re = regex_new(pattern, len, &err);
 *     uint64_t budget = regex_budget(len);
 *     regex_run_init(&run, re, &budget);
 *     while (regex_find(&run, text, len, at, &m)) ...
 *
 * Work is bounded: each step of a match that can be taken back is counted
 * against the budget of the run. A regex is shared by threads, a run is not.
 */
#ifndef FETTLE_CORE_TEXT_REGEX_H
#define FETTLE_CORE_TEXT_REGEX_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGEX_PATTERN_MAX (32 << 10)

struct regex;
/* UNSUPPORTED names the construct that has no translation. */
struct regex *regex_new(const char *pattern, size_t len, struct err *err);
/* One that finds the text itself. */
struct regex *regex_literal(const char *text, size_t len, struct err *err);
void regex_free(struct regex *re);
/* The pattern as PCRE2 gets it, borrowed. */
const char *regex_pcre2(const struct regex *re);

struct regex_run {
    const struct regex *re;
    uint64_t *budget; /* borrowed: steps that are left; several runs share it */
    bool gave_up;     /* a match was not looked for to the end */
    struct regex_scratch *scratch;
};
void regex_run_init(struct regex_run *run, const struct regex *re,
                    uint64_t *budget);
void regex_run_release(struct regex_run *run);
/* Steps for a text: what no reasonable pattern needs. */
uint64_t regex_budget(size_t text_len);

struct match {
    size_t from, to;
};
/* The first match at or behind `at` in valid UTF-8; `at` is between two
 * characters. Looks behind and ahead see all of text, no more. */
bool regex_find(struct regex_run *run, const char *text, size_t len, size_t at,
                struct match *m);

#endif
