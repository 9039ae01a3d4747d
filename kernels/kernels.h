/*
 * kernels - the mathematics of fettle: one table of operations that every
 * backend fills (cpu/ is the reference, cuda/ follows it op for op).
 *
 * A `struct kern` is one open device: its memory, its stream, its threads.
 * Pointers marked `dev` are memory of that device: made by alloc, filled by
 * copy_in, read back by copy_out, and never dereferenced outside kernels/.
 * Calls are queued on the device's one stream in order; copy_out and sync
 * wait for it. A struct kern is used by one thread at a time; several may be
 * open at once over the same memory. Threads of its own start at the first op
 * that is worth sharing out; from then on the process must not fork.
 *
 *     struct kern *k;
 *     int rc = kern_open(&k, &(struct kern_opts){.device = "cpu"});
 *     float *x = k->ops->alloc(k, n * sizeof *x);
 *     k->ops->copy_in(k, x, host, n * sizeof *x);
 *     rc = k->ops->rmsnorm(k, &(struct kern_norm){.y = y, .x = x, ...});
 *     if (rc) ... kern_strerror(rc)
 *
 * EXACTNESS. The bits of every result are a function of the inputs alone: not
 * of thread count, of how rows are batched or packed, nor of the instruction
 * set (scalar, AVX2, AVX-512 agree). Each sum has one order, written down:
 *   chain    c = fmaf(a_i, b_i, c) for i ascending, from 0, or from the old
 *            value where the op accumulates
 *   sum16    16 partials, partial j adds elements j, j+16, … (products by
 *            fmaf); then j += j+8, j += j+4, j += j+2, j += j+1
 * exp, log, sin, cos, tanh are polynomials of our own made of IEEE + * / fma.
 * A NaN's sign and payload are not specified. Non-finite inputs pass through
 * to what depends on them and to nothing else: no row of attention depends on
 * a later key or another sequence, whatever is there.
 * Shapes: B batch, T tokens, C width, H heads, K kv heads, D head size, F ffn
 * width, V vocab, R rank. Row-major. Counts are int32, offsets int64.
 * `acc` says += instead of =. All arithmetic is f32.
 */
#ifndef FETTLE_KERNELS_H
#define FETTLE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kern_status {
    KERN_OK = 0,
    KERN_ENOMEM = -1,
    KERN_EINVAL = -2,  /* a shape that the backend cannot take */
    KERN_EDEVICE = -3, /* the device failed; the process must end */
    KERN_ENODEV = -4,  /* no such device */
};
const char *kern_strerror(int rc);

enum kern_dtype {
    KERN_F32,
    KERN_BF16,
    KERN_F16,
    KERN_DTYPES,
    /* Quantised matrices, made by `quant`; only as B of a KERN_NT mm. */
    KERN_Q8,
    KERN_Q4,
};
size_t kern_dtype_size(enum kern_dtype t); /* not of quantised ones */

struct kern;

struct kern_opts {
    const char *device; /* "cpu" or NULL, "cuda:0" */
    int threads;        /* cpu: 0 = all cores that the process may use */
    const char *isa;    /* cpu: NULL = $FETTLE_ISA or the best; "scalar",
                           "avx2", "avx512": equal bits, for tests */
};

enum kern_mm_form {
    KERN_NT, /* C(m,n) = A(m,k) · B(n,k)ᵀ    y = x · Wᵀ   */
    KERN_NN, /* C(m,n) = A(m,k) · B(k,n)     dx = dy · W  */
    KERN_TN, /* C(m,n) = A(k,m)ᵀ · B(k,n)    dW = dyᵀ · x */
};

/* A matrix (rows, cols) in blocks of KERN_QBLOCK along a row, the last of a row
 * filled up with zeros: integers times one bf16 scale d a block.
 *   Q8  d = max|w| / 127, rounded up; q = round(w/d), -127 … 127
 *   Q4  d = m / -8, rounded to nearest, m the first of the largest |w|;
 *       q = round(w/d) cut to -8 … 7
 * Rounding is to nearest even. A block whose max|w| is below KERN_QTINY is 0;
 * one with a value that is not finite makes its row of C NaN. */
