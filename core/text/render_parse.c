/*
 * render_parse: the tokens of an answer back into a message.
 *
 * Two ways to fail are told apart: an answer whose frame is broken (no stop
 * token: malformed, its text is all there is), and one that ended well with a
 * call in it that cannot be read (unparsed_tool_calls says why).
 */
#include "core/text/render_shape.h"

#include "core/fs.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define DETAIL_MAX 16384
#define UNTERMINATED "unterminated tool block"

/* An answer on its way into a message. */
struct reply {
    json_t *parts;    /* text and thinking */
    json_t *calls;    /* as OpenAI's */
    json_t *unparsed; /* {"raw_text","error"} */
    const char *text; /* (len) what was said, without the stop */
    size_t len;
    bool is_plain;  /* no parts: content is the text */
    struct buf own; /* where text lies when it was put together */
};

/* ---- text ---- */

/* Bytes s..s+n of an answer. */
struct bit {
    const char *s;
    size_t n;
};

static struct bit bit_of(const char *s, const char *end) {
    return (struct bit){s, (size_t)(end - s)};
}

static const char *bit_find(struct bit b, const char *what) {
    return b.n ? memmem(b.s, b.n, what, strlen(what)) : NULL;
}

static const char *bit_find_last(struct bit b, const char *what) {
    const char *last = NULL, *at;
    struct bit rest = b;
    while ((at = bit_find(rest, what))) {
        last = at;
        rest = bit_of(at + 1, b.s + b.n);
    }
    return last;
}

static size_t bit_count(struct bit b, const char *what) {
    size_t n = 0;
    const char *end = b.s + b.n, *at;
    while ((at = bit_find(b, what))) {
        n++;
        b = bit_of(at + strlen(what), end);
    }
    return n;
}

static struct bit bit_strip(struct bit b, const char *set, int ends) {
    struct rich r = {.text = {.data = (uint8_t *)b.s, .len = b.n}};
    struct view v = view_strip(view_of(&r), set, ends);
    return (struct bit){b.s + v.from, view_len(&v)};
}

static bool bit_is(struct bit b, const char *s) {
    return b.n == strlen(s) && memcmp(b.s, s, b.n) == 0;
}

/* Takes `head` off the beginning; false when it is not there. */
static bool bit_take(struct bit *b, const char *head) {
    size_t n = strlen(head);
    if (b->n < n || memcmp(b->s, head, n) != 0)
        return false;
    b->s += n;
    b->n -= n;
    return true;
}

/* What stands between open and shut, at or behind b; b moves behind it. NULL
 * in s when there is no such. */
static struct bit bit_between(struct bit *b, const char *open,
                              const char *shut) {
    const char *end = b->s + b->n, *from = bit_find(*b, open), *to;
    struct bit none = {NULL, 0};
    if (!from)
        return none;
    from += strlen(open);
    if (!(to = bit_find(bit_of(from, end), shut)))
        return none;
    *b = bit_of(to + strlen(shut), end);
    return bit_of(from, to);
}

static json_t *bit_json(struct bit b) { return json_stringn(b.s, b.n); }

static struct bit json_bit(const json_t *j) {
    const char *s = json_string_value(j);
    return (struct bit){s ? s : "", s ? json_string_length(j) : 0};
}

/* ---- adding to a reply ---- */

static void add_part(struct reply *p, const char *type, struct bit text) {
    json_array_append_new(
        p->parts, json_pack("{s:s, s:s%}", "type", type, type, text.s, text.n));
}

static void add_call(struct reply *p, struct bit name, struct bit args,
                     struct bit id) {
    json_array_append_new(
        p->calls,
        json_pack("{s:s, s:o, s:{s:s%, s:s%}}", "type", "function", "id",
                  id.n ? bit_json(id) : json_null(), "function", "name", name.s,
                  name.n, "arguments", args.s, args.n));
}

/* A call whose arguments are an object; takes the reference. */
static void add_call_json(struct reply *p, struct bit name, json_t *args,
                          struct bit id) {
    struct buf b;
    buf_init(&b, RENDER_TEXT_MAX);
    py_dumps(&b, args, PY_ASCII);
    add_call(p, name, (struct bit){buf_str(&b), b.len}, id);
    buf_release(&b);
    json_decref(args);
}

static void add_unparsed(struct reply *p, struct bit raw, const char *why) {
    json_array_append_new(p->unparsed, json_pack("{s:s%, s:s}", "raw_text",
                                                 raw.s, raw.n, "error", why));
}

