#!/usr/bin/env bash
# Training steps of one model in PyTorch (eager, compiled) and in fettle, in
# turn, and the ratios of their medians (on a machine that others use, those of
# the least times say more).
# usage: tests/bench/run.sh FETTLE [ROUNDS]      (PYTHON names a python3 with
#        torch and safetensors, MODEL a directory for the model)
# Then: fettle with a busy process on every core, beside fettle alone.
set -u
fettle=$(realpath "${1:?usage: tests/bench/run.sh FETTLE [ROUNDS]}") rounds=${2:-3}
python=${PYTHON:-python3} here=$(realpath "$(dirname "$0")")
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
model=${MODEL:-$work/model}
threads=2
[ -f "$model/config.json" ] || "$python" "$here/torch_step.py" "$model" save || exit 1

# Appends one line of JSON to a file of that name.
torch() { "$python" "$here/torch_step.py" "$model" "$1" "$2" --threads $threads --steps 3 2>/dev/null >>"$work/torch-$1-$2"; }
own() { "$fettle" bench step "$model" --threads $threads --rounds 3 --lora "$2" >>"$work/$1"; }

for ((r = 0; r < rounds; r++)); do
    for mode in eager compile; do
        own fettle-full 0
        torch full $mode
        own fettle-lora 16
        torch lora $mode
    done
done
for ((r = 0; r < rounds; r++)); do
    own alone 0
    for ((i = 0; i < threads; i++)); do (while :; do :; done) & busy[i]=$!; done
    own beside 0
    kill "${busy[@]}"
    wait "${busy[@]}" 2>/dev/null
done

WORK=$work "$python" - <<'PY'
import glob, json, os, statistics as st

rows = {}
for path in glob.glob(os.environ["WORK"] + "/*"):
    if os.path.isfile(path):
        rows[os.path.basename(path)] = [json.loads(line) for line in open(path)]
med = {k: st.median(r["s"] for r in v) for k, v in rows.items()}
least = {k: min(r["min_s"] for r in v) for k, v in rows.items()}
rss = {k: st.median(r["rss_mib"] for r in v) for k, v in rows.items()}
for what in ("full", "lora"):
    peers = [f"torch-{what}-{m}" for m in ("eager", "compile")]
    best = min(peers, key=med.get)
    for k in peers + [f"fettle-{what}"]:
        loss = rows[k][0]["loss"]
        print(f"{k:20} {med[k]:7.3f} s  least {least[k]:7.3f} s  {512 / med[k]:6.1f} tok/s  {rss[k]:5.0f} MiB  loss {loss:.5f}")
    f = f"fettle-{what}"
    small = min(rss[p] for p in peers)
    fast = min(least[p] for p in peers)
    print(f"{what}: PyTorch's time / fettle's {med[best] / med[f]:.2f} ({best}), of the least {fast / least[f]:.2f}; "
          f"memory fettle / PyTorch {rss[f] / small:.2f}")
print(f"start to first step: full {st.median(r['first_step_s'] for r in rows['fettle-full']):.2f} s, "
      f"LoRA {st.median(r['first_step_s'] for r in rows['fettle-lora']):.2f} s")
print(f"rate beside a busy process a core / alone: {med['alone'] / med['beside']:.2f}")
PY
