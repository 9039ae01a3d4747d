/* jinja_int - what the files of jinja share: nodes, values, the machine. */
#ifndef FETTLE_CORE_TEXT_JINJA_INT_H
#define FETTLE_CORE_TEXT_JINJA_INT_H

#include "core/text/jinja.h"

/* ---- memory: freed all at once ---- */

struct arena {
    struct arena_block *top;
    size_t used, max; /* bytes; past max allocation fails */
};
void *arena_get(struct arena *a, size_t n); /* zeroed; NULL when full */
void arena_release(struct arena *a);

/* ---- values: as Python's ---- */

enum jkind {
    J_MISSING, /* an argument that was not given */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_DICT,
    J_SPACE, /* namespace() */
    J_LOOP,
    J_MACRO,
    J_FN,   /* a function of the environment */
    J_BOUND /* a method and its object */
};

/* Immutable; valid UTF-8, for templates and JSON are. */
struct jstr {
    const char *p;
    const uint8_t *mark; /* of each byte; NULL: `all` is every byte's */
    size_t len;
    uint8_t all;
    bool is_safe; /* Markup: what is added to it is escaped */
};

struct jval {
    enum jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        const struct jstr *s; /* J_UNDEF: its name, NULL = none */
        struct jlist *l;
        struct jdict *d; /* J_SPACE, too */
        struct jloop *loop;
        const struct jmacro *macro;
        const struct jfn *fn;
        const struct jbound *bound;
    } u;
};

enum jseq {
    SEQ_LIST,
    SEQ_TUPLE,
    SEQ_RANGE,
    SEQ_KEYS,
    SEQ_VALUES,
    SEQ_ITEMS,
    SEQ_STREAM /* a generator: gives each item once */
};
struct jlist {
    enum jseq seq;
    struct jval *v;
    size_t n, cap, at;         /* at: items a stream has given */
    int64_t first, last, step; /* of a range */
};

struct jpair {
    struct jval key, val;
};
struct jdict {
    struct jpair *p; /* in order of insertion */
    size_t n, cap;
};

struct jloop {
    const struct jlist *items;
    size_t i;
    int depth;
    const struct jnode *node; /* its `for`, when recursive */
    struct jscope *scope;     /* around the loop */
    struct jval seen;         /* by changed() */
};

struct jmacro {
    const struct jnode *node; /* of the macro, or of a call's body */
    struct jscope *scope;     /* where it was made */
};

struct jkw {
    const char *name;
    struct jval val;
};
/* Arguments of a call. */
struct jargs {
    struct jval *v;
    int n;
    struct jkw *kw;
    int n_kw;
};

#define JFN_ARGS 8
struct vm;
/* A filter, test, function or method. v: what it is applied to; a[i]: the i-th
 * of params, J_MISSING when not given. */
typedef struct jval jfn_call(struct vm *m, struct jval v, const struct jval *a,
                             const struct jargs *all);
/* Defines one. */
#define JFN_UNUSED __attribute__((unused))
#define JFN(name) \
    static struct jval name(struct vm *m JFN_UNUSED, struct jval v JFN_UNUSED, \
                            const struct jval *a JFN_UNUSED, \
                            const struct jargs *all JFN_UNUSED)
struct jfn {
    const char *name;
    jfn_call *call;
    const char *params; /* "old new count"; NULL: takes what comes (all) */
    int need;           /* of params */
};
struct jbound {
    const struct jfn *fn;
    struct jval self;
};

/* ---- nodes ---- */

enum jtype {
    /* expressions */
    N_CONST,
    N_NAME,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_UNARY,
    N_BINARY,
    N_CONCAT,
    N_AND,
    N_OR,
    N_NOT,
    N_COMPARE,
    N_COND,
    N_KEYWORD,
    N_STAR,
    N_STARSTAR,
    N_SPACE_ATTR,
    /* statements */
    N_DATA,
    N_PRINT,
    N_IF,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_CALL_BLOCK,
    N_FILTER_BLOCK,
    N_WITH,
    N_GENERATION,
    N_BREAK,
    N_CONTINUE
};

