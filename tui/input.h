/*
 * input - bytes from a terminal made into events.
 *
 * Knows UTF-8, CSI and SS3 keys, modifiers, CSI-u, bracketed paste, focus,
 * SGR mouse, and the replies that term.c asks for. A lone Esc is told from a
 * sequence by time: what does not continue within esc_ms is a key. Bytes may
 * come split anywhere. Garbage is dropped, never misread as text to act on.
 *
 *     input_feed(in, bytes, n, now_ms);
 *     struct ev ev;
 *     while (input_next(in, now_ms, &ev)) handle(&ev);
 *     int wait_ms = input_wait(in, now_ms);   // -1: nothing pending
 *
 * Keys are written as one number: a code point or KEY_*, with MOD_* bits.
 * Capitals come as themselves ('P'); MOD_SHIFT is only on KEY_*; C-p is
 * MOD_CTRL | 'p'. One thread at a time.
 */
#ifndef FETTLE_TUI_INPUT_H
#define FETTLE_TUI_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MOD_CTRL 0x01000000u
#define MOD_ALT 0x02000000u
#define MOD_SHIFT 0x04000000u
#define MOD_MASK 0x07000000u

enum key {
    KEY_NONE = 0,
    KEY_ENTER = 13,
    KEY_TAB = 9,
    KEY_ESC = 27,
    KEY_BACKSPACE = 127,
    KEY_FIRST = 0x110000, /* above every code point */
    KEY_UP,
    KEY_DOWN,
    KEY_LEFT,
    KEY_RIGHT,
    KEY_HOME,
    KEY_END,
    KEY_PGUP,
    KEY_PGDN,
    KEY_INSERT,
    KEY_DELETE,
    KEY_F1, /* … KEY_F1 + 11 */
    KEY_F12 = KEY_F1 + 11,
    KEY_LAST
};

enum ev_kind {
    EV_NONE,
    EV_KEY,
    EV_PASTE,  /* text: the pasted bytes as they came, valid until the next
                  input_feed; sanitise */
    EV_MOUSE,  /* x, y, button, press */
    EV_FOCUS,  /* the terminal window got … */
    EV_BLUR,   /* … or lost the focus */
    EV_RESIZE, /* x, y: new width and height (from term.c) */
    EV_REPLY,  /* reply, value: for term.c, never reaches the application */
    EV_HANGUP, /* the terminal is gone, or SIGHUP, SIGTERM: leave now */
    EV_RESUME, /* back from a stop: everything was redrawn */
};

enum mouse_button { /* left, middle, right as xterm numbers them */
                    MOUSE_LEFT,
                    MOUSE_MIDDLE,
                    MOUSE_RIGHT,
                    MOUSE_WHEEL_UP,
                    MOUSE_WHEEL_DOWN
};
enum mouse_act { MOUSE_PRESS, MOUSE_RELEASE, MOUSE_DRAG };

enum reply { REPLY_NONE, REPLY_ACK, REPLY_BG, REPLY_MODE, REPLY_OTHER };

struct ev {
    enum ev_kind kind;
    uint32_t key;     /* EV_KEY, and the modifiers of EV_MOUSE */
    int x, y;         /* EV_MOUSE cell from 0; EV_RESIZE size */
    int button, act;  /* EV_MOUSE */
    const char *text; /* EV_PASTE */
    size_t n;
    enum reply reply;  /* EV_REPLY */
    int value, value2; /* REPLY_BG: 0xRRGGBB; REPLY_MODE: mode, state */
};

#define INPUT_ESC_MS 25
#define INPUT_PASTE_MAX (1 << 20) /* longer pastes are cut there */

struct input;

struct input *input_new(int esc_ms); /* NULL when memory is short */
void input_free(struct input *in);
void input_feed(struct input *in, const void *bytes, size_t n, int64_t now_ms);
/* The next event; false when there is none (yet). */
bool input_next(struct input *in, int64_t now_ms, struct ev *ev);
/* Milliseconds until input_next() should be asked again without new bytes,
 * because an Esc waits; -1 = no need. */
int input_wait(const struct input *in, int64_t now_ms);

/* "C-p", "M-Enter", "S-Tab", "F5", "Space", "x": what help shows and key
 * tables use. Returns KEY_NONE for an unknown name. */
uint32_t key_parse(const char *name, size_t n);
/* Writes the name; returns its length. */
size_t key_name(uint32_t key, char *buf, size_t cap);
/* The code point that the key types, 0 when it types nothing. */
uint32_t key_text(uint32_t key);

#endif
