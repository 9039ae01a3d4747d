/* int - what the files of core/ckpt share. */
#ifndef FETTLE_CORE_CKPT_INT_H
#define FETTLE_CORE_CKPT_INT_H

#include "core/ckpt.h"

#include <jansson.h>

#define CKPT_MANIFEST "MANIFEST.json"
#define CKPT_ADAPTER "adapter_model.safetensors"
#define CKPT_ADAPTER_CONF "adapter_config.json"
#define CKPT_MODEL "model.safetensors"
#define CKPT_OPTIMIZER "optimizer.safetensors"

/* Writes MANIFEST.json over the files that lie in dir; its bytes too. */
int manifest_write(const char *dir, const struct manifest *m, struct err *err);
int manifest_read(const char *dir, struct manifest *m, json_t **files,
                  struct err *err);

/* adapter_config.json as PEFT wants it. */
int peft_conf_write(const char *path, const struct manifest *m,
                    const struct trainer *tr, struct err *err);
/* Copies the tokenizer's files, the chat template and what ends a text. */
int text_files_copy(const char *from_dir, const char *to_dir, struct err *err);
/* Copies config.json (dtype float32) and the tokenizer's files. */
int base_files_copy(const char *base_dir, const char *to, struct err *err);

/* Room for `bytes` more on the file system of path, else NOSPACE. */
int space_check(const char *path, int64_t bytes, struct err *err);

/* A fresh directory beside path, ".tmp-<pid>-name"; free() it. */
/* FROM/config.json with one key changed as TO/config.json; takes the value. */
int conf_edit(const char *from_dir, const char *to_dir, const char *key,
              json_t *value, struct err *err);
char *tmp_dir_new(const char *path, struct err *err);

#endif
