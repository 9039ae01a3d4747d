#!/usr/bin/env bash
# kill -9 of the worker, then of the daemon, at random instants of a training
# run: every run must finish, its metrics must have no gap or duplicate, and
# its final checkpoint must be byte-identical to an undisturbed run's.
# usage: kill.sh MODEL_DIR DATA.jsonl [KILLS=20] [STEPS=200] [KEY=VALUE...]
# FETTLE names the binary. Ends with 'N passed, N failed'.
set -u
model=$(realpath "$1") data=$(realpath "$2") kills=${3:-20} steps=${4:-200}
shift $(($# < 4 ? $# : 4))
fettle=${FETTLE:-build/fettle}
work=$(mktemp -d)
RANDOM=${SEED:-7}
pass=0 fail=0

# The values of a key in JSON that is printed a key a line, or as one line.
values() { grep -oE "\"$1\": ?(\"[^\"]*\"|[0-9]+)" | sed -E 's/^[^:]*: ?"?//; s/"$//'; }
stop() { "$fettle" stop --home "$1" >/dev/null 2>&1; }
trap 'for h in "$work"/*/; do stop "$h"; done; rm -rf "$work"' EXIT

start() { # HOME KEY=VALUE... -> run number
    local home=$1
    shift
    "$fettle" model add m "$model" --home "$home" >/dev/null &&
        "$fettle" run sft model=m data="$data" max_steps="$steps" num_epochs=100000 "$@" \
            save_every=50 eval_every=0 sample_every=0 --home "$home"
}
state() { "$fettle" show "$1" --json --home "$2" 2>/dev/null | values state | head -n 1; }
wait_end() { # RUN HOME
    local s
    for _ in $(seq 1200); do
        s=$(state "$1" "$2")
        case $s in done | failed | killed) break ;; esac
        sleep 0.1
    done
    echo "$s"
}
digest() { (cd "$1/ckpt" && find . -path ./.snap -prune -o -type f -path '*/final/*' -print0 | sort -z | xargs -0 sha256sum | sed -E 's|\./[^/]*/|./RUN/|') | sha256sum; }
series_whole() { # RUN HOME
    "$fettle" metrics "$1" train_mean_nll --json --home "$2" | values step | sort -n | cmp -s - <(seq 0 $((steps - 1)))
}
judge() { # NAME RUN HOME WANT
    local s got
    s=$(wait_end "$2" "$3")
    got=$(digest "$3")
    if [ "$s" = done ] && series_whole "$2" "$3" && [ "$got" = "$4" ]; then
        pass=$((pass + 1))
        echo "ok   $1"
    else
        fail=$((fail + 1))
        echo "FAIL $1: state '$s', metrics $(series_whole "$2" "$3" && echo whole || echo broken), checkpoint $([ "$got" = "$4" ] && echo equal || echo differs)"
    fi
}

for mode in "lora_rank=8" "lora_rank=0"; do
    calm=$work/calm-$mode
    run=$(start "$calm" "$mode" "$@") || { echo "cannot start the undisturbed run"; exit 1; }
    t0=$(date +%s%N)
    s=$(wait_end "$run" "$calm")
    ms=$((($(date +%s%N) - t0) / 1000000))
    want=$(digest "$calm")
    [ "$s" = done ] && series_whole "$run" "$calm" && pass=$((pass + 1)) || { fail=$((fail + 1)); echo "FAIL undisturbed $mode: $s"; }
    stop "$calm"
    echo "undisturbed run, $mode: $steps steps in $ms ms"
    for victim in worker daemon both; do
        home=$work/$victim-$mode
        run=$(start "$home" "$mode" "$@")
        n=0
        while [ $n -lt "$kills" ]; do
            sleep "$(printf '0.%03d' $((RANDOM % 900)))"
            case $(state "$run" "$home") in done | failed | killed) break ;; esac
            status=$("$fettle" status --json --home "$home" 2>/dev/null)
            { read -r daemon; read -r worker; } < <(values pid <<<"$status"; echo; echo)
            pid=$daemon
            [ $victim = worker ] && pid=$worker
            [ $victim = both ] && [ $((RANDOM % 2)) = 0 ] && pid=$worker
            [ -n "$pid" ] && [ "$pid" -gt 1 ] && kill -9 "$pid" 2>/dev/null && n=$((n + 1))
        done
        judge "kill -9 of the $victim, $n times, $mode" "$run" "$home" "$want"
        stop "$home"
    done
done
echo "$pass passed, $fail failed"
[ $fail -eq 0 ]
