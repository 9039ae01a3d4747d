#!/usr/bin/env bash
# make lint: the arrows of DESIGN, banned functions, mutable globals, headers
# that compile alone, format. usage: tests/lint.sh [ROOT]
# Prints one line a violation and exits 1 when there is any.
# Lengths (lines, functions, files) only warn, with LINT_LENGTHS=1.
set -u
export LC_ALL=C
root=$(realpath "${1:-$(dirname "$0")/..}")
cd "$root" || exit 2
bad=0
fail() { printf 'lint: %s\n' "$*"; bad=$((bad + 1)); }

# Who may include whom: module: the modules left of it.
declare -A MAY=(
    [base]="base"
    [wire]="wire base"
    [kernels]="kernels"
    [store]="store"
    [tui]="tui"
    [model]="model wire base kernels"
    [text]="text model wire base kernels"
    [train]="train text model wire base kernels"
    [sample]="sample text model wire base kernels"
    [ckpt]="ckpt train sample text model wire base kernels"
    [engine]="engine ckpt train sample text model wire base kernels"
    [daemon]="daemon wire base store"
    [client]="client wire base"
    [starter]="starter text model wire base kernels"
    [recipe]="recipe starter client text model wire base"
    [cost]="cost client wire base"
    [views]="views tui store recipe cost starter client daemon engine ckpt sample train text model wire base"
)

# The module of a file, by its path: core/X/… and core/X.h are X; what base
# publishes under its own names is base.
module_of() {
    case $1 in
    core/err.h | core/buf.h | core/clock.h | core/rng.h | core/fs.h | core/json.h | core/line.h | core/log.h | core/table.h) echo base ;;
    core/*/*) local m=${1#core/}; echo "${m%%/*}" ;;
    core/*.h) local m=${1#core/}; echo "${m%.h}" ;;
    kernels/* | store/* | tui/* | views/*) echo "${1%%/*}" ;;
    *) echo none ;;
    esac
}

sources() { find core kernels store tui views -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null | sort; }

check_arrows() {
    local file inc from to
    while IFS=: read -r file inc; do
        from=$(module_of "$file")
        case $inc in
        */*) to=$(module_of "$inc") ;;
        *) to=$from ;; # a sibling
        esac
        # A folder's private headers are its own.
        if [[ $inc == core/*/* && $to != "$from" ]]; then
            fail "$file: includes $inc, private to $to"
        elif [[ " ${MAY[$from]:-} " != *" $to "* ]]; then
            fail "$file: $from must not include $to ($inc)"
        fi
    done < <(sources | xargs grep -HoE '^ *# *include "[^"]+"' | sed -E 's/: *# *include "([^"]+)"/:\1/')
    # One user each of the libraries that a folder stands for.
    while IFS=: read -r file inc; do
        case $inc in
        *curses*) [[ $file == tui/* ]] || fail "$file: only tui/ includes curses" ;;
        sqlite3.h) [[ $file == store/* ]] || fail "$file: only store/ includes sqlite3.h" ;;
        curl/*) [[ $file == core/client/* || $file == core/daemon/* ]] || fail "$file: only core/client includes curl" ;;
        esac
    done < <(sources | xargs grep -HoE '^ *# *include <[^>]+>' | sed -E 's/: *# *include <([^>]+)>/:\1/')
}

# Code without comments and string contents, so that prose is not a violation.
strip_c() { perl -0pe 's{/\*.*?\*/}{my $c=$&; $c=~s/[^\n]//g; $c}gse; s{"(\\.|[^"\\\n])*"}{""}g' "$1"; }

check_banned() {
    local f
    local never='\b(strcpy|strcat|sprintf|vsprintf|strncpy|strncat|strtok|atoi|atol|atof|gets|gmtime|localtime|ctime|asctime|system|rand|srand|alloca)[ ]*\('
    local quiet='\b(exit|abort|perror)[ ]*\(|fprintf[ ]*\([ ]*stderr'
    while read -r f; do
        strip_c "$f" | grep -nE "$never" | sed "s|^|lint: $f:|; s|\$| (banned)|" >>"$out"
        case $f in views/main.c | core/base/err.c) ;; *)
            strip_c "$f" | grep -nE "$quiet" | grep -vE '_exit' | sed "s|^|lint: $f:|; s|\$| (only views/main.c may)|" >>"$out" ;;
        esac
    done < <(sources)
    if [ -s "$out" ]; then
        cat "$out"
        bad=$((bad + $(wc -l <"$out")))
    fi
    : >"$out"
}

# Static or global data that can change: sections .data, .bss, .tdata, .tbss.
# Fuzz targets may keep what they opened from one input to the next.
check_globals() {
    local lib=${BUILD:-build}/lib
    [ -d "$lib" ] || { echo "lint: globals not checked (nothing built under $lib)"; return; }
    while read -r line; do fail "mutable global: $line"; done < <(
        for a in "$lib"/*.a; do
            [[ $a == */fuzz.a ]] && continue
            objdump -t "$a" 2>/dev/null | awk -v lib="$(basename "$a")" \
                '/file format/ {file = $1} $0 ~ / O (\.data|\.bss|\.tdata|\.tbss)(\..*)?\t/ && $0 !~ /data\.rel\.ro|__asan|__odr_asan|__ubsan|\.LUBSAN|\.Lubsan/ {print lib, file, $NF}'
        done)
}

check_headers() {
    local h
    while read -r h; do
        [[ $h == kernels/cuda/* || $h == kernels/cpu/* ]] && continue
        head -n 1 "$h" | grep -q '^/\*' || fail "$h: does not begin with its contract comment"
        gcc -std=c11 -D_GNU_SOURCE -I. -fsyntax-only -x c "$h" 2>"$out" || fail "$h: does not compile alone: $(head -n 1 "$out")"
        : >"$out"
    done < <(sources | grep '\.h$')
}

check_format() {
    command -v clang-format >/dev/null || { echo "lint: format not checked (no clang-format)"; return; }
    local f
    while read -r f; do
        [[ $f == *.cu || $f == *.cuh ]] && continue
        clang-format --dry-run -Werror "$f" >/dev/null 2>&1 || fail "$f: format (make format)"
    done < <(sources; find tests -name '*.[ch]' | sort)
}

check_lengths() {
    sources | xargs awk 'length > (FILENAME ~ /cuda/ ? 100 : 80) {printf "lint: warning: %s:%d: %d columns\n", FILENAME, FNR, length}
        FNR == 1000 {printf "lint: warning: %s: over 1000 lines\n", FILENAME}'
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
check_arrows
check_banned
[ "${LINT_ONLY:-}" = text ] || { check_globals; check_headers; check_format; }
[ "${LINT_LENGTHS:-}" = 1 ] && check_lengths
[ $bad -eq 0 ] && echo "lint: clean" || { echo "lint: $bad violations"; exit 1; }