#define KERN_QBLOCK 32
#define KERN_QTINY 0x1p-100f
struct kern_quant {
    enum kern_dtype t; /* KERN_Q8, KERN_Q4 */
    int32_t rows, cols;
    const void *x; /* (rows,cols) dev, dense, of type xt */
    enum kern_dtype xt;
    void *y; /* dev, kern_quant_bytes(), in a layout of the backend's own */
};
size_t kern_quant_bytes(enum kern_dtype t, int64_t rows, int64_t cols);

/* Each element of C is one chain over k. lda, ldb, ldc: elements a row.
 * With a quantised B (n,k; ldb is not read) A is quantised on the way, block by
 * block like Q8 but with s = max|a| / 127 in f32, q = round(a * (127/max|a|));
 * c = fmaf((float)Σ q_a*q_b, s * d, c) over the blocks ascending, the sum of
 * integers being exact. */
struct kern_mm {
    enum kern_mm_form form;
    int32_t m, n, k;
    const float *a; /* dev */
    int64_t lda;
    const void *b; /* dev, of type bt */
    enum kern_dtype bt;
    int64_t ldb;
    float *c; /* dev */
    int64_t ldc;
    bool acc;
};

/* rmsnorm: y = x * rstd * (w + plus); rstd = 1/sqrt(sum16(x²)/C + eps).
 * Rows of C elements, ld apart (q/k norms run on T*H rows of D).
 * Backward: dx (=|+=), dw += by a chain over the rows ascending. */
struct kern_norm {
    int32_t rows, C;
    float eps, plus; /* plus: 0, or 1 for Gemma's (1 + w) */
    const float *x;  /* (rows,C) dev, ldx apart */
    int64_t ldx;
    const float *w; /* (C) dev, f32 */
    float *y;       /* (rows,C) dev, ldy apart; may be x */
    int64_t ldy;
    float *rstd; /* (rows) dev, kept for backward; may be NULL forward */
    /* backward */
    const float *dy; /* (rows,C), ldy apart */
    float *dx;       /* (rows,C), ldx apart; += when acc */
    float *dw;       /* (C) += ; NULL when frozen */
    bool acc;
};

/* Rotates the first `rot` elements of each head: pairs (i, i+rot/2), or (2i,
 * 2i+1) when `pairs`. (a, b) becomes (a*cos - b*sin, b*cos + a*sin), products
 * rounded. cos,sin (positions, rot/2). inverse = the backward rotation. */
struct kern_rope {
    int32_t T, heads, D, rot;
    float *x; /* (T, heads, D) in place, rows ldx apart */
    int64_t ldx;
    const int32_t *pos;     /* (T) dev */
    const float *cos, *sin; /* (max_pos, rot/2) dev */
    bool inverse, pairs;
};

/* Causal attention over packed sequences. Row i of sequence s sees keys
 * j <= i of s (and i - j < window when window > 0).
 * score = chain over D of q·k, * scale, [softcap: cap*tanh(score/cap)];
 * m = max (of the sink too); p = exp(score - m); l = sum16 over the keys, of
 * which partial j has those of position j mod 16 (+ exp(sink - m) last);
 * o = (chain over keys of p*v) / l; lse = m + log l. Query head h uses kv head
 * h / (H/K). Backward: p = exp(score - lse); dp = chain over D of do·v;
 * delta = sum16 of o*do; ds = p * (dp - delta) * scale [* (1 - tanh²)];
 * dq chains over keys, dk and dv over the group's heads and, within a head,
 * over rows, all ascending. */
struct kern_attn {
    int32_t T, n_seq, H, K, D;
    const int32_t *start;   /* (n_seq+1) dev: first row of each sequence */
    int32_t max_len;        /* longest sequence */
    int32_t window;         /* 0 = none */
    float scale, softcap;   /* softcap 0 = none */
    const float *sinks;     /* (H) dev or NULL */
    const float *q, *k, *v; /* (T,H,D) (T,K,D) (T,K,D), rows ld* apart */
    int64_t ldq, ldk, ldv;
    float *o; /* (T,H,D), rows ldo apart */
    int64_t ldo;
    float *lse; /* (T,H); may be NULL forward-only */
    /* backward: =, and reads q, k, v, o, lse */
    const float *d_o;    /* (T,H,D), rows ldo apart */
    float *dq, *dk, *dv; /* like q, k, v, rows ldq, ldk, ldv apart */
    float *dsinks;       /* (H) += or NULL */
};

