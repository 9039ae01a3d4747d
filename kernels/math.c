/*
 * Host mathematics in double out of IEEE + - * / only, so that every machine
 * computes the same bits (-std=c11: the compiler contracts none into fma).
 * Coefficients: exp and log as in fdlibm (Sun, public domain), sin and cos as
 * its __kernel_sin and __kernel_cos.
 */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

static uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double of_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* ln 2 and pi/2 in parts: the high ones end in zeros, so that a small integer
 * times one is exact. */
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#define PIO2_1 1.57079632673412561417e+00
#define PIO2_2 6.07710050630396597660e-11
#define PIO2_3 2.02226624879595063154e-21
#define ROUND 6755399441055744.0 /* 1.5 * 2^52: x + ROUND - ROUND rounds x */

/* x * 2^n, by steps that stay normal until the last. */
static double scale2(double x, int n) {
    for (; n > 1000; n -= 1000)
        x *= of_bits((uint64_t)(1000 + 1023) << 52);
    for (; n < -1000; n += 1000)
        x *= of_bits((uint64_t)(1023 - 1000) << 52);
    return x * of_bits((uint64_t)(n + 1023) << 52);
}

double kern_exp(double x) {
    if (isnan(x))
        return x;
    if (x > 709.8)
        return INFINITY;
    if (x < -745.2)
        return 0;
    double n = (x * 1.44269504088896338700 + ROUND) - ROUND;
    double hi = x - n * LN2_HI, lo = n * LN2_LO, r = hi - lo, t = r * r;
    double c = r - t * (1.66666666666666019037e-01 +
                        t * (-2.77777777770155933842e-03 +
                             t * (6.61375632143793436117e-05 +
                                  t * (-1.65339022054652515390e-06 +
                                       t * 4.13813679705723846039e-08))));
    return scale2(1 - ((lo - (r * c) / (2 - c)) - hi), (int)n);
}

double kern_log(double x) {
    if (isnan(x) || x < 0)
        return NAN;
    if (x == 0)
        return -INFINITY;
    if (isinf(x))
        return x;
    int e = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        e = -54;
    }
    uint64_t u = bits_of(x);
    e += (int)(u >> 52) - 1023;
    u = (u & 0xfffffffffffffULL) | 0x3ff0000000000000ULL;
    double m = of_bits(u);
    if (m > 1.41421356237309504880) {
        m *= 0.5;
        e++;
    }
    double f = m - 1, s = f / (2 + f), z = s * s, w = z * z;
    double t1 =
        w * (3.999999999940941908e-01 +
             w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    double t2 =
        z *
        (6.666666666666735130e-01 +
         w * (2.857142874366239149e-01 +
              w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    double half = 0.5 * f * f, k = e;
    return k * LN2_HI - ((half - (s * (half + (t1 + t2)) + k * LN2_LO)) - f);
}

double kern_pow(double x, double y) { return kern_exp(y * kern_log(x)); }

static double poly_sin(double x, double y) {
    double z = x * x, v = z * x;
    double r = 8.33333333332248946124e-03 +
               z * (-1.98412698298579493134e-04 +
                    z * (2.75573137070700676789e-06 +
                         z * (-2.50507602534068634195e-08 +
                              z * 1.58969099521155010221e-10)));
    return x - ((z * (0.5 * y - v * r) - y) + v * 1.66666666666666324348e-01);
}

static double poly_cos(double x, double y) {
    double z = x * x;
    double r = z * (4.16666666666666019037e-02 +
                    z * (-1.38888888888741095749e-03 +
                         z * (2.48015872894767294178e-05 +
                              z * (-2.75573143513906633035e-07 +
                                   z * (2.08757232129817482790e-09 +
                                        z * -1.13596475577881948265e-11)))));
    double h = 0.5 * z, w = 1 - h;
    return w + (((1 - w) - h) + (z * r - x * y));
}

void kern_sincos(double x, double *sin_x, double *cos_x) {
    if (!(fabs(x) <= 0x1p20)) {
        *sin_x = *cos_x = NAN;
        return;
    }
    double n = (x * 6.36619772367581382433e-01 + ROUND) - ROUND;
    /* n < 2^20 and the parts have 33 bits: each product is exact. */
    double a = x - n * PIO2_1, w = n * PIO2_2;
    double b = a - w;
    double e = ((a - b) - w) - n * PIO2_3;
    double r = b + e, y = (b - r) + e;
    double s = poly_sin(r, y), c = poly_cos(r, y);
    switch ((int)(int64_t)n & 3) {
    case 0: *sin_x = s, *cos_x = c; break;
    case 1: *sin_x = c, *cos_x = -s; break;
    case 2: *sin_x = -s, *cos_x = -c; break;
    default: *sin_x = -c, *cos_x = s; break;
    }
}