/* A block that was opened and not closed would pass for text. */
static bool add_dangling(struct reply *p, struct bit all, const char *open,
                         const char *shut) {
    size_t opens = bit_count(all, open);
    if (opens == 0 || opens <= bit_count(all, shut))
        return false;
    struct bit raw = bit_of(bit_find_last(all, open), all.s + all.n);
    raw.n = raw.n > DETAIL_MAX ? DETAIL_MAX : raw.n;
    while (raw.n && ((unsigned char)raw.s[raw.n - 1] & 0xc0) == 0x80 &&
           raw.n == DETAIL_MAX)
        raw.n--; /* not in the middle of a character */
    char why[160];
    snprintf(why, sizeof why, UNTERMINATED ": '%s' opened without '%s'", open,
             shut);
    add_unparsed(p, raw, why);
    return true;
}

/* Arguments that are JSON become a call, other ones an unparsed one. */
static void add_raw_call(struct reply *p, struct bit raw, struct bit name,
                         struct bit args, struct bit id) {
    struct err why = {0};
    json_t *j = py_loads(args.s, args.n, "Invalid JSON", &why);
    if (j)
        add_call(p, name, args, id);
    else
        add_unparsed(p, raw, why.msg);
    json_decref(j);
}

/* ---- reasoning and text ---- */

/* <think>…</think> told apart from text; without any, one text. */
static void parse_think(struct reply *p, struct bit all) {
    struct bit rest = all;
    if (!bit_find(all, "<think>")) {
        p->text = all.s;
        p->len = all.n;
        p->is_plain = true;
        return;
    }
    for (;;) {
        struct bit at = rest;
        struct bit why = bit_between(&at, "<think>", "</think>");
        if (!why.s)
            break;
        struct bit before = bit_of(rest.s, why.s - strlen("<think>"));
        if (before.n)
            add_part(p, "text", before);
        if (why.n)
            add_part(p, "thinking", why);
        rest = at;
    }
    if (rest.n)
        add_part(p, "text", rest);
}

/* {"name":…,"arguments":{…}} of a <tool_call>; what is wrong with it, or
 * NULL when it was added. */
static const char *call_of_json(struct reply *p, struct bit in) {
    struct err no = {0};
    struct bit b = bit_strip(in, NULL, BOTH);
    json_t *j = py_loads(b.s, b.n, "", &no);
    const json_t *name = json_object_get(j, "name");
    json_t *args = json_object_get(j, "arguments");
    const json_t *id = json_object_get(j, "id");
    const char *why = !j                      ? "Invalid JSON"
                      : !json_is_object(j)    ? "Tool call is not an object"
                      : !json_is_string(name) ? "Missing or invalid 'name'"
                      : !json_is_object(args) ? "Missing or invalid 'arguments'"
                                              : NULL;
    if (!why)
        add_call_json(p, json_bit(name), json_incref(args), json_bit(id));
    json_decref(j);
    return why;
}

/* Value of an XML argument: JSON if it is, else the text. */
static json_t *loose_value(struct bit v) {
    struct err no = {0};
    json_t *j = py_loads(v.s, v.n, "", &no);
    return j ? j : bit_json(v);
}

/* Arguments in a body: name and value between tags. false: what else is in
 * it; why says what. */
struct tags {
    const char *open, *mid; /* around the name */
    const char *value;      /* opens the value; NULL: mid does */
    const char *end;
};

/* The next argument of a body, which moves behind it. */
static bool take_arg(struct bit *body, const struct tags *g, struct bit *name,
                     struct bit *value) {
    const char *end = body->s + body->n, *from = bit_find(*body, g->open);
    const char *shut = from ? bit_find(bit_of(from, end), g->mid) : NULL;
    struct bit rest = {"", 0};
    for (; shut; shut = bit_find(bit_of(shut + 1, end), g->mid)) {
        rest = bit_of(shut + strlen(g->mid), end);
        if (!g->value)
            break;
        rest = bit_strip(rest, NULL, LEFT);
        if (bit_take(&rest, g->value))
            break;
    }
    const char *stop = shut ? bit_find(rest, g->end) : NULL;
    if (!stop)
        return false;
    *name = bit_of(from + strlen(g->open), shut);
    *value = bit_of(rest.s, stop);
    *body = bit_of(stop + strlen(g->end), end);
    return true;
}

