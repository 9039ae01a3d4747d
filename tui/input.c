/*
 * input.c - a pull parser over the bytes that have come.
 *
 * parse() looks at the head of the buffer and says how many bytes the first
 * event takes; 0 = it may go on, wait. Invariants: 1. a call takes at least
 * one byte or waits; 2. what is taken does not depend on how the bytes were
 * split, only a pause within a sequence does; 3. no byte of an unknown
 * sequence is ever read as a key; 4. bytes between the paste brackets are
 * never keys.
 */
#include "tui/input.h"
#include "tui/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MAX (1 << 20)
#define SEQ_MAX 4096   /* longest string sequence looked at */
#define PARTIAL_MS 500 /* a cut sequence is given up after this */
#define PARAMS 8

struct input {
    char *buf; /* bytes at … len wait */
    size_t at, len, cap;
    char *paste; /* INPUT_PASTE_MAX at most */
    size_t npaste, paste_cap;
    bool in_paste;
    char skip; /* inside a sequence that was too long: '[' or ']', else 0 */
    int esc_ms;
    int64_t fed_ms;
};

struct input *input_new(int esc_ms) {
    struct input *in = calloc(1, sizeof *in);
    if (in)
        in->esc_ms = esc_ms > 0 ? esc_ms : INPUT_ESC_MS;
    return in;
}

void input_free(struct input *in) {
    if (!in)
        return;
    free(in->buf);
    free(in->paste);
    free(in);
}

/* Appends to a growing array with a maximum; drops what does not fit. */
static void append(char **p, size_t *len, size_t *cap, size_t max,
                   const char *s, size_t n) {
    if (n > max - *len)
        n = max - *len;
    if (*len + n > *cap) {
        size_t want = *len + n < 1024 ? 1024 : (*len + n) * 2;
        char *q = realloc(*p, want);
        if (!q)
            return;
        *p = q;
        *cap = want;
    }
    if (n > 0)
        memcpy(*p + *len, s, n);
    *len += n;
}

void input_feed(struct input *in, const void *bytes, size_t n, int64_t now_ms) {
    if (in->at > 0) {
        memmove(in->buf, in->buf + in->at, in->len - in->at);
        in->len -= in->at;
        in->at = 0;
    }
    append(&in->buf, &in->len, &in->cap, BUF_MAX, bytes, n);
    in->fed_ms = now_ms;
}

static void set_key(struct ev *ev, uint32_t key) {
    ev->kind = EV_KEY;
    ev->key = key;
}

/* The modifiers of a sequence's second parameter: 1 + bits. */
static uint32_t mods_of(int param) {
    uint32_t m = 0;
    int bits = param > 0 ? param - 1 : 0;
    if (bits & 1)
        m |= MOD_SHIFT;
    if (bits & 2)
        m |= MOD_ALT;
    if (bits & 4)
        m |= MOD_CTRL;
    return m;
}

/* ---- CSI ---- */

struct csi {
    char priv;         /* one of < = > ?, or 0 */
    int param[PARAMS]; /* -1 = left out */
    int sub;           /* sub-parameter of the second one (event type) */
    int n;
    char inter; /* last intermediate, or 0 */
    char final;
};

/* Parameters are cut at 65535; more than PARAMS are counted, not kept. */
static void csi_params(struct csi *c, const char *s, size_t n) {
    size_t i = 0;
    for (int k = 0; k < PARAMS; k++)
        c->param[k] = -1;
    if (n > 0 && s[0] >= '<' && s[0] <= '?')
        c->priv = s[i++];
    bool in_sub = false;
    for (; i < n; i++) {
        if (s[i] >= '0' && s[i] <= '9') {
            int *v = in_sub          ? (c->n == 1 ? &c->sub : NULL)
                     : c->n < PARAMS ? &c->param[c->n]
                                     : NULL;
            if (v && *v < 6553)
                *v = (*v < 0 ? 0 : *v) * 10 + (s[i] - '0');
        } else if (s[i] == ';') {
            c->n++;
            in_sub = false;
        } else if (s[i] == ':') {
            in_sub = true;
        } else if (s[i] >= ' ' && s[i] <= '/') {
            c->inter = s[i];
        }
    }
    if (c->n >= PARAMS)
        c->n = PARAMS - 1;
    c->n++;
}

