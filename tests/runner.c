/* The main of every test binary: runs the one suite that SUITE names. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define STR2(x) #x
#define STR(x) STR2(x)

Suite *SUITE(void);

int main(void) {
    SRunner *sr = srunner_create(SUITE());
    srunner_run_all(sr, CK_ENV);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