static bool args_of_tags(struct bit body, const struct tags *g, json_t *args,
                         const char **why) {
    struct bit at = body, name, value;
    *why = "unexpected text beside the arguments";
    for (; take_arg(&at, g, &name, &value); body = at) {
        const char *open = name.s - strlen(g->open);
        if (bit_strip(bit_of(body.s, open), NULL, BOTH).n)
            return false;
        name = bit_strip(name, NULL, BOTH);
        if (!g->value) /* it stands on lines of its own */
            value = bit_strip(value, NULL, BOTH);
        if (!name.n) {
            *why = "an argument without a name";
            return false;
        }
        json_t *key = bit_json(name);
        if (key && json_string_length(key) == strlen(json_string_value(key)))
            json_object_set_new(args, json_string_value(key),
                                loose_value(value));
        json_decref(key);
    }
    return bit_strip(body, NULL, BOTH).n == 0;
}

static void call_of_tags(struct reply *p, struct bit raw, struct bit name,
                         struct bit body, const struct tags *g) {
    json_t *args = json_object();
    const char *why = "a call without a name";
    if (name.n && args_of_tags(body, g, args, &why))
        add_call_json(p, name, json_incref(args), (struct bit){"", 0});
    else
        add_unparsed(p, raw, why);
    json_decref(args);
}

/* <function=f><parameter=p>…</parameter></function> */
static void call_of_xml(struct reply *p, struct bit raw, struct bit in) {
    static const struct tags xml = {"<parameter=", ">", NULL, "</parameter>"};
    struct bit b = bit_strip(in, NULL, BOTH), name, body;
    const char *end = bit_find_last(b, "</function>"), *gt;
    if (!bit_take(&b, "<function=") || !end ||
        end + strlen("</function>") != b.s + b.n || !(gt = bit_find(b, ">")) ||
        gt == b.s || gt >= end || memchr(b.s, '\n', (size_t)(gt - b.s))) {
        add_unparsed(p, raw, "Malformed tool call in XML");
        return;
    }
    name = bit_strip(bit_of(b.s, gt), NULL, BOTH);
    body = bit_of(gt + 1, end);
    call_of_tags(p, raw, name, body, &xml);
}

static bool is_name_byte(unsigned char c) {
    return c >= 0x80 || isalnum(c) || c == '_' || c == '-' || c == '.';
}

/* name<arg_key>k</arg_key><arg_value>v</arg_value>… */
static void call_of_arg_keys(struct reply *p, struct bit raw, struct bit in) {
    static const struct tags glm = {"<arg_key>", "</arg_key>", "<arg_value>",
                                    "</arg_value>"};
    struct bit b = bit_strip(in, NULL, BOTH), name = b;
    name.n = 0;
    while (name.n < b.n && is_name_byte((unsigned char)name.s[name.n]))
        name.n++;
    call_of_tags(p, raw, name, bit_of(name.s + name.n, b.s + b.n), &glm);
}

/* A block that is JSON, or else as the family writes it. */
static void call_of_block(struct reply *p, enum calls_style style,
                          struct bit raw, struct bit in) {
    const char *why = call_of_json(p, in);
    if (!why)
        return;
    if (style == CALLS_XML && bit_find(raw, "<function="))
        call_of_xml(p, raw, in);
    else if (style == CALLS_ARG_KEY)
        call_of_arg_keys(p, raw, in);
    else
        add_unparsed(p, raw, why);
}

/* The next block of each kind, so that a text is searched once. */
struct blocks {
    const char *at[2]; /* <think>, <tool_call>; NULL = no more */
};
static const char *const block_tags[][2] = {{"<think>", "</think>"},
                                            {"<tool_call>", "</tool_call>"}};

/* The first block of kind i in b, when it is closed. */
static void blocks_find(struct blocks *k, int i, struct bit b) {
    k->at[i] = bit_find(b, block_tags[i][0]);
    if (k->at[i] && !bit_find(bit_of(k->at[i], b.s + b.n), block_tags[i][1]))
        k->at[i] = NULL;
}

/* Moves to the first blocks in b, which has become shorter. */
static void blocks_move(struct blocks *k, struct bit b) {
    for (int i = 0; i < 2; i++)
        if (k->at[i] && k->at[i] < b.s)
            blocks_find(k, i, b);
}

/* Text with <think> and <tool_call> blocks in any order. */
static void parse_blocks(struct reply *p, enum calls_style style,
                         struct bit all) {
    struct bit rest = all;
    struct blocks k;
    if (!bit_find(all, "<think>") && !bit_find(all, "<tool_call>")) {
        p->is_plain = true;
        return;
    }
    blocks_find(&k, 0, all);
    blocks_find(&k, 1, all);
    for (; k.at[0] || k.at[1]; blocks_move(&k, rest)) {
        bool is_call = !k.at[0] || (k.at[1] && k.at[1] < k.at[0]);
        const char *at = k.at[is_call];
        struct bit b = bit_of(at, rest.s + rest.n), in;
        if (at > rest.s)
            add_part(p, "text", bit_of(rest.s, at));
        in = bit_between(&b, block_tags[is_call][0], block_tags[is_call][1]);
        if (is_call)
            call_of_block(p, style, bit_of(at, b.s), in);
        else if (in.n)
            add_part(p, "thinking", in);
        rest = b;
    }
    if (rest.n)
        add_part(p, "text", rest);
}

