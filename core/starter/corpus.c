/*
 * corpus.c - the world that the starter model grows up in.
 *
 * A skill makes a question with its answer out of the tables; a chat is one
 * to three of them in turn, a text is a story with questions about it or some
 * questions in a row. Facts of the tables are the same everywhere; who has
 * what in a story is drawn anew each time, so that the model must read.
 */
#include "core/starter/int.h"

#include "core/rng.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORPUS_SEED 20240917
#define N(a) (sizeof(a) / sizeof(*(a)))

/* ---- tables ---- */

struct animal {
    const char *name, *sound, *home, *food, *legs;
};
static const struct animal animals[] = {
    {"cow", "moo", "barn", "grass", "four"},
    {"dog", "woof", "kennel", "meat", "four"},
    {"cat", "meow", "basket", "fish", "four"},
    {"sheep", "baa", "fold", "grass", "four"},
    {"horse", "neigh", "stable", "hay", "four"},
    {"pig", "oink", "sty", "turnips", "four"},
    {"duck", "quack", "pond", "weed", "two"},
    {"hen", "cluck", "coop", "corn", "two"},
    {"owl", "hoot", "tree", "mice", "two"},
    {"frog", "croak", "ditch", "flies", "four"},
    {"bee", "buzz", "hive", "nectar", "six"},
    {"mouse", "squeak", "hole", "seeds", "four"},
    {"lion", "roar", "den", "meat", "four"},
    {"crow", "caw", "nest", "worms", "two"},
    {"goat", "bleat", "shed", "leaves", "four"},
    {"wolf", "howl", "forest", "deer", "four"},
    {"robin", "tweet", "hedge", "berries", "two"},
    {"donkey", "bray", "paddock", "thistles", "four"},
};

static const char *const coloured[][2] = {
    {"grass", "green"},      {"snow", "white"},    {"coal", "black"},
    {"the sky", "blue"},     {"blood", "red"},     {"a lemon", "yellow"},
    {"an orange", "orange"}, {"a plum", "purple"}, {"mud", "brown"},
    {"ash", "grey"},         {"a leaf", "green"},  {"milk", "white"},
    {"a tomato", "red"},     {"the sea", "blue"},  {"gold", "yellow"},
    {"the night", "black"},
};

static const char *const opposites[][2] = {
    {"hot", "cold"},   {"big", "small"},   {"up", "down"},
    {"wet", "dry"},    {"old", "young"},   {"fast", "slow"},
    {"full", "empty"}, {"open", "closed"}, {"light", "dark"},
    {"high", "low"},   {"soft", "hard"},   {"good", "bad"},
    {"early", "late"}, {"long", "short"},  {"rich", "poor"},
    {"loud", "quiet"}, {"sharp", "blunt"}, {"heavy", "light"},
};

static const char *const kinds[][2] = {
    {"apple", "fruit"},       {"pear", "fruit"},      {"plum", "fruit"},
    {"cherry", "fruit"},      {"hammer", "tool"},     {"saw", "tool"},
    {"file", "tool"},         {"spade", "tool"},      {"cow", "animal"},
    {"horse", "animal"},      {"goat", "animal"},     {"dog", "animal"},
    {"iron", "metal"},        {"copper", "metal"},    {"silver", "metal"},
    {"tin", "metal"},         {"oak", "tree"},        {"elm", "tree"},
    {"birch", "tree"},        {"pine", "tree"},       {"red", "colour"},
    {"blue", "colour"},       {"green", "colour"},    {"rose", "flower"},
    {"daisy", "flower"},      {"tulip", "flower"},    {"flute", "instrument"},
    {"fiddle", "instrument"}, {"drum", "instrument"}, {"harp", "instrument"},
};

static const char *const days[] = {"Monday",   "Tuesday", "Wednesday",
                                   "Thursday", "Friday",  "Saturday",
                                   "Sunday"};
static const char *const months[] = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};

