/* convert: prints the tokenizer.json that fettle makes of a directory's
 * .tiktoken or tokenizer.model. usage: convert DIR */
#include "core/text/convert.h"

#include <stdio.h>

int main(int argc, char **argv) {
    struct err err = {0};
    struct buf json;
    buf_init(&json, CONVERT_MAX);
    int rc = argc == 2 ? convert_dir(argv[1], &json, &err)
                       : err_set(&err, ERR_USAGE, "usage: convert DIR");
    if (rc == 0)
        fwrite(json.data, 1, json.len, stdout);
    else
        fprintf(stderr, "convert: %s\n", err.msg);
    buf_release(&json);
    return rc == 0 ? 0 : 1;
}
