#!/usr/bin/env bash
# Makes the starter model: writes it untrained with its corpus, trains it with
# fettle itself, and puts the result into OUT. Half an hour on two cores.
# usage: make.sh FETTLE OUT
set -euo pipefail
fettle=$1 out=$2
work=$(mktemp -d)
export FETTLE_HOME=$work/home
trap '"$fettle" stop >/dev/null 2>&1; rm -rf "$work"' EXIT
"$fettle" starter -o "$work/made"
"$fettle" model add fettle/untrained "$work/made/model"
"$fettle" run sft model=fettle/untrained data="$work/made/pretrain.jsonl" \
    train_on_what=all_tokens lora_rank=0 reduction=token \
    batch_size=64 learning_rate=3e-3 lr_schedule=cosine warmup_steps=150 \
    weight_decay=0.05 grad_clip_norm=1 \
    test_size=200 eval_every=250 save_every=500 sample_every=0 --wait
"$fettle" export 1/final --as hf --dtype bf16 -o "$work/trained"
rm -rf "$out"
mkdir -p "$(dirname "$out")"
cp -R "$work/trained" "$out"
chmod -R u=rwX,go=rX "$out"
ls -l "$out"
