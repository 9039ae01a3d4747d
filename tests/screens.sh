#!/usr/bin/env bash
# Records the views as text, from a real run of the demo in a real terminal.
# usage: screens.sh FETTLE [DIR=tests/screens] ; needs tmux and half a minute
set -eu
root=$(pwd -P)
fettle=$(realpath "$1") out=$(realpath -m "${2:-tests/screens}")
command -v tmux >/dev/null || { echo "screens: tmux is wanted: apt-get install tmux" >&2; exit 69; }
home=$(mktemp -d)
FETTLE_HOME=$home
export FETTLE_HOME
server=fettle-screens-$$
tm() { tmux -L "$server" "$@"; }
trap 'tm kill-server 2>/dev/null || :; "$fettle" stop >/dev/null 2>&1; rm -rf "$home"' EXIT
mkdir -p "$out"

open() { # COLUMNS ROWS
    server=fettle-screens-$$-$1-$RANDOM # a server of its own: the last one may still be leaving
    tm -f /dev/null new-session -d -x "$1" -y "$2" "FETTLE_HOME=$home $fettle"
    sleep 1.5
}
keys() { tm send-keys "$@"; sleep 1; }
shot() { # NAME: what stands on the screen, right blanks cut
    tm capture-pane -p | sed "s|$root|~/fettle|; s/[[:space:]]*\$//" >"$out/$1.txt"
    echo "  $out/$1.txt"
}

"$fettle" demo --no-screen >/dev/null 2>&1 &
demo=$!
sleep 4
open 80 24
keys 2
shot run-live-80x24
tm kill-server
wait "$demo"
for size in "80 24" "120 40" "200 60"; do
    read -r w h <<<"$size"
    open "$w" "$h"
    shot "jobs-${w}x$h"
    keys 2
    shot "run-${w}x$h"
    keys 3
    shot "ckpt-${w}x$h"
    keys 4
    shot "samples-${w}x$h"
    keys 8
    shot "data-${w}x$h"
    keys 7
    shot "models-${w}x$h"
    keys Enter
    shot "parity-${w}x$h"
    keys 6
    shot "deploy-${w}x$h"
    keys C
    tm send-keys "What pet does Mira have?" Enter
    sleep 3
    shot "chat-${w}x$h"
    keys Escape
    keys '?'
    shot "help-${w}x$h"
    tm kill-server || true # it may have left by itself
done
