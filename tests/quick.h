/*
 * quick - for tests with millions of assertions. Check writes a mark to a file
 * for each one that holds, which takes minutes; with this header only failures
 * are told. The price: a crash names the test, but no line.
 */
#ifndef FETTLE_TESTS_QUICK_H
#define FETTLE_TESTS_QUICK_H

#include <check.h>

#define _mark_point(file, line) ((void)0)

#endif