/* Paged KV cache: page p holds KERN_PAGE positions of one sequence,
 * 2*K*KERN_PAGE*D f32 in a layout that is the backend's own. table: page of
 * each block. */
#define KERN_PAGE 64
struct kern_kv {
    int32_t T, K, D;
    const float *k, *v; /* (T,K,D), rows ldk, ldv apart */
    int64_t ldk, ldv;
    float *pages;         /* dev */
    const int32_t *table; /* (n_seq, max_blocks) dev */
    int32_t max_blocks;
    const int32_t *seq, *pos; /* (T) dev: table row and position of a token */
};

/* Attention of T new tokens, already in the cache, over their sequences'
 * pages; the same bits as kern_attn gives that row. */
struct kern_attn_paged {
    int32_t T, H, K, D;
    int32_t window;
    float scale, softcap;
    const float *sinks;
    const float *q; /* (T,H,D), rows ldq apart */
    int64_t ldq;
    const float *pages;
    const int32_t *table;
    int32_t max_blocks;
    const int32_t *seq, *pos;
    float *o; /* (T,H,D), rows ldo apart */
    int64_t ldo;
};

enum kern_act { KERN_SILU, KERN_GELU_TANH };
/* y = act(gate) * up. Backward: dgate, dup = from dy (elementwise, =). */
struct kern_glu {
    int32_t T, F;
    enum kern_act act;
    const float *gate, *up; /* (T,F), rows ldg apart */
    int64_t ldg;
    float *y;           /* (T,F) dense */
    const float *dy;    /* (T,F) dense */
    float *dgate, *dup; /* (T,F), rows ldg apart; may be gate, up */
};

/* y = (clamp(up) + 1) * g * σ(alpha*g), g = min(gate, limit), clamp to
 * +-limit; gate and up lie side by side, x (T, 2F) = gate, up, gate, up, …
 * Backward: dx =; 0 where a clamp holds. */
struct kern_swiglu {
    int32_t T, F;
    float alpha, limit;
    const float *x;  /* (T,2F) dense */
    float *y;        /* (T,F) dense */
    const float *dy; /* (T,F) */
    float *dx;       /* (T,2F) */
};

/* A router's choice: of each row of logits the `top` largest, larger ones
 * first, of equals the lower expert. share = exp(x - m) / l: m the row's
 * maximum; l = sum16 of the row's exponentials, or when `norm` the sum of the
 * chosen ones' by rank. Backward, =: s = chain by rank of share*dshare;
 * dlogits = share * (dshare - s) at the chosen; elsewhere 0 when `norm`, else
 * exp(x - m) / l * -s. */
#define KERN_EXPERTS_MAX 1024
struct kern_route {
    int32_t T, E, top;
    bool norm;
    const float *logits; /* (T,E) */
    int32_t *expert;     /* (T,top) out / in */
    float *share;        /* (T,top) out / in */
    /* backward */
    const float *dshare; /* (T,top) */
    float *dlogits;      /* (T,E) */
};

/* y(n,C) row i = x row from[i]. */
struct kern_gather {
    int32_t n, C;
    const int32_t *from; /* (n) dev */
    const float *x;
    float *y;
};

/* y(T,C) (=|+=) row t: chain over r ascending of share[t,r] * x row at[t,r].
 * Backward, at naming each row of x once: dx row at[t,r] = share[t,r] * dy row
 * t; dshare[t,r] = sum16 of dy * x. */
struct kern_combine {
    int32_t T, top, C;
    const int32_t *at;  /* (T,top) dev */
    const float *share; /* (T,top); NULL forward: 1 each */
    const float *x;     /* (T*top,C) */
    float *y;           /* (T,C) */
    bool acc;
    const float *dy;    /* (T,C) */
    float *dx, *dshare; /* (T*top,C) (T,top) */
};

/* x = cap * tanh(x / cap), in place. Backward, x being what came out:
 * dx *= 1 - (x/cap)². */
struct kern_cap {
    int64_t n;
    float cap; /* > 0 */
    float *x, *dx;
};

