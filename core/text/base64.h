/* base64 - the alphabet with + and /, as tokenizer files carry bytes. */
#ifndef FETTLE_CORE_TEXT_BASE64_H
#define FETTLE_CORE_TEXT_BASE64_H

#include "core/buf.h"

/* Into out (room for len * 3 / 4), n bytes; -1: a character that does not
 * belong. Padding may be missing. */
int base64_decode(const char *s, size_t len, uint8_t *out, size_t *n);
void base64_encode(struct buf *out, const uint8_t *s, size_t len);

#endif
