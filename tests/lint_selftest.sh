#!/usr/bin/env bash
# Proves that lint fails: plants one violation at a time in a copy of nothing
# but that file, and expects lint.sh to name it.
set -u
here=$(dirname "$(realpath "$0")")
fails=0 n=0
expect() { # FILE CONTENT MESSAGE-PART
    local d
    d=$(mktemp -d)
    mkdir -p "$d/$(dirname "$1")"
    printf '%s\n' "$2" >"$d/$1"
    n=$((n + 1))
    if LINT_ONLY=text "$here/lint.sh" "$d" >"$d/out" 2>&1 || ! grep -qF -- "$3" "$d/out"; then
        echo "lint self-test: not caught in $1: $2"
        cat "$d/out"
        fails=$((fails + 1))
    fi
    rm -rf "$d"
}
expect core/recipe/x.c '#include "core/engine.h"' 'recipe must not include engine'
expect core/daemon/x.c '#include "core/engine.h"' 'daemon must not include engine'
expect core/engine/x.c '#include "store/store.h"' 'engine must not include store'
expect core/train/x.c '#include "core/sample.h"' 'train must not include sample'
expect kernels/cpu/x.c '#include "core/err.h"' 'kernels must not include base'
expect store/x.c '#include "core/err.h"' 'store must not include base'
expect tui/x.c '#include "core/err.h"' 'tui must not include base'
expect views/x.c '#include "core/ckpt/int.h"' 'private to ckpt'
expect views/x.c '#include <sqlite3.h>' 'only store/ includes sqlite3.h'
expect views/x.c '#include <curses.h>' 'only tui/ includes curses'
expect core/base/x.c 'void f(char *a) { strcpy(a, "x"); }' '(banned)'
expect store/x.c 'void f(void) { exit(1); }' 'only views/main.c may'
d=$(mktemp -d) && mkdir -p "$d/core/base" && printf '/* strcpy() and exit() in prose */\n' >"$d/core/base/x.c"
n=$((n + 1))
LINT_ONLY=text "$here/lint.sh" "$d" >/dev/null || { echo "lint self-test: a comment was taken for code"; fails=$((fails + 1)); }
rm -rf "$d"
echo "lint self-test: $((n - fails)) of $n planted cases judged rightly"
[ $fails -eq 0 ]