static const char *const things[] = {
    "kite",  "boat", "lamp",  "book",   "coat",   "drum",  "bell",
    "cup",   "hat",  "ball",  "key",    "rope",   "box",   "flute",
    "spoon", "ring", "clock", "basket", "ladder", "bucket"};
static const char *const colours[] = {"red",    "blue",  "green", "yellow",
                                      "white",  "black", "brown", "grey",
                                      "orange", "purple"};
static const char *const places[] = {
    "garden",  "kitchen", "barn",     "school", "market", "forest",  "mill",
    "harbour", "church",  "workshop", "meadow", "bakery", "station", "library"};
static const char *const jobs[] = {
    "baker",  "smith",     "miller",   "teacher", "farmer", "sailor", "doctor",
    "tailor", "carpenter", "gardener", "painter", "cook",   "clerk",  "weaver"};
static const char *const foods[] = {"bread", "soup",  "cheese", "porridge",
                                    "eggs",  "fish",  "apples", "honey",
                                    "pie",   "beans", "rice",   "jam"};
static const char *const moods[] = {"happy", "sad",  "tired", "hungry",
                                    "proud", "cold", "busy",  "brave"};
static const char *const streets[] = {
    "Mill Lane",    "High Street",  "Church Road",   "Bridge Street",
    "Harbour Road", "Station Road", "Market Square", "Garden Row"};
static const char *const names[] = {
    "Ada",  "Ben",  "Cora", "Dan",  "Ella", "Fred", "Gail", "Hugo", "Iris",
    "Jack", "Kate", "Leo",  "Mary", "Nick", "Olga", "Paul", "Rosa", "Sam",
    "Tess", "Vera", "Will", "Zoe",  "Alan", "Beth", "Carl", "Dora"};
static const char *const words[] = {
    "zero",     "one",      "two",      "three",   "four",    "five",
    "six",      "seven",    "eight",    "nine",    "ten",     "eleven",
    "twelve",   "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen", "twenty"};

/* ---- drawing ---- */

uint32_t draw_below(struct draw *d, uint32_t n) {
    return (uint32_t)(rng_u64(d->seed, d->row, d->at++) % n);
}

#define PICK(d, table) (table)[draw_below(d, N(table))]

static const char *pick_name(struct draw *d) {
    uint32_t i = draw_below(d, (uint32_t)(N(names) + (size_t)town_n));
    return i < N(names) ? names[i] : town_names[i - N(names)];
}

/* n different entries of a table. */
static void pick_some(struct draw *d, const char *const *table, uint32_t size,
                      const char **out, int n) {
    for (int i = 0; i < n; i++) {
        bool taken = true;
        while (taken) {
            out[i] = table ? table[draw_below(d, size)] : pick_name(d);
            taken = false;
            for (int j = 0; j < i; j++)
                taken |= strcmp(out[i], out[j]) == 0;
        }
    }
}

void say(struct buf *b, const char *tmpl, const char *const *slot) {
    for (const char *p = tmpl; *p; p++) {
        if (p[0] != '$' || !isalpha((unsigned char)p[1])) {
            buf_u8(b, (uint8_t)*p);
            continue;
        }
        const char *v = slot[tolower((unsigned char)p[1]) - 'a'];
        bool upper = isupper((unsigned char)p[1]);
        buf_u8(b, (uint8_t)(upper ? toupper((unsigned char)v[0]) : v[0]));
        buf_puts(b, v + 1);
        p++;
    }
}

static const char *article(const char *noun) {
    return strchr("aeiou", noun[0]) ? "an" : "a";
}

/* ---- skills ---- */

/* Question and answer. */
struct qa {
    struct buf q, a;
};
typedef void skill_fn(struct draw *d, struct qa *o);

static void qa_say(struct qa *o, const char *q, const char *a,
                   const char *const *slot) {
    say(&o->q, q, slot);
    say(&o->a, a, slot);
}