/* ---- shapes ---- */

static struct bit reply_bit(const struct reply *p) {
    return (struct bit){p->text, p->len};
}

static json_t *part_text(json_t *part, const char **type) {
    *type = json_string_value(json_object_get(part, "type"));
    return json_object_get(part, *type);
}

static void part_set(json_t *part, const char *type, struct bit b) {
    json_object_set_new(part, type, bit_json(b));
}

/* Takes the frame of Qwen 3 off: newlines around reasoning. */
static void unframe(struct reply *p) {
    json_t *old = p->parts, *part;
    bool after = false;
    const char *type;
    size_t i;
    p->parts = json_array();
    json_array_foreach(old, i, part) {
        struct bit b = json_bit(part_text(part, &type));
        bool thinking = strcmp(type, "thinking") == 0;
        if (thinking)
            b = bit_strip(b, "\n", BOTH);
        else if (after)
            b = bit_strip(b, "\n", LEFT);
        if (!thinking || b.n)
            add_part(p, type, b);
        after = thinking;
    }
    json_decref(old);
}

void parse_qwen3(const struct render *r, struct reply *p) {
    struct bit all = reply_bit(p);
    parse_blocks(p, r->family->calls_style, all);
    if (r->family->flags & FAM_THINKS)
        unframe(p);
    add_dangling(p, all, "<tool_call>", "</tool_call>");
}

/* Reasoning up to the first text behind it, without its white space. */
static void unframe_xml(struct reply *p) {
    bool seen = false;
    const char *type;
    for (size_t i = 0; i < json_array_size(p->parts); i++) {
        json_t *part = json_array_get(p->parts, i);
        struct bit b = json_bit(part_text(part, &type));
        if (strcmp(type, "thinking") == 0)
            part_set(part, type, bit_strip(b, NULL, BOTH));
        else if (seen)
            break;
        seen = seen || strcmp(type, "thinking") == 0;
    }
}

void parse_xml(const struct render *r, struct reply *p) {
    parse_qwen3(r, p);
    if (r->family->calls_style == CALLS_XML)
        unframe_xml(p);
}

void parse_glm(const struct render *r, struct reply *p) {
    parse_blocks(p, r->family->calls_style, reply_bit(p));
}

static bool is_call_id(struct bit id) {
    size_t n = id.n;
    while (n && isdigit((unsigned char)id.s[n - 1]))
        n--;
    return n > 1 && n < id.n && id.s[n - 1] == ':' && !memchr(id.s, '<', id.n);
}

/* Calls between the table's tokens; the text before them stays. */
static void calls_of_tokens(struct reply *p, const struct family *f,
                            struct bit section) {
    for (;;) {
        const char *raw = bit_find(section, f->calls[1]), *dot, *colon;
        struct bit in = bit_between(&section, f->calls[1], f->calls[3]);
        struct bit none = {"", 0}, name, args, id = none;
        const char *mid = in.s ? bit_find(in, f->calls[2]) : NULL;
        if (!in.s)
            return;
        if (!mid)
            continue;
        name = bit_strip(bit_of(in.s, mid), NULL, BOTH);
        args = bit_strip(bit_of(mid + strlen(f->calls[2]), in.s + in.n), NULL,
                         BOTH);
        if (f->calls_style == CALLS_IDS) { /* functions.name:0 */
            id = name;
            if (!is_call_id(id))
                continue;
            colon = memchr(name.s, ':', name.n);
            name.n = (size_t)(colon - name.s);
            if ((dot = memchr(name.s, '.', name.n)))
                name = bit_of(dot + 1, colon);
        }
        if (name.n && !memchr(name.s, '<', name.n))
            add_raw_call(p, bit_of(raw, section.s), name, args, id);
    }
}