/* y(T,C) = scale * table[token]; backward: dtable(V,C) += scale * dy rows in
 * token order (chain per element). */
struct kern_embed {
    int32_t T, C, V;
    const int32_t *tokens; /* (T) dev */
    const void *table;     /* (V,C) dev of type tt */
    enum kern_dtype tt;
    float scale;
    int32_t skip;    /* a token whose rows get no gradient, -1 = none */
    float *y;        /* (T,C) */
    const float *dy; /* (T,C) */
    float *dtable;   /* (V,C) f32 */
};

/* y[r] += x[r], and x[r] = 0, for the n rows of a table named by `rows`, all
 * different. */
struct kern_fold {
    int32_t n, C;
    const int32_t *rows; /* (n) dev */
    float *y, *x;        /* (…,C) */
};

/* Row-wise log-softmax of logits (rows,V) at k targets a row.
 * lse = m + log(sum16 exp(x - m)); logprob = x[target] - lse.
 * Backward in place: logits = Σ_k g_k [v = t_k] - (Σ_k g_k) exp(x - lse); 0
 * in rows whose g are all 0. */
struct kern_xent {
    int32_t rows, V, k;
    float *logits; /* (rows,V) dev, ld apart */
    int64_t ld;
    const int32_t *targets; /* (rows,k) dev */
    float *logprobs;        /* (rows,k) dev, out */
    float *lse;             /* (rows) dev, out / in */
    const float *g;         /* (rows,k) dev: dLoss/dlogprob, backward */
};

/* Token losses of wire.h's loss kinds: from logprobs and side inputs to the
 * token's loss and g = dLoss/dlogprob. spec/tinker-protocol §5.4. A token
 * with weight 0, or with A 0 (dro: and q 0), has loss and g 0 whatever its
 * logprob is. */
enum kern_loss_kind {
    KERN_LOSS_CE,    /* -w*lp */
    KERN_LOSS_IS,    /* -r*A, r = exp(lp - q) */
    KERN_LOSS_PPO,   /* -min(r*A, clip(r)*A) */
    KERN_LOSS_CISPO, /* -sg(clip(r))*A*lp */
    KERN_LOSS_DRO,   /* -(lp*A - beta/2*(lp - q)^2) */
    KERN_LOSS_GSPO,  /* ppo's, r = exp(q): q is the log of the ratio of the
                        token's sequence; g as if r were exp(lp - sg(lp) + q) */
    KERN_LOSS_KINDS
};
struct kern_loss {
    enum kern_loss_kind kind;
    int32_t n;
    const float *lp;        /* (n) */
    const float *w, *q, *A; /* (n) weights; logprobs; advantages */
    const float *lo, *hi;   /* (n) ratio bounds */
    float beta;
    float *loss, *g; /* (n) out */
};

/* torch.optim.AdamW, decoupled decay: g *= gscale; p -= lr*wd*p; m, v; p -=
 * lr*mhat/(sqrt(vhat)+eps). Scalars are computed in double by the caller.
 * p may lie in two words instead: its bits are (hi << 16) + lo, lo signed, so
 * that hi alone is p rounded to bf16 (ties away from 0) and nothing is lost. */
struct kern_adamw {
    int64_t n;
    float *p, *m, *v; /* (n) dev; p NULL = hi and lo */
    uint16_t *hi;     /* (n) dev */
    int16_t *lo;      /* (n) dev */
    const float *g;   /* (n) dev */
    float gscale, lr, beta1, beta2, eps, weight_decay;
    float bias1, bias2; /* 1-beta1^t, 1-beta2^t */
};

/* Ceilings, measured now on all threads: fma FLOP/s, or B/s of reading x. */
enum kern_probe_what { KERN_PROBE_FMA, KERN_PROBE_READ };
struct kern_probe {
    enum kern_probe_what what;
    const float *x; /* (n) dev, larger than the caches; READ only */
    int64_t n;
    double *per_s; /* host, out */
};

/* One row an op: member, arguments. A backend fills every member. All return
 * a kern_status; the work may still be queued. */