enum jop {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct jnode {
    enum jtype type;
    enum jop op;
    int line;
    bool flag;            /* N_FOR: recursive */
    const char *name;     /* interned: equal names are equal pointers;
                             N_FOR: "loop" */
    struct jval val;      /* N_CONST, N_DATA */
    const struct jfn *fn; /* N_FILTER, N_TEST; NULL: there is none so named */
    /* What a, b, c, args, body are of each type stands in jinja_parse.c. */
    struct jnode *a, *b, *c, *args, *body, *orelse;
    struct jnode *next;  /* of a list */
    const char **hidden; /* names that its scope hides until they are set */
    int n_hidden;
    int uses; /* N_MACRO, N_CALL_BLOCK: enum macro_use */
};
enum macro_use { USES_VARARGS = 1, USES_KWARGS = 2, USES_CALLER = 4 };

#define JINJA_NAMES 2048
/* Names are kept with a number below JINJA_NAMES. */
int jinja_name_id(const char *name);
/* Fills hidden and uses (jinja_scope.c); root's body is the template. */
struct parse_scope {
    struct arena *mem;
    const char **hidden; /* room for JINJA_NAMES */
};
void jinja_scopes(struct parse_scope *p, struct jnode *root);

struct jinja {
    struct arena mem;
    struct jnode root;  /* its body is the template */
    const char **names; /* all that it speaks of, interned */
    int n_names;
    int64_t steps; /* that a run may take */
    bool has_generation;
};

/* ---- lexer ---- */

enum jtok {
    T_END,
    T_DATA,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_TAG_BEGIN,
    T_TAG_END,
    T_NAME,
    T_STR,
    T_INT,
    T_FLOAT,
    T_OP
};
struct jtoken {
    enum jtok type;
    int line;
    char op[3];    /* T_OP */
    struct jstr s; /* T_DATA, T_NAME, T_STR */
    int64_t i;
    double f;
};
struct jlex {
    struct arena *mem;
    const char *src;
    size_t len, at;
    int line;
    struct jtoken *t;
    size_t n, cap;
    char close[64]; /* brackets that are open */
    int n_close;
    bool at_line_start;
    struct err *err;
};
/* All tokens, ended by T_END; in lex->mem. */
int jinja_lex(struct jlex *lex, const char *src, size_t len);

/* ---- the machine ---- */

struct jvar {
    const char *name;
    struct jval val;
    struct jvar *next;
};
struct jscope {
    struct jvar *vars;
    struct jscope *up;
};

/* Grows in the machine's memory. */
struct jbuf {
    char *p;
    uint8_t *mark;
    size_t len, cap;
};

enum jflow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

/* After a failure every function still returns a value; steps are refused, so
 * that the run ends soon. */
struct vm {
    const struct jinja *tpl;
    struct arena mem;
    struct jscope *scope;
    struct jbuf *out;
    struct err *err;
    bool failed;
    enum jflow flow;
    int line, depth;
    int64_t steps, steps_max, deadline_us;
};

struct jval vm_fail(struct vm *m, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct jval vm_vfail(struct vm *m, enum err_code code, const char *fmt,
                     va_list ap);
/* False when the run must end; n: what it costs, in about 50 ns. */
bool vm_step(struct vm *m, size_t n);
void *vm_get(struct vm *m, size_t n); /* memory; NULL fails the machine */

struct jval eval(struct vm *m, const struct jnode *n);
void run_body(struct vm *m, const struct jnode *n);
struct jval vm_call(struct vm *m, struct jval f, const struct jargs *args);
struct jval macro_call(struct vm *m, const struct jmacro *f,
                       const struct jargs *args);
struct jval loop_call(struct vm *m, const struct jloop *l, struct jval items);
struct jval get_attr(struct vm *m, struct jval v, const struct jstr *name);
struct jval get_item(struct vm *m, struct jval v, struct jval key);
/* Calls a row with its arguments bound to its params. */
struct jval fn_apply(struct vm *m, const struct jfn *fn, struct jval v,
                     const struct jargs *args);

void jbuf_put(struct vm *m, struct jbuf *b, const char *p, size_t n,
              uint8_t mark);
void jbuf_puts(struct vm *m, struct jbuf *b, const char *s);
void jbuf_str(struct vm *m, struct jbuf *b, const struct jstr *s);
/* Like s where it comes from, with other bytes. */
void jbuf_char(struct vm *m, struct jbuf *b, uint32_t c, uint8_t mark);
struct jval jbuf_take(struct vm *m, struct jbuf *b);

/* ---- values (jinja_value.c) ---- */

struct jval jv_none(void);
struct jval jv_undef(const struct jstr *name);
struct jval jv_bool(bool b);
struct jval jv_int(int64_t i);
struct jval jv_float(double f);
struct jval jv_text(struct vm *m, const char *s); /* s must last */
struct jval jv_of(const struct jstr *s);
struct jval jv_list(struct vm *m, enum jseq seq, size_t cap);
void jlist_push(struct vm *m, struct jlist *l, struct jval v);
struct jval jv_dict(struct vm *m);
bool jv_hashable(struct vm *m, const struct jval *key); /* or fails */
void jdict_put(struct vm *m, struct jdict *d, struct jval key, struct jval v);
const struct jval *jdict_get(struct vm *m, const struct jdict *d,
                             struct jval key);
const struct jval *jdict_gets(const struct jdict *d, const char *key);
struct jval jv_json(struct vm *m, const json_t *j, uint8_t mark, int depth);

bool jv_true(const struct jval *v);
bool jv_is(struct vm *m, struct jval a, struct jval b); /* a == b */
int jv_cmp(struct vm *m, struct jval a, struct jval b); /* or fails */
bool jv_in(struct vm *m, struct jval a, struct jval in);
const char *jv_type(const struct jval *v);
int64_t jv_len(struct vm *m, struct jval v);
bool jv_number(const struct jval *v, double *f);
/* An integer that counts or places something; sums of few fit 64 bits. */
#define JINJA_COUNT_MAX ((int64_t)1 << 40)
int64_t jv_count(struct vm *m, const struct jval *v);
/* Its items as a list, which a stream gives up; NULL: not iterable, fails. */
const struct jlist *jv_iter(struct vm *m, struct jval v);
const struct jstr *jv_str(struct vm *m, struct jval v); /* str() */
void put_str(struct vm *m, struct jbuf *b, struct jval v);
void put_repr(struct vm *m, struct jbuf *b, struct jval v);
void float_repr(double f, char out[32]);

struct json_style {
    bool ascii, sort;
    int indent; /* -1 = none */
    const struct jstr *indent_text;
    const struct jstr *comma, *colon; /* NULL: the usual ones */
};
void put_json(struct vm *m, struct jbuf *b, struct jval v,
              const struct json_style *s, int depth);
struct jval jv_binary(struct vm *m, enum jop op, struct jval a, struct jval b);
/* Sorts n values by key (or themselves), stably. */
void jv_sort(struct vm *m, struct jval *v, struct jval *key, size_t n,
             bool reverse);

/* ---- strings (jinja_str.c) ---- */

bool uni_space(uint32_t c);
/* The character at p, its bytes in *n; broken ones are one byte of U+FFFD. */
uint32_t utf8_get(const char *p, size_t len, size_t *n);
size_t utf8_count(const char *p, size_t len);
int utf8_put(uint32_t c, char out[4]);
struct jval str_slice(struct vm *m, const struct jstr *s, size_t at,
                      size_t len); /* bytes */
uint8_t str_mark(const struct jstr *s, size_t i);
struct jval str_strip(struct vm *m, const struct jstr *s,
                      const struct jstr *chars, bool left, bool right);
struct jval str_index(struct vm *m, const struct jstr *s, int64_t i);
struct jval str_case(struct vm *m, const struct jstr *s, char how); /* ulct */
struct jval str_replace(struct vm *m, const struct jstr *s,
                        const struct jstr *from, const struct jstr *to,
                        int64_t count);
struct jval str_escape(struct vm *m, const struct jstr *s);
struct jval str_safe(struct vm *m, const struct jstr *s); /* as Markup */
/* Lines without their ends (keep: with them). */
struct jval str_lines(struct vm *m, const struct jstr *s, bool keep);
/* In spaces, or what fill says, to a width; where: l r c. */
struct jval str_fill(struct vm *m, const struct jstr *s, int64_t width,
                     const struct jval *fill, char where);
bool str_one_case(const struct jstr *s, bool upper);
bool str_eq(const struct jstr *a, const char *b);
const char *str_find(const struct jstr *in, size_t from, const struct jstr *s);

/* ---- formatting (jinja_format.c) ---- */

/* "%s %d" % args, and "{} {name:>8}".format(…). */
struct jval str_percent(struct vm *m, const struct jstr *s, struct jval args);
struct jval str_format(struct vm *m, const struct jstr *s,
                       const struct jargs *args);
/* Dates are those of $FETTLE_DATE (YYYY-MM-DD) when it is set. */
struct jval date_format(struct vm *m, const struct jstr *format);

/* ---- tables ---- */

const struct jfn *filter_find(const char *name);
const struct jfn *test_find(const char *name);
const struct jfn *global_find(const char *name);
/* A method of v's type; *denied: one that changes its object. */
const struct jfn *method_find(const struct jval *v, const char *name,
                              size_t len, bool *denied);

#endif