void parse_deepseek3(const struct render *r, struct reply *p) {
    const struct family *f = r->family;
    struct bit all = reply_bit(p), rest = all, section;
    struct buf *b = &p->own;
    section = bit_between(&rest, f->calls[0], f->calls[4]);
    if (section.s)
        calls_of_tokens(p, f, section);
    if (!add_dangling(p, all, f->calls[0], f->calls[4]))
        add_dangling(p, all, f->calls[1], f->calls[3]);
    if (json_array_size(p->calls) || json_array_size(p->unparsed)) {
        const char *from = all.s;
        rest = all;
        while ((section = bit_between(&rest, f->calls[0], f->calls[4])).s) {
            struct bit before = bit_strip(
                bit_of(from, section.s - strlen(f->calls[0])), NULL, RIGHT);
            buf_bytes(b, before.s, before.n);
            from = rest.s;
        }
        buf_bytes(b, from, (size_t)(all.s + all.n - from));
        all = bit_strip((struct bit){buf_str(b), b->len}, NULL, BOTH);
    }
    parse_think(p, all);
}

/* An <｜DSML｜ invoke>: its parameters. */
static void call_of_invoke(struct reply *p, struct bit raw, struct bit name,
                           struct bit body) {
    static const char open[] = "<｜DSML｜ parameter name=\"";
    static const char mid[] = "\" string=\"", shut[] = "</｜DSML｜ parameter>";
    json_t *args = json_object();
    const char *why = bit_strip(name, NULL, BOTH).n
                          ? NULL
                          : "Invalid DSML: empty function name";
    while (!why) {
        struct bit at = body, key = bit_between(&at, open, mid), kind, value;
        if (!key.s) {
            if (bit_strip(body, NULL, BOTH).n)
                why = "Invalid DSML: text outside parameters";
            break;
        }
        if (bit_strip(bit_of(body.s, key.s - strlen(open)), NULL, BOTH).n)
            why = "Invalid DSML: text outside parameters";
        const char *gt = bit_find(at, "\">"), *end;
        kind = bit_of(at.s, gt ? gt : at.s);
        end = gt ? bit_find(bit_of(gt, at.s + at.n), shut) : NULL;
        if (!end || (!bit_is(kind, "true") && !bit_is(kind, "false"))) {
            why = "Invalid DSML: text outside parameters";
            break;
        }
        value = bit_of(gt + 2, end);
        body = bit_of(end + strlen(shut), at.s + at.n);
        struct err no = {0};
        json_t *v = bit_is(kind, "true") ? bit_json(value)
                                         : py_loads(value.s, value.n, "", &no);
        json_t *k = bit_json(key);
        const char *name_of = json_string_value(k);
        if (!v)
            why = "Invalid DSML: a value that is not JSON";
        else if (!bit_strip(key, NULL, BOTH).n)
            why = "Invalid DSML: empty parameter name";
        else if (json_object_get(args, name_of))
            why = "Invalid DSML: duplicate parameter";
        else
            json_object_set(args, name_of, v);
        json_decref(v);
        json_decref(k);
    }
    if (why)
        add_unparsed(p, raw, why);
    else
        add_call_json(p, name, json_incref(args), (struct bit){"", 0});
    json_decref(args);
}

static void calls_of_dsml(struct reply *p, struct bit block, struct bit in) {
    static const char open[] = "<｜DSML｜ invoke name=\"", mid[] = "\">\n";
    static const char shut[] = "</｜DSML｜ invoke>";
    struct bit rest = in;
    size_t n = 0;
    bool clean = true;
    for (;;) { /* first: is there anything but invokes? */
        struct bit at = rest, name = bit_between(&at, open, mid);
        const char *end = name.s ? bit_find(at, shut) : NULL;
        if (!end) {
            clean = clean && bit_strip(rest, NULL, BOTH).n == 0;
            break;
        }
        clean = clean &&
                !bit_strip(bit_of(rest.s, name.s - strlen(open)), NULL, BOTH).n;
        rest = bit_of(end + strlen(shut), at.s + at.n);
        n++;
    }
    if (n == 0 || !clean) {
        add_unparsed(p, block, "Invalid DSML: malformed invoke");
        return;
    }
    for (rest = in; n-- > 0;) {
        struct bit name = bit_between(&rest, open, mid);
        const char *end = bit_find(rest, shut);
        struct bit body = bit_of(rest.s, end);
        call_of_invoke(p, bit_of(name.s - strlen(open), end + strlen(shut)),
                       name, body);
        rest = bit_of(end + strlen(shut), rest.s + rest.n);
    }
}