#define KERN_OPS(X) \
    X(mm, struct kern_mm) \
    X(quant, struct kern_quant) \
    X(rmsnorm, struct kern_norm) \
    X(rmsnorm_bwd, struct kern_norm) \
    X(rope, struct kern_rope) \
    X(attn, struct kern_attn) \
    X(attn_bwd, struct kern_attn) \
    X(kv_write, struct kern_kv) \
    X(attn_paged, struct kern_attn_paged) \
    X(glu, struct kern_glu) \
    X(glu_bwd, struct kern_glu) \
    X(swiglu, struct kern_swiglu) \
    X(swiglu_bwd, struct kern_swiglu) \
    X(route, struct kern_route) \
    X(route_bwd, struct kern_route) \
    X(gather, struct kern_gather) \
    X(combine, struct kern_combine) \
    X(combine_bwd, struct kern_combine) \
    X(cap, struct kern_cap) \
    X(cap_bwd, struct kern_cap) \
    X(embed, struct kern_embed) \
    X(embed_bwd, struct kern_embed) \
    X(fold, struct kern_fold) \
    X(xent, struct kern_xent) \
    X(xent_bwd, struct kern_xent) \
    X(loss, struct kern_loss) \
    X(adamw, struct kern_adamw) \
    X(probe, struct kern_probe)

struct kern_ops {
    const char *name;
    void (*close)(struct kern *k);
    /* Device memory, 64-byte aligned, not cleared; NULL when out of it. */
    void *(*alloc)(struct kern *k, size_t bytes);
    void (*free)(struct kern *k, void *dev);
    int (*copy_in)(struct kern *k, void *dev, const void *host, size_t bytes);
    int (*copy_out)(struct kern *k, void *host, const void *dev, size_t bytes);
    int (*copy)(struct kern *k, void *dev, const void *dev_from, size_t bytes);
    int (*zero)(struct kern *k, void *dev, size_t bytes);
    /* The same, and large parts give their memory back until they are written
     * again; dearer than zero where they soon are. */
    int (*release)(struct kern *k, void *dev, size_t bytes);
    /* Says that few places of an allocation will be written between releases,
     * so that no more memory than those take is wanted. */
    void (*sparse)(struct kern *k, void *dev, size_t bytes);
    int (*sync)(struct kern *k);
    /* Makes host memory (a mapped file) usable as device memory without a
     * copy where the device allows it; NULL when it does not. */
    const void *(*adopt)(struct kern *k, const void *host, size_t bytes);
    /* y += x;  x *= s;  rows(T,C) += bias(C);  dbias(C) += Σ rows (chain). */
    int (*add)(struct kern *k, float *y, const float *x, int64_t n);
    int (*scale)(struct kern *k, float *x, float s, int64_t n);
    int (*bias)(struct kern *k, float *y, int64_t ldy, const float *b,
                int32_t T, int32_t C);
    int (*bias_bwd)(struct kern *k, float *db, const float *dy, int64_t ldy,
                    int32_t T, int32_t C);
    /* f32 out of any dtype. */
    int (*widen)(struct kern *k, float *y, const void *x, enum kern_dtype t,
                 int64_t n);
    /* *out (dev) = Σ x² in double: sum16 over chunks of 65536, the chunks in
     * order. */
    int (*sumsq)(struct kern *k, double *out, const float *x, int64_t n);
#define KERN_MEMBER(name, args) int (*name)(struct kern * k, const args *a);
    KERN_OPS(KERN_MEMBER)
#undef KERN_MEMBER
};

/* First member of every backend's own struct. */
struct kern {
    const struct kern_ops *ops;
};

/* Opens a device; close with k->ops->close(k). */
int kern_open(struct kern **k, const struct kern_opts *opts);
/* One line about the device, such as "cpu avx512 2 threads"; borrowed. */
const char *kern_describe(const struct kern *k);

/* Host mathematics with the same bits on every machine, which libm does not
 * promise: rope tables, learning rates, bias corrections. Within 1 ulp, or 2
 * (sincos near a zero: 1e-17 absolute); kern_pow, for x > 0, to a
 * relative (1 + |y log x|) * 2^-52. kern_sincos gives NaN beyond |x| = 2^20. */
double kern_exp(double x);
double kern_log(double x);
double kern_pow(double x, double y);
void kern_sincos(double x, double *sin_x, double *cos_x);

#endif
