/* unicode: searches of the generated tables; Hangul is computed. */
#include "core/text/unicode.h"

#define HANGUL_S 0xac00u
#define HANGUL_L 0x1100u
#define HANGUL_V 0x1161u
#define HANGUL_T 0x11a7u
#define HANGUL_NL 19u
#define HANGUL_NV 21u
#define HANGUL_NT 28u
#define HANGUL_NS (HANGUL_NL * HANGUL_NV * HANGUL_NT)

bool uni_in(const struct urange *r, int n, uint32_t c) {
    int lo = 0, hi = n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (r[mid].to < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && r[lo].from <= c;
}

int uni_lower_of(uint32_t c, uint32_t out[2]) {
    int lo = 0, hi = uni_lowercase_n;
    out[0] = c;
    if (c < 0x80) {
        out[0] += c >= 'A' && c <= 'Z' ? 32 : 0;
        return 1;
    }
    if (c == 0x130) { /* I with a dot: i, dot above */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (uni_lowercase[mid].from < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < uni_lowercase_n && uni_lowercase[lo].from == c)
        out[0] = uni_lowercase[lo].to;
    return 1;
}

uint8_t uni_script(uint32_t c) {
    int lo = 0, hi = uni_scripts_n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (uni_scripts[mid].to < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    bool in = lo < uni_scripts_n && uni_scripts[lo].from <= c;
    return in ? uni_scripts[lo].id : 0;
}

static uint32_t hangul_composed(uint32_t a, uint32_t b) {
    uint32_t l = a - HANGUL_L, v = b - HANGUL_V;
    uint32_t s = a - HANGUL_S, t = b - HANGUL_T;
    if (l < HANGUL_NL && v < HANGUL_NV)
        return HANGUL_S + (l * HANGUL_NV + v) * HANGUL_NT;
    if (s < HANGUL_NS && s % HANGUL_NT == 0 && t > 0 && t < HANGUL_NT)
        return a + t;
    return 0;
}

uint32_t uni_composed(uint32_t a, uint32_t b) {
    int lo = 0, hi = uni_compose_n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        const struct ucompose *p = &uni_compose[mid];
        if (p->a < a || (p->a == a && p->b < b))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < uni_compose_n && uni_compose[lo].a == a && uni_compose[lo].b == b)
        return uni_compose[lo].c;
    return hangul_composed(a, b);
}

int uni_decomposed(uint32_t c, bool compatible,
                   uint32_t out[UNI_DECOMPOSED_MAX]) {
    uint32_t s = c - HANGUL_S;
    if (s < HANGUL_NS) {
        out[0] = HANGUL_L + s / (HANGUL_NV * HANGUL_NT);
        out[1] = HANGUL_V + s / HANGUL_NT % HANGUL_NV;
        out[2] = HANGUL_T + s % HANGUL_NT;
        return s % HANGUL_NT ? 3 : 2;
    }
    const struct uform *f = uni_form(c);
    const uint32_t *t =
        &uni_form_text[compatible ? f->compatible : f->canonical];
    out[0] = c;
    if (!t[0])
        return 1;
    for (uint32_t i = 0; i < t[0]; i++)
        out[i] = t[1 + i];
    return (int)t[0];
}

int uni_put(uint32_t c, char s[4]) {
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, c >>= 6)
        s[i] = (char)(0x80 | (c & 0x3f));
    s[0] = (char)(lead[n] | c);
    return n;
}