static void csi_mouse(const struct csi *c, struct ev *ev) {
    int b = c->param[0], x = c->param[1], y = c->param[2];
    if (c->n < 3 || b < 0 || x < 1 || y < 1)
        return;
    ev->x = x - 1;
    ev->y = y - 1;
    ev->key = (b & 4 ? MOD_SHIFT : 0) | (b & 8 ? MOD_ALT : 0) |
              (b & 16 ? MOD_CTRL : 0);
    ev->act = c->final == 'm' ? MOUSE_RELEASE : MOUSE_PRESS;
    if (b & 64) {
        if ((b & 3) > 1)
            return;
        ev->button = b & 1 ? MOUSE_WHEEL_DOWN : MOUSE_WHEEL_UP;
    } else {
        if ((b & 3) == 3) /* motion without a button */
            return;
        ev->button = b & 3;
        if (b & 32)
            ev->act = MOUSE_DRAG;
    }
    ev->kind = EV_MOUSE;
}

static uint32_t tilde_key(int code) {
    switch (code) {
    case 1:
    case 7: return KEY_HOME;
    case 2: return KEY_INSERT;
    case 3: return KEY_DELETE;
    case 4:
    case 8: return KEY_END;
    case 5: return KEY_PGUP;
    case 6: return KEY_PGDN;
    default:
        if (code >= 11 && code <= 15)
            return KEY_F1 + (uint32_t)(code - 11);
        if (code >= 17 && code <= 21)
            return KEY_F1 + (uint32_t)(code - 12);
        if (code >= 23 && code <= 24)
            return KEY_F1 + (uint32_t)(code - 13);
        return KEY_NONE;
    }
}

static uint32_t letter_key(char final) {
    switch (final) {
    case 'A': return KEY_UP;
    case 'B': return KEY_DOWN;
    case 'C': return KEY_RIGHT;
    case 'D': return KEY_LEFT;
    case 'H': return KEY_HOME;
    case 'F': return KEY_END;
    case 'P':
    case 'Q':
    case 'R':
    case 'S': return KEY_F1 + (uint32_t)(final - 'P');
    default: return KEY_NONE;
    }
}

/* A key that came as a number: CSI code ; mods u. */
static void unicode_key(int code, int mods, struct ev *ev) {
    uint32_t m = mods_of(mods), key = (uint32_t)code;
    if (code == 8)
        key = KEY_BACKSPACE;
    bool is_named = key == KEY_TAB || key == KEY_ENTER || key == KEY_ESC ||
                    key == KEY_BACKSPACE;
    if (!is_named) {
        if (code < 32 || (code > 126 && code < 160) ||
            (code >= 0xD800 && code <= 0xF8FF))
            return;
        if (m & MOD_CTRL && key >= 'A' && key <= 'Z')
            key += 'a' - 'A';
        else if (m & MOD_SHIFT && !(m & MOD_CTRL) && key >= 'a' && key <= 'z')
            key -= 'a' - 'A';
        m &= ~MOD_SHIFT;
    }
    set_key(ev, m | key);
}

static void csi_event(struct input *in, const struct csi *c, struct ev *ev) {
    int p0 = c->param[0], p1 = c->param[1];
    uint32_t key = KEY_NONE;
    if (c->priv == '<' && (c->final == 'M' || c->final == 'm')) {
        csi_mouse(c, ev);
        return;
    }
    if (c->priv == '?' && c->inter == '$' && c->final == 'y') {
        ev->kind = EV_REPLY;
        ev->reply = REPLY_MODE;
        ev->value = p0;
        ev->value2 = p1;
        return;
    }
    if (c->priv || c->inter)
        return;
    switch (c->final) {
    case 'I': ev->kind = EV_FOCUS; return;
    case 'O': ev->kind = EV_BLUR; return;
    case 'n':
        ev->kind = EV_REPLY;
        ev->reply = p0 == 0 ? REPLY_ACK : REPLY_OTHER;
        return;
    case 'Z': set_key(ev, MOD_SHIFT | KEY_TAB); return;
    case 'u':
        if (p0 >= 0 && c->sub != 3)
            unicode_key(p0, p1, ev);
        return;
    case '~':
        if (p0 == 200) {
            in->in_paste = true;
            in->npaste = 0;
        } else if (p0 == 27 && c->n >= 3 && c->param[2] >= 0) {
            unicode_key(c->param[2], p1, ev);
        } else {
            key = tilde_key(p0);
        }
        break;
    default: key = letter_key(c->final);
    }
    if (key != KEY_NONE && c->sub != 3)
        set_key(ev, key | mods_of(p1));
}

