/*
 * starter - the small model that comes with fettle, and the data that made
 * it: a world of simple sentences, questions and answers, drawn from tables
 * by a counter-based generator, so that every machine makes the same bytes.
 *
 * The model has the architecture of Qwen 3 (2.6 M parameters) and a tokenizer
 * of its own, learnt from the same text. `make starter` writes it untrained,
 * trains it with `fettle run sft`, and puts it into core/starter/model.
 */
#ifndef FETTLE_CORE_STARTER_H
#define FETTLE_CORE_STARTER_H

#include "core/err.h"

#define STARTER_MODEL "fettle/starter" /* the name it is registered under */

/* Writes DIR/model (untrained), DIR/pretrain.jsonl (what it is trained on)
 * and DIR/town.jsonl (the demo's data). DIR is created. */
int starter_write(const char *dir, struct err *err);

/* Where the trained model lies: $FETTLE_STARTER, beside the source tree that
 * holds the program `exe`, or PREFIX/share/fettle/starter. free() it; NULL
 * and NOTFOUND. */
char *starter_find(const char *exe, struct err *err);

/* The demo's data: chats about the people of a town that the starter model
 * knows nothing of. Every fact is asked for in five ways. */
int starter_town(const char *path, struct err *err);
/* A question about the town, and what a right answer contains. */
struct starter_question {
    const char *ask, *want;
};
const struct starter_question *starter_question(int i); /* NULL behind all */

#endif