void parse_deepseek4(const struct render *r, struct reply *p) {
    static const char open[] = "<｜DSML｜ calls>", shut[] = "</｜DSML｜ calls>";
    struct bit all = reply_bit(p), rest = all, text = all;
    struct bit in = bit_between(&rest, open, shut);
    (void)r;
    if (in.s) {
        const char *from = in.s - strlen(open);
        if (from - all.s >= 2 && memcmp(from - 2, "\n\n", 2) == 0)
            from -= 2;
        calls_of_dsml(p, bit_of(from, rest.s), in);
        if (bit_strip(rest, NULL, BOTH).n)
            add_unparsed(p, rest, "Invalid DSML: output after calls block");
        text = bit_of(all.s, from);
    }
    if (!add_dangling(p, text, open, shut) && bit_find(text, "｜DSML｜"))
        add_unparsed(p, text, "Invalid DSML: marker outside a calls block");
    parse_think(p, text);
}

/* Kimi's sections have two spellings. */
void parse_kimi(const struct render *r, struct reply *p) {
    static const char *const mark[][2] = {
        {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
        {"<|tool_call_section_begin|>", "<|tool_call_section_end|>"},
        {"<|tool_call_begin|>", "<|tool_call_end|>"}};
    struct bit all = reply_bit(p), text = all, best = {NULL, 0};
    for (int i = 0; i < 2; i++) {
        struct bit rest = all;
        struct bit in = bit_between(&rest, mark[i][0], mark[i][1]);
        if (in.s && (!best.s || in.s < best.s)) {
            best = in;
            text = bit_of(all.s, in.s - strlen(mark[i][0]));
        }
    }
    if (best.s)
        calls_of_tokens(p, r->family, best);
    for (int i = 0; i < 3; i++)
        if (add_dangling(p, all, mark[i][0], mark[i][1]))
            break;
    parse_think(p, text);
}

/* The first word that stands right behind `what` in a header of harmony. */
static struct bit header_word(struct bit header, const char *what) {
    const char *end = header.s + header.n, *at;
    struct bit word = {"", 0};
    while (word.n == 0 && (at = bit_find(header, what))) {
        word.s = at + strlen(what);
        while (word.s + word.n < end && !strchr("< \t\r\n", word.s[word.n]))
            word.n++;
        header = bit_of(word.s, end);
    }
    return word;
}

/* One message of harmony: its header, its body. */
static void harmony_message(struct reply *p, struct bit raw, struct bit header,
                            struct bit body) {
    struct bit to = header_word(header, "to="), none = {"", 0};
    struct bit channel = header_word(header, "<|channel|>");
    if (!bit_strip(body, NULL, BOTH).n)
        return;
    if (bit_take(&to, "functions.")) {
        add_raw_call(p, raw, to, bit_strip(body, NULL, BOTH), none);
        return;
    }
    if (bit_is(channel, "analysis"))
        add_part(p, "thinking", body);
    else if (bit_is(channel, "final") || bit_is(channel, "commentary"))
        add_part(p, "text", body);
}

/* The first token that ends a message, the text's end when there is none, and
 * what is behind it. */
static const char *harmony_end(struct bit b, const char **next) {
    static const char *const ends[] = {"<|end|>", "<|call|>", "<|return|>"};
    const char *end = b.s + b.n, *at = b.s;
    for (; (at = memchr(at, '<', (size_t)(end - at))); at++)
        for (int i = 0; i < 3; i++) {
            struct bit rest = bit_of(at, end);
            if (bit_take(&rest, ends[i])) {
                *next = rest.s;
                return at;
            }
        }
    *next = end;
    return end;
}

void parse_harmony(const struct render *r, struct reply *p) {
    struct bit all = reply_bit(p), rest = all;
    const char *at, *end = all.s + all.n;
    (void)r;
    while ((at = bit_find(rest, "<|message|>"))) {
        struct bit header = bit_of(rest.s, at);
        const char *start = bit_find_last(header, "<|start|>");
        const char *from = at + strlen("<|message|>"), *to, *next;
        if (start)
            header = bit_of(start, at);
        to = harmony_end(bit_of(from, end), &next);
        harmony_message(p, bit_of(header.s, next), header, bit_of(from, to));
        rest = bit_of(next, end);
    }
    if (bit_count(all, "to=functions.") >
        json_array_size(p->calls) + json_array_size(p->unparsed)) {
        const char *start = bit_find_last(all, "<|start|>");
        add_unparsed(p, start ? bit_of(start, end) : all,
                     UNTERMINATED ": a header of a call without arguments");
    }
    p->is_plain = json_array_size(p->parts) == 0;
}

/* A call's name and pairs; false when they cannot be read. */
static bool gemma4_call(struct reply *p, struct bit in) {
    const char *open = bit_find(in, "{");
    json_t *args =
        open ? gemma4_args(open, (size_t)(in.s + in.n - open)) : NULL;
    if (args && open > in.s)
        add_call_json(p, bit_of(in.s, open), json_incref(args),
                      (struct bit){"", 0});
    json_decref(args);
    return args && open > in.s;
}

void parse_gemma4(const struct render *r, struct reply *p) {
    static const char open[] = "<|tool_call>call:", shut[] = "<tool_call|>";
    struct bit all = reply_bit(p), rest = all, at = all, in;
    struct bit why = bit_between(&at, r->family->think[0], "<channel|>");
    if (why.s) {
        if (bit_strip(why, "\n", BOTH).n)
            add_part(p, "thinking", bit_strip(why, "\n", BOTH));
        rest = at;
    }
    at = rest;
    while ((in = bit_between(&at, open, shut)).s) {
        const char *from = in.s - strlen(open);
        buf_bytes(&p->own, rest.s, (size_t)(from - rest.s));
        if (!gemma4_call(p, in))
            add_unparsed(p, bit_of(from, at.s), "not name:value pairs");
        rest = at;
    }
    buf_bytes(&p->own, rest.s, rest.n);
    add_dangling(p, rest, "<|tool_call>", shut);
    struct bit text = {buf_str(&p->own), p->own.len};
    if (json_array_size(p->parts) == 0) {
        p->text = text.s;
        p->len = text.n;
        p->is_plain = true;
    } else if (text.n) {
        add_part(p, "text", text);
    }
}

/* Calls that nothing closes: each ends where the next begins (Mistral). The
 * text before them. */
static struct bit open_calls(const struct family *f, struct reply *p,
                             struct bit all) {
    const char *at = bit_find(all, f->calls[1]), *end = all.s + all.n;
    struct bit text = bit_of(all.s, at ? at : end), none = {"", 0};
    while (at) {
        const char *from = at + strlen(f->calls[1]);
        const char *next = bit_find(bit_of(from, end), f->calls[1]);
        struct bit in = bit_of(from, next ? next : end);
        const char *mid = bit_find(in, f->calls[2]);
        struct bit raw = bit_of(at, in.s + in.n);
        if (mid && mid > from)
            add_raw_call(p, raw, bit_of(from, mid),
                         bit_of(mid + strlen(f->calls[2]), in.s + in.n), none);
        else
            add_unparsed(p, raw, "a call without name and arguments");
        at = next;
    }
    return text;
}

void parse_plain(const struct render *r, struct reply *p) {
    struct bit all = reply_bit(p);
    if (r->family->calls_style == CALLS_JSON) {
        parse_qwen3(r, p);
        return;
    }
    if (r->family->calls_style == CALLS_TOKENS)
        all = open_calls(r->family, p, all);
    p->is_plain = true;
    if (r->family->flags & FAM_COLON) {
        bit_take(&all, " ");
        if (all.n >= 2 && memcmp(all.s + all.n - 2, "\n\n", 2) == 0)
            all.n -= 2;
    }
    p->text = all.s;
    p->len = all.n;
}

/* ---- a reply as a message ---- */

static const char *const end_names[] = {"stop_sequence", "eos", "malformed"};

const char *reply_end_name(enum reply_end e) { return end_names[e]; }

static bool is_stop(const struct render *r, uint32_t id) {
    for (int i = 0; i < r->n_stop; i++)
        if (r->stop[i] == id)
            return true;
    return false;
}

/* How many of ids are stops, and where the first is. Harmony's two stops may
 * follow each other; each counts for itself. */
static size_t count_stops(const struct render *r, const uint32_t *id, size_t n,
                          size_t *at) {
    bool apart = r->family->shape == &shape_harmony;
    size_t most = 0, all = 0;
    *at = n;
    for (size_t i = 0; i < n; i++)
        if (is_stop(r, id[i]) && all++ == 0)
            *at = i;
    for (int k = 0; apart && k < r->n_stop; k++) {
        size_t count = 0;
        for (size_t i = 0; i < n; i++)
            count += id[i] == r->stop[k];
        most = count > most ? count : most;
    }
    return apart ? most : all;
}

static int64_t control_id(const struct render *r, const char *word) {
    for (size_t i = 0; word && i < r->n_control; i++)
        if (strcmp(r->control[i].text, word) == 0)
            return r->control[i].id;
    return -1;
}

/* Do ids begin with the tokens of a text? */
static bool begins_with(const struct render *r, const char *text,
                        const uint32_t *id, size_t n) {
    struct tok_ids want = {0};
    tok_encode(r->tok, text, strlen(text), TOK_CONTROL, &want);
    bool yes =
        n >= want.n && memcmp(id, want.id, want.n * sizeof *want.id) == 0;
    free(want.id);
    return yes;
}

/* The prompt opened the block, so the answer closes it alone. */
static bool reopens(const struct render *r, const uint32_t *id, size_t n) {
    int64_t shut = control_id(r, "</think>");
    if (!(r->family->flags & FAM_REOPENS) || n == 0 ||
        begins_with(r, r->family->think[0], id, n))
        return false;
    for (size_t i = 0; i < n; i++)
        if (id[i] == shut)
            return true;
    return false;
}

static json_t *reply_message(struct reply *p) {
    json_t *m = json_pack("{s:s}", "role", "assistant");
    json_object_set_new(m, "content",
                        p->is_plain ? bit_json(reply_bit(p))
                                    : json_incref(p->parts));
    if (json_array_size(p->calls))
        json_object_set(m, "tool_calls", p->calls);
    if (json_array_size(p->unparsed))
        json_object_set(m, "unparsed_tool_calls", p->unparsed);
    json_decref(p->parts);
    json_decref(p->calls);
    json_decref(p->unparsed);
    buf_release(&p->own);
    return m;
}

/* Role: text ends with the header of the next message, or with the token that
 * ends texts. */
static enum reply_end colon_end(const struct render *r, const uint32_t *id,
                                size_t *n, struct reply *p) {
    bool eos = *n > 0 && r->eos && control_id(r, r->eos) == id[*n - 1];
    struct bit all;
    *n -= eos;
    char *text = tok_decode(r->tok, id, *n, false);
    buf_puts(&p->own, text);
    free(text);
    all = (struct bit){buf_str(&p->own), p->own.len};
    size_t stops = bit_count(all, r->family->stop_string);
    const char *at = bit_find(all, r->family->stop_string);
    p->text = all.s;
    p->len = at ? (size_t)(at - all.s) : all.n;
    if (stops > 1 || (stops == 1 && eos) || (stops == 0 && !eos))
        return REPLY_MALFORMED;
    return eos ? REPLY_EOS : REPLY_STOP;
}

/* What one stop token, or none, says. More than one: no sampler that stops
 * where it is told gives that. */
static int token_end(const struct render *r, const uint32_t *id, size_t *n,
                     enum reply_end *end, struct err *err) {
    size_t at, stops = count_stops(r, id, *n, &at);
    if (stops > 1)
        return err_set(err, ERR_INVAL,
                       "parse an answer: %zu stop tokens in it; it was sampled "
                       "with other stop tokens than %s has",
                       stops, r->family->name);
    *end = stops == 0 ? REPLY_MALFORMED : REPLY_STOP;
    if (stops && control_id(r, "<|endoftext|>") == id[at])
        *end = REPLY_EOS;
    *n = at;
    return 0;
}

json_t *render_parse(const struct render *r, const uint32_t *id, size_t n,
                     enum reply_end *end, struct err *err) {
    struct reply p = {
        .parts = json_array(), .calls = json_array(), .unparsed = json_array()};
    buf_init(&p.own, RENDER_TEXT_MAX);
    bool open = reopens(r, id, n), colon = r->family->stop_string;
    if (colon) {
        *end = colon_end(r, id, &n, &p);
    } else if (token_end(r, id, &n, end, err) < 0) {
        json_decref(reply_message(&p));
        return NULL;
    }
    char *text = tok_decode(r->tok, id, n, false);
    char *all = fs_path("%s%s", open ? r->family->think[0] : "", text);
    if (!colon) {
        p.text = all;
        p.len = strlen(all);
    }
    if (*end == REPLY_MALFORMED && !colon)
        p.is_plain = true;
    else
        r->family->shape->parse(r, &p);
    json_t *m = reply_message(&p);
    free(text);
    free(all);
    return m;
}

json_t *message_openai(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    json_t *m = json_copy((json_t *)message), *part;
    struct buf text, why;
    size_t i;
    const char *type;
    if (!json_is_array(content))
        return m;
    buf_init(&text, RENDER_TEXT_MAX);
    buf_init(&why, RENDER_TEXT_MAX);
    json_array_foreach((json_t *)content, i, part) {
        struct bit b = json_bit(part_text(part, &type));
        buf_bytes(strcmp(type, "text") == 0 ? &text : &why, b.s, b.n);
    }
    json_object_set_new(m, "content", json_stringn(buf_str(&text), text.len));
    if (why.len)
        json_object_set_new(m, "reasoning_content",
                            json_stringn(buf_str(&why), why.len));
    buf_release(&text);
    buf_release(&why);
    return m;
}