/* After ESC [. Returns the bytes of the whole, 0 = wait. */
static size_t parse_csi(struct input *in, const char *s, size_t n,
                        struct ev *ev) {
    if (n > 2 && s[2] == '[') { /* the Linux console's F1 … F5 */
        if (n < 4)
            return 0;
        if (s[3] >= 'A' && s[3] <= 'E')
            set_key(ev, KEY_F1 + (uint32_t)(s[3] - 'A'));
        else if ((unsigned char)s[3] < ' ')
            return 3;
        return 4;
    }
    size_t i = 2;
    while (i < n && s[i] >= ' ' && s[i] <= '?')
        i++;
    if (i == n) {
        if (n <= SEQ_MAX)
            return 0;
        in->skip = '[';
        return n;
    }
    if (s[i] < '@' || s[i] == 0x7f)
        return i; /* broken off by something else */
    struct csi c = {.final = s[i]};
    csi_params(&c, s + 2, i - 2);
    if (s[i] == 'M' && i == 2) /* old mouse report: three bytes more */
        return n < 6 ? 0 : 6;
    csi_event(in, &c, ev);
    return i + 1;
}

/* ---- SS3, strings ---- */

static size_t parse_ss3(const char *s, size_t n, struct ev *ev) {
    size_t i = 2;
    int mods = 0;
    if (i < n && s[i] >= '1' && s[i] <= '9')
        mods = s[i++] - '0';
    if (i == n)
        return 0;
    if (s[i] < '@' || s[i] == 0x7f)
        return i;
    uint32_t key = letter_key(s[i]);
    if (s[i] == 'M')
        key = KEY_ENTER;
    else if (s[i] >= 'j' && s[i] <= 'y') /* keypad */
        key = (uint32_t) "*+,-./0123456789"[s[i] - 'j'];
    if (key != KEY_NONE)
        set_key(ev, key | mods_of(mods));
    return i + 1;
}

static int hex_of(char ch) {
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    return ch >= 'A' && ch <= 'F' ? ch - 'A' + 10 : -1;
}

/* "11;rgb:1e1e/1e1e/1e1e" */
static void osc_event(const char *s, size_t n, struct ev *ev) {
    static const char head[] = "11;rgb:";
    size_t i = sizeof head - 1;
    if (n < i || memcmp(s, head, i) != 0)
        return;
    int rgb = 0;
    for (int k = 0; k < 3; k++) {
        int v = 0, digits = 0;
        for (; i < n && hex_of(s[i]) >= 0 && digits < 4; i++, digits++)
            v = v * 16 + hex_of(s[i]);
        if (digits == 0 || (k < 2 && (i >= n || s[i++] != '/')))
            return;
        if (k == 2 && i != n)
            return;
        v = digits == 1 ? v * 17 : v >> (4 * (digits - 2));
        rgb = rgb << 8 | v;
    }
    ev->kind = EV_REPLY;
    ev->reply = REPLY_BG;
    ev->value = rgb;
}

/* OSC, DCS, APC, PM, SOS: to BEL or ESC \. Returns all its bytes, 0 = wait. */
static size_t parse_string(struct input *in, const char *s, size_t n,
                           struct ev *ev) {
    for (size_t i = 2; i < n; i++) {
        if (s[i] == 7) {
            if (s[1] == ']')
                osc_event(s + 2, i - 2, ev);
            return i + 1;
        }
        if (s[i] == 27) {
            if (i + 1 == n)
                return 0;
            if (s[i + 1] != '\\')
                return i; /* broken off by another sequence */
            if (s[1] == ']')
                osc_event(s + 2, i - 2, ev);
            return i + 2;
        }
        if (s[i] == 24 || s[i] == 26) /* CAN, SUB end it */
            return i + 1;
    }
    if (n > SEQ_MAX) {
        in->skip = ']';
        return n;
    }
    return 0;
}

/* ---- characters ---- */

static uint32_t control_key(unsigned char b) {
    switch (b) {
    case 0: return MOD_CTRL | ' ';
    case 8:
    case 127: return KEY_BACKSPACE;
    case 9: return KEY_TAB;
    case 13: return KEY_ENTER;
    case 27: return KEY_ESC;
    default: return MOD_CTRL | (uint32_t)(b < 27 ? b + 'a' - 1 : b + '@');
    }
}

static size_t parse_char(const char *s, size_t n, uint32_t mods,
                         struct ev *ev) {
    unsigned char b = (unsigned char)s[0];
    if (b < 32 || b == 127) {
        set_key(ev, control_key(b) | mods);
        return 1;
    }
    uint32_t cp;
    size_t used = utf8_decode(s, n, &cp);
    size_t want = b >= 0xF0 && b <= 0xF4   ? 4
                  : b >= 0xE0 && b <= 0xEF ? 3
                  : b >= 0xC2 && b <= 0xDF ? 2
                                           : 1;
    if (used == n && used < want)
        return 0;
    bool is_bad = used < want || (b >= 0x80 && want == 1);
    if (!is_bad && (cp < 0x80 || cp >= 0xA0))
        set_key(ev, cp | mods);
    return used;
}

