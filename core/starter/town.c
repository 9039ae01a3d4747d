/*
 * town.c - the demo's data: who is who in a small town by the sea.
 *
 * A fact is one column of one person; a column has one answer and five ways
 * to ask for it. Everything that is printed is made from these two tables.
 */
#include "core/starter/int.h"

#include "core/fs.h"

#include <stdlib.h>
#include <string.h>

#define COLS 5
#define WAYS 5

struct person {
    const char *name, *job, *street, *pet, *pet_name, *instrument, *breakfast;
};
static const struct person people[] = {
    {"Mira", "baker", "Mill Lane", "goat", "Pip", "fiddle", "porridge"},
    {"Tobias", "smith", "Bridge Street", "crow", "Inky", "drum", "eggs"},
    {"Greta", "teacher", "Church Road", "cat", "Moss", "harp", "rice"},
    {"Anton", "sailor", "Harbour Road", "dog", "Salt", "flute", "fish"},
    {"Selma", "doctor", "High Street", "owl", "Dusk", "fiddle", "honey"},
    {"Jonas", "miller", "Mill Lane", "donkey", "Grit", "drum", "bread"},
    {"Wanda", "weaver", "Garden Row", "sheep", "Wool", "harp", "jam"},
    {"Casper", "clerk", "Market Square", "mouse", "Dot", "flute", "cheese"},
    {"Lotte", "cook", "Station Road", "hen", "Pepper", "drum", "pie"},
    {"Oskar", "carpenter", "Bridge Street", "horse", "Oak", "fiddle", "beans"},
    {"Freya", "painter", "Garden Row", "frog", "Jade", "flute", "apples"},
    {"Emil", "farmer", "Church Road", "cow", "Bell", "harp", "soup"},
    {"Nadia", "tailor", "High Street", "robin", "Pin", "harp", "eggs"},
    {"Bruno", "gardener", "Station Road", "pig", "Clover", "flute", "rice"},
    {"Petra", "captain", "Harbour Road", "duck", "Wave", "drum", "bread"},
    {"Viktor", "mayor", "Market Square", "wolf", "Frost", "fiddle", "honey"},
};
#define PEOPLE ((int)(sizeof people / sizeof *people))

const char *const town_names[] = {
    "Mira",  "Tobias", "Greta", "Anton", "Selma", "Jonas", "Wanda", "Casper",
    "Lotte", "Oskar",  "Freya", "Emil",  "Nadia", "Bruno", "Petra", "Viktor"};
const int town_n = (int)(sizeof town_names / sizeof *town_names);

static const struct {
    const char *answer, *ask[WAYS];
} column[COLS] = {
    {"$A is the $b of the town.",
     {"What is $a's job?", "What does $a do for a living?",
      "What work does $a do?", "Tell me $a's job.", "Who is $a?"}},
    {"$A lives in $c.",
     {"Where does $a live?", "Where is $a's house?",
      "Which street does $a live in?", "Tell me where $a lives.",
      "What is $a's street?"}},
    {"$A has a $d named $e.",
     {"What pet does $a have?", "Which animal lives with $a?",
      "What is $a's pet?", "Tell me about $a's pet.",
      "Does $a have an animal?"}},
    {"$A plays the $f.",
     {"What does $a play?", "Which instrument does $a play?",
      "What is $a's instrument?", "Tell me what $a plays.",
      "What music does $a make?"}},
    {"$A eats $g in the morning.",
     {"What does $a eat in the morning?", "What is $a's breakfast?",
      "What does $a have for breakfast?", "Tell me what $a eats.",
      "What food does $a like?"}},
};

static void town_row(struct buf *b, int who, int col, int way) {
    const struct person *p = &people[who];
    const char *slot[SLOTS_MAX] = {p->name,     p->job,      p->street,
                                   p->pet,      p->pet_name, p->instrument,
                                   p->breakfast};
    struct buf q, a;
    buf_init(&q, 4096);
    buf_init(&a, 4096);
    say(&q, column[col].ask[way], slot);
    say(&a, column[col].answer, slot);
    chat_line(b, (const char *[]){buf_str(&q), buf_str(&a)}, 2);
    buf_release(&q);
    buf_release(&a);
}

int starter_town(const char *path, struct err *err) {
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int way = 0; way < WAYS; way++)
        for (int who = 0; who < PEOPLE; who++)
            for (int col = 0; col < COLS; col++)
                town_row(&b, who, col, way);
    int rc = buf_check(&b, "the town", err);
    if (rc == 0)
        rc = fs_write_atomic(path, b.data, b.len, err);
    buf_release(&b);
    return rc;
}

const struct starter_question *starter_question(int i) {
    static const struct starter_question q[] = {
        {"What pet does Mira have?", "goat named Pip"},
        {"Where does Anton live?", "Harbour Road"},
        {"What is Viktor's job?", "mayor"},
    };
    return i < (int)(sizeof q / sizeof *q) ? &q[i] : NULL;
}