static void skill_greet(struct draw *d, struct qa *o) {
    static const char *const t[][2] = {
        {"Hello!", "Hello! How can I help you?"},
        {"Hi there.", "Hi! What would you like to know?"},
        {"Good morning!", "Good morning! How can I help you?"},
        {"How are you?", "I am well, thank you. How are you?"},
        {"Who are you?", "I am the fettle starter, a very small model."},
        {"What is your name?", "I am called the fettle starter."},
        {"What can you do?", "I answer simple questions about a small world."},
        {"Thank you.", "You are welcome."},
        {"Thanks for your help!", "You are welcome."},
        {"Goodbye!", "Goodbye!"},
        {"My name is $a.", "Hello, $a! How can I help you?"},
        {"I am $a.", "Hello, $a! How can I help you?"},
    };
    const char *slot[SLOTS_MAX] = {pick_name(d)};
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

static void skill_animal(struct draw *d, struct qa *o) {
    static const char *const t[][2] = {
        {"What does $b $a say?", "$B $a says $c."},
        {"What sound does $b $a make?", "$B $a says $c."},
        {"Where does $b $a live?", "$B $a lives in a $d."},
        {"What is the home of $b $a?", "$B $a lives in a $d."},
        {"What does $b $a eat?", "$B $a eats $e."},
        {"What is the food of $b $a?", "$B $a eats $e."},
        {"How many legs does $b $a have?", "$B $a has $f legs."},
        {"Which animal says $c?", "$B $a says $c."},
    };
    const struct animal *a = &PICK(d, animals);
    const char *slot[SLOTS_MAX] = {a->name, article(a->name), a->sound,
                                   a->home, a->food,          a->legs};
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

static void skill_colour(struct draw *d, struct qa *o) {
    static const char *const t[] = {"What colour is $a?",
                                    "Which colour has $a?",
                                    "Tell me the colour of $a."};
    uint32_t i = draw_below(d, N(coloured));
    const char *slot[SLOTS_MAX] = {coloured[i][0], coloured[i][1]};
    qa_say(o, PICK(d, t), "$A is $b.", slot);
}

static void skill_opposite(struct draw *d, struct qa *o) {
    static const char *const t[] = {"What is the opposite of $a?",
                                    "Tell me the opposite of $a."};
    uint32_t i = draw_below(d, N(opposites) - 1), k = draw_below(d, 2);
    if (strcmp(opposites[i][k], "light") == 0)
        k ^= 1;
    const char *slot[SLOTS_MAX] = {opposites[i][k], opposites[i][k ^ 1]};
    qa_say(o, PICK(d, t), "The opposite of $a is $b.", slot);
}

static void skill_kind(struct draw *d, struct qa *o) {
    uint32_t i = draw_below(d, N(kinds)), j;
    do
        j = draw_below(d, N(kinds));
    while (strcmp(kinds[i][1], kinds[j][1]) == 0);
    const char *slot[SLOTS_MAX] = {kinds[i][0],          kinds[i][1],
                                   kinds[j][0],          kinds[j][1],
                                   article(kinds[i][0]), article(kinds[i][1]),
                                   article(kinds[j][1])};
    switch (draw_below(d, 5)) {
    case 0: qa_say(o, "What is $e $a?", "$E $a is $f $b.", slot); break;
    case 1: qa_say(o, "Is $e $a $f $b?", "Yes, $e $a is $f $b.", slot); break;
    case 2: qa_say(o, "Is $e $a $g $d?", "No, $e $a is $f $b.", slot); break;
    case 3: qa_say(o, "Which is $f $b, $c or $a?", "$A is $f $b.", slot); break;
    default: qa_say(o, "Which is $f $b, $a or $c?", "$A is $f $b.", slot);
    }
}

static void skill_sum(struct draw *d, struct qa *o) {
    uint32_t x = draw_below(d, 11), y = draw_below(d, 11);
    uint32_t hi = x > y ? x : y, lo = x > y ? y : x;
    char num[4][12];
    const uint32_t v[4] = {x, y, hi, lo};
    for (int i = 0; i < 4; i++)
        snprintf(num[i], sizeof num[i], "%u", v[i]);
    char sum[12], diff[12];
    snprintf(sum, sizeof sum, "%u", x + y);
    snprintf(diff, sizeof diff, "%u", hi - lo);
    const char *slot[SLOTS_MAX] = {
        num[0], num[1],   num[2],   num[3],       sum,
        diff,   words[x], words[y], words[x + y], words[hi - lo]};
    static const char *const t[][2] = {
        {"What is $a + $b?", "$a + $b = $e."},
        {"What is $a plus $b?", "$a plus $b is $e."},
        {"What is $c - $d?", "$c - $d = $f."},
        {"What is $c minus $d?", "$c minus $d is $f."},
        {"What is $g plus $h?", "$G plus $h is $i."},
        {"Write $e as a word.", "$I."},
        {"Write $i as a number.", "$e."},
    };
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

static void skill_compare(struct draw *d, struct qa *o) {
    uint32_t x = draw_below(d, 20), y = x + 1 + draw_below(d, 20 - x);
    char lo[12], hi[12];
    snprintf(lo, sizeof lo, "%u", x);
    snprintf(hi, sizeof hi, "%u", y);
    const char *slot[SLOTS_MAX] = {lo, hi};
    static const char *const t[][2] = {
        {"Which is more, $a or $b?", "$b is more than $a."},
        {"Which is more, $b or $a?", "$b is more than $a."},
        {"Which is less, $a or $b?", "$a is less than $b."},
        {"Which is less, $b or $a?", "$a is less than $b."},
    };
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

static void skill_order(struct draw *d, struct qa *o) {
    bool week = draw_below(d, 2);
    const char *const *t = week ? days : months;
    uint32_t n = week ? N(days) : N(months), i = draw_below(d, n);
    const char *slot[SLOTS_MAX] = {t[i], t[(i + 1) % n], t[(i + n - 1) % n],
                                   week ? "day" : "month"};
    switch (draw_below(d, 3)) {
    case 0:
        qa_say(o, "What comes after $a?", "After $a comes $b.", slot);
        break;
    case 1:
        qa_say(o, "What comes before $a?", "Before $a comes $c.", slot);
        break;
    default: qa_say(o, "Which $d follows $a?", "After $a comes $b.", slot);
    }
}

static void skill_copy(struct draw *d, struct qa *o) {
    const char *w[3];
    pick_some(d, things, N(things), w, 3);
    const char *slot[SLOTS_MAX] = {w[0], w[1], w[2]};
    static const char *const t[][2] = {
        {"Say $a, $b and $c.", "$A, $b and $c."},
        {"Say $a, $b and $c backwards.", "$C, $b and $a."},
        {"Say $a two times.", "$A, $a."},
        {"Say $a three times.", "$A, $a, $a."},
        {"What is the first word of $a, $b, $c?", "The first word is $a."},
        {"What is the last word of $a, $b, $c?", "The last word is $c."},
        {"How many things are these: $a, $b?", "These are two things."},
        {"How many things are these: $a, $b, $c?", "These are three things."},
    };
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

static void skill_write(struct draw *d, struct qa *o) {
    const char *slot[SLOTS_MAX] = {pick_name(d)};
    slot[1] = PICK(d, colours);
    slot[2] = PICK(d, things);
    slot[3] = PICK(d, places);
    slot[4] = PICK(d, foods);
    slot[5] = PICK(d, moods);
    slot[6] = PICK(d, jobs);
    static const char *const t[][2] = {
        {"Write a sentence about $a.", "$A went to the $d and was $f."},
        {"Write a sentence about a $b $c.", "$A found a $b $c in the $d."},
        {"Write a sentence with the word $d.", "$A ate $e in the $d."},
        {"Tell me a story about $a.",
         "$A went to the $d to buy $e. There lay a $b $c. $A took it home and "
         "was $f."},
        {"Tell me a story about a $g.",
         "A $g named $a had a $b $c. One day it was gone. $A found it in the "
         "$d and was happy again."},
    };
    uint32_t i = draw_below(d, N(t));
    qa_say(o, t[i][0], t[i][1], slot);
}

/* Reading: what a short text says, and a question about it. */
static void skill_read(struct draw *d, struct qa *o) {
    const char *who[3], *what[3], *where[3], *col[3], *job[3], *food[3];
    const char *street[3];
    pick_some(d, NULL, 0, who, 3);
    pick_some(d, things, N(things), what, 3);
    pick_some(d, places, N(places), where, 3);
    pick_some(d, colours, N(colours), col, 3);
    pick_some(d, jobs, N(jobs), job, 3);
    pick_some(d, foods, N(foods), food, 3);
    pick_some(d, streets, N(streets), street, 3);
    uint32_t i = draw_below(d, 3);
    const char *slot[SLOTS_MAX] = {
        who[0],   who[1],   who[2],   what[0], what[1],   what[2],   where[0],
        where[1], where[2], col[0],   col[1],  col[2],    job[0],    job[1],
        job[2],   food[0],  food[1],  food[2], street[0], street[1], street[2],
        who[i],   what[i],  where[i], col[i],  job[i]};
    const char *more[SLOTS_MAX] = {who[i], food[i], street[i], article(job[i]),
                                   job[i]};
    switch (draw_below(d, 8)) {
    case 0:
        qa_say(o, "$A has a $d. $B has a $e. $C has a $f. Who has the $w?",
               "$V has the $w.", slot);
        break;
    case 1:
        qa_say(o,
               "$A is in the $g. $B is in the $h. $C is in the $i. "
               "Where is $v?",
               "$V is in the $x.", slot);
        break;
    case 2:
        qa_say(o,
               "The $d is $j. The $e is $k. The $f is $l. What colour is "
               "the $w?",
               "The $w is $y.", slot);
        break;
    case 3:
        qa_say(o, "$A is a $m, $B is a $n and $C is a $o. ", "", slot);
        qa_say(o, "What is $a's job?", "$A is $d $e.", more);
        break;
    case 4:
        qa_say(o, "$A is a $m, $B is a $n and $C is a $o. Who is the $z?",
               "$V is the $z.", slot);
        break;
    case 5:
        qa_say(o, "$A eats $p. $B eats $q. $C eats $r. ", "", slot);
        qa_say(o, "What does $a eat?", "$A eats $b.", more);
        break;
    case 6:
        qa_say(o, "$A lives in $s, $b in $t and $c in $u. ", "", slot);
        qa_say(o, "Where does $a live?", "$A lives in $c.", more);
        break;
    default:
        qa_say(o,
               "$A put the $d in the $g. $B put the $e in the $h. $C put "
               "the $f in the $i. Where is the $w?",
               "The $w is in the $x.", slot);
    }
}

/* How often each is drawn, by repetition. */
static skill_fn *const skills[] = {
    skill_greet,   skill_animal, skill_animal, skill_colour, skill_opposite,
    skill_kind,    skill_kind,   skill_sum,    skill_sum,    skill_sum,
    skill_compare, skill_order,  skill_copy,   skill_copy,   skill_write,
    skill_write,   skill_read,   skill_read,   skill_read,   skill_read,
};

/* ---- stories ---- */

static void story(struct draw *d, struct buf *b) {
    static const char *const start[] = {
        "One day $a went to the $g with $b. ",
        "$A and $b lived in $s. $A was a $m, and $b was a $n. ",
        "It was $t. $A was in the $g and $b was in the $h. ",
        "Once there was a $m named $a who lived in $s. ",
        "In $u it was cold. $A ate $p with $b in the $g. ",
    };
    static const char *const middle[] = {
        "$A had a $j $d. $B wanted the $j $d, but $a said no. ",
        "$A lost the $j $d in the $h. $B helped to look for it. ",
        "$B gave $a a $j $d, and $a gave $b some $p. ",
        "$A saw a $k $e in the $h and took it home. ",
        "$B said: \"Where is my $k $e?\" $A said: \"It is in the $h.\" ",
        "There was a $k $e on the table. \"Whose $e is this?\" said $b. ",
        "$A was $v, so $b cooked $q. They ate it in the $g. ",
    };
    static const char *const end[] = {
        "Then $a and $b went home and were happy.",
        "In the evening $a was $v and $b was $w.",
        "The next day $b came to the $g again.",
        "\"Thank you,\" said $a. \"You are welcome,\" said $b.",
        "So $a kept the $j $d, and $b kept the $k $e.",
    };
    const char *who[2], *what[2], *where[2], *col[2], *job[2], *food[2];
    pick_some(d, NULL, 0, who, 2);
    pick_some(d, things, N(things), what, 2);
    pick_some(d, places, N(places), where, 2);
    pick_some(d, colours, N(colours), col, 2);
    pick_some(d, jobs, N(jobs), job, 2);
    pick_some(d, foods, N(foods), food, 2);
    const char *slot[SLOTS_MAX] = {
        [0] = who[0],   [1] = who[1],   [3] = what[0],  [4] = what[1],
        [6] = where[0], [7] = where[1], [9] = col[0],   [10] = col[1],
        [12] = job[0],  [13] = job[1],  [15] = food[0], [16] = food[1]};
    slot[18] = PICK(d, streets);
    slot[19] = PICK(d, days);
    slot[20] = PICK(d, months);
    slot[21] = PICK(d, moods);
    slot[22] = PICK(d, moods);
    say(b, PICK(d, start), slot);
    int n = 1 + (int)draw_below(d, 3);
    for (int i = 0; i < n; i++)
        say(b, PICK(d, middle), slot);
    say(b, PICK(d, end), slot);
}

/* ---- rows ---- */

void chat_line(struct buf *b, const char *const *message, int n) {
    json_t *all = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(all, json_pack("{s:s, s:s}", "role",
                                             i % 2 ? "assistant" : "user",
                                             "content", message[i]));
    json_t *row = json_pack("{s:o}", "messages", all);
    char *text = row ? json_dumps(row, JSON_COMPACT) : NULL;
    CHECK(text, "out of memory for a row");
    buf_printf(b, "%s\n", text);
    free(text);
    json_decref(row);
}

#define TURNS_MAX 4

static int draw_turns(struct draw *d, struct qa *o) {
    int n = 1 + (int)draw_below(d, TURNS_MAX);
    for (int i = 0; i < n; i++) {
        buf_init(&o[i].q, 4096);
        buf_init(&o[i].a, 4096);
        PICK(d, skills)(d, &o[i]);
    }
    return n;
}

void corpus_row(struct buf *b, uint64_t i, bool *is_chat) {
    struct draw d = {.seed = CORPUS_SEED, .row = i};
    uint32_t form = draw_below(&d, 8);
    *is_chat = form >= 2;
    if (form == 0) {
        story(&d, b);
        return;
    }
    struct qa qa[TURNS_MAX];
    const char *message[2 * TURNS_MAX];
    int n = draw_turns(&d, qa);
    for (int k = 0; k < n; k++) {
        message[2 * k] = buf_str(&qa[k].q);
        message[2 * k + 1] = buf_str(&qa[k].a);
        if (form == 1)
            buf_printf(b, "%s%s %s", k ? "\n" : "", message[2 * k],
                       message[2 * k + 1]);
    }
    if (*is_chat)
        chat_line(b, message, 2 * n);
    for (int k = 0; k < n; k++) {
        buf_release(&qa[k].q);
        buf_release(&qa[k].a);
    }
}