/* The first event of s[0..n), n > 0. ev stays EV_NONE for what is dropped. */
static size_t parse(struct input *in, const char *s, size_t n, struct ev *ev) {
    if (s[0] != 27)
        return parse_char(s, n, 0, ev);
    if (n == 1)
        return 0;
    switch (s[1]) {
    case '[': return parse_csi(in, s, n, ev);
    case 'O': return parse_ss3(s, n, ev);
    case ']':
    case 'P':
    case '^':
    case '_':
    case 'X': return parse_string(in, s, n, ev);
    case 27: set_key(ev, KEY_ESC); return 1;
    default: {
        size_t used = parse_char(s + 1, n - 1, MOD_ALT, ev);
        return used ? used + 1 : 0;
    }
    }
}

/* Nothing more comes: what there is means this. Takes at least one byte. */
static size_t parse_cut(const char *s, size_t n, struct ev *ev) {
    if (s[0] != 27)
        return n; /* a cut character */
    if (n == 1) {
        set_key(ev, KEY_ESC);
        return 1;
    }
    if (n == 2 && (unsigned char)s[1] < 0x80)
        set_key(ev, MOD_ALT | (uint32_t)s[1]);
    return n;
}

static int patience_ms(const struct input *in, const char *s, size_t n) {
    return n <= 2 && s[0] == 27 ? in->esc_ms : PARTIAL_MS;
}

/* Moves pasted bytes aside; true when the closing bracket came. */
static bool take_paste(struct input *in) {
    static const char end[] = "\033[201~";
    const size_t k = sizeof end - 1;
    const char *s = in->buf + in->at;
    size_t n = in->len - in->at;
    const char *hit = n >= k ? memmem(s, n, end, k) : NULL;
    size_t take = hit ? (size_t)(hit - s) : n;
    if (!hit) /* keep what may be the bracket's beginning */
        for (size_t m = n < k - 1 ? n : k - 1; m > 0; m--)
            if (memcmp(s + n - m, end, m) == 0) {
                take = n - m;
                break;
            }
    append(&in->paste, &in->npaste, &in->paste_cap, INPUT_PASTE_MAX, s, take);
    in->at += take + (hit ? k : 0);
    return hit != NULL;
}

/* Drops the rest of an endless sequence; false = wait for more. */
static bool skip_rest(struct input *in) {
    while (in->at < in->len) {
        char b = in->buf[in->at];
        if (in->skip == '[' && (b < ' ' || b > '?')) {
            in->at += b >= '@' && b != 0x7f;
            in->skip = 0;
            return true;
        }
        if (in->skip == ']' && b == 27) {
            if (in->at + 1 == in->len)
                return false;
            in->at += in->buf[in->at + 1] == '\\' ? 2 : 0;
            in->skip = 0;
            return true;
        }
        in->at++;
        if (in->skip == ']' && (b == 7 || b == 24 || b == 26)) {
            in->skip = 0;
            return true;
        }
    }
    return true;
}

bool input_next(struct input *in, int64_t now_ms, struct ev *ev) {
    while (in->at < in->len) {
        memset(ev, 0, sizeof *ev);
        if (in->skip) {
            if (!skip_rest(in)) {
                if (now_ms - in->fed_ms < PARTIAL_MS)
                    return false;
                in->skip = 0;
            }
            continue;
        }
        if (in->in_paste) {
            if (!take_paste(in))
                return false;
            in->in_paste = false;
            ev->kind = EV_PASTE;
            ev->text = in->npaste ? in->paste : "";
            ev->n = in->npaste;
            return true;
        }
        const char *s = in->buf + in->at;
        size_t n = in->len - in->at, used = parse(in, s, n, ev);
        if (used == 0) {
            if (now_ms - in->fed_ms < patience_ms(in, s, n))
                return false;
            used = parse_cut(s, n, ev);
        }
        in->at += used;
        if (ev->kind != EV_NONE)
            return true;
    }
    return false;
}

int input_wait(const struct input *in, int64_t now_ms) {
    if (in->at >= in->len || in->in_paste)
        return -1;
    int64_t left = in->fed_ms +
                   patience_ms(in, in->buf + in->at, in->len - in->at) - now_ms;
    return left > 0 ? (int)left : 0;
}
