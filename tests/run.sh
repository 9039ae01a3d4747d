#!/usr/bin/env bash
# Runs test binaries and scripts, and ends with the counts.
# usage: tests/run.sh BINARY...
# A binary that ends without Check's summary line counts as one failure.
# JOBS binaries run side by side, one if not set. Cores are shared, sanitizers slow: CK_TIMEOUT_MULTIPLIER stretches the cases' timeouts.
set -u
export CK_TIMEOUT_MULTIPLIER=${CK_TIMEOUT_MULTIPLIER:-4}
export FETTLE=$(realpath "${BUILD:-build}/fettle" 2>/dev/null)
pass=0 fail=0 start=$(date +%s) jobs=${JOBS:-1} i=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for t in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    ("$t" >"$work/$i.out" 2>&1; echo $? >"$work/$i.rc") &
    i=$((i + 1))
done
wait
i=0
for t in "$@"; do
    out=$(tr -d '\0' <"$work/$i.out")
    rc=$(cat "$work/$i.rc")
    i=$((i + 1))
    line=$(grep -aE '^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+' <<<"$out" | tail -n 1)
    read -r checks failures errors < <(sed -E 's/.*Checks: ([0-9]+), Failures: ([0-9]+), Errors: ([0-9]+).*/\1 \2 \3/' <<<"$line")
    if [ -z "$line" ] || { [ $rc -ne 0 ] && [ $((failures + errors)) -eq 0 ]; }; then
        checks=1 failures=1 errors=0
    fi
    bad=$((failures + errors))
    pass=$((pass + checks - bad)) fail=$((fail + bad))
    if [ $bad -gt 0 ]; then
        printf 'FAIL %s (exit %d)\n%s\n' "${t#"${BUILD:-build}"/t/}" $rc "$out"
    else
        printf 'ok   %-28s %4d\n' "${t#"${BUILD:-build}"/t/}" "$checks"
    fi
done
printf 'in %d s\n%d passed, %d failed\n' $(($(date +%s) - start)) $pass $fail
[ $fail -eq 0 ] && [ $pass -gt 0 ]
