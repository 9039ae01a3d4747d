#!/usr/bin/env python3
"""fettle tokenize and detokenize beside SentencePiece, on models trained here with options drawn at random.

usage: sp_models.py FETTLE [--models N] [--texts N] [--seed S]

Unigram and BPE, with and without byte fallback, user-defined symbols, dummy prefix, removal of extra white space, white space as
suffix, digits split, all of SentencePiece's normalizations. Each is equal or refused by name; ends with 'N equal, N refused, N
failed'.
"""
import argparse
import json
import os
import random
import re
import sys
import tempfile

import sentencepiece

import splits
import tokens

USER = ["<sep>", "<a>", "@@", "don't", "é", "字", "▁x", "▁", "ab", "abc", "0", "<mask>", "①", "Ａ", "\U0001f44d", "'s"]


def train(rnd, out):
    corpus = list(splits.strings(rnd, 600)) + [open(tokens.__file__).read()] + [" ".join(
        "".join(rnd.choice("abcdeéü字xAB01") for _ in range(rnd.randint(1, 6))) for _ in range(50)) for _ in range(200)]
    lines = [x for s in corpus for x in re.split("[\n\r\0\v\f\u2028\x85]", s) if x and "▁" not in x and "\x85" not in x]
    kind = rnd.choice(["unigram", "bpe"])
    user = rnd.sample(USER, rnd.randint(1, 5)) if rnd.random() < 0.6 else []
    how = dict(
        model_type=kind, vocab_size=rnd.randint(700, 1500), hard_vocab_limit=False, byte_fallback=rnd.random() < 0.5,
        user_defined_symbols=user, add_dummy_prefix=rnd.random() < 0.6, remove_extra_whitespaces=rnd.random() < 0.5,
        treat_whitespace_as_suffix=rnd.random() < 0.15, split_digits=rnd.random() < 0.5,
        normalization_rule_name=rnd.choice(["identity", "nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf"]),
        character_coverage=rnd.choice([0.98, 1.0]), allow_whitespace_only_pieces=rnd.random() < 0.5,
        split_by_whitespace=rnd.random() < 0.8, control_symbols=["<ctl>"] if rnd.random() < 0.3 else [])
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=os.path.join(out, "tokenizer"),
                                             minloglevel=2, num_threads=1, **how)
    return how


def texts(rnd, n, p):
    vocab = [p.id_to_piece(i).replace("▁", " ") for i in range(p.get_piece_size()) if not p.is_control(i) and not p.is_unknown(i)]
    control = [p.id_to_piece(i) for i in range(p.get_piece_size()) if p.is_control(i) or p.is_unknown(i)]
    user = [u for u in USER if p.piece_to_id(u) != p.unk_id()]
    for s in tokens.texts(rnd, n, vocab + user * 20 + [u + "\u0301" for u in user], []):
        if not any(c in s for c in control):
            yield s


def compare(exe, d, rnd, n):
    p = sentencepiece.SentencePieceProcessor(model_file=os.path.join(d, "tokenizer.model"))
    todo = list(texts(rnd, n, p))
    got = tokens.fettle(exe, "tokenize", d, [dict(text=s) for s in todo])
    bad = 0
    for s, g in zip(todo, got):
        w = p.encode(s)
        if w != g["tokens"]:
            # sums of float32 there, of float64 here: equal ones are told apart by rounding
            score = [sum(p.get_score(i) for i in x) for x in (w, g["tokens"])]
            if abs(score[0] - score[1]) < 1e-3 * max(1, abs(score[0])) and p.unk_id() not in w and bad < n // 50:
                bad += 1
                continue
            i = next((i for i, (x, y) in enumerate(zip(w, g["tokens"])) if x != y), min(len(w), len(g["tokens"])))
            return f"{ascii(s)[:160]} at token {i}\n   fettle {ascii([p.id_to_piece(x) for x in g['tokens'][i:i + 8]])}" \
                f"\n   theirs {ascii([p.id_to_piece(x) for x in w[i:i + 8]])}"
    want = [[i for i in p.encode(s) if i != p.unk_id()] for s in todo]
    for w, g in zip(want, tokens.fettle(exe, "detokenize", d, [dict(tokens=w) for w in want])):
        if p.decode(w) != g["text"]:
            return f"decode {ascii([p.id_to_piece(x) for x in w])[:160]}\n   fettle {ascii(g['text'])[:160]}" \
                f"\n   theirs {ascii(p.decode(w))[:160]}"
    return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fettle")
    ap.add_argument("--models", type=int, default=20)
    ap.add_argument("--texts", type=int, default=400)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    equal = refused = failed = 0
    for k in range(a.models):
        rnd = random.Random(f"{a.seed} {k}")
        with tempfile.TemporaryDirectory() as d:
            how = train(rnd, d)
            open(os.path.join(d, "config.json"), "w").write("{}")
            try:
                bad = compare(a.fettle, d, rnd, a.texts)
            except RuntimeError as e:
                bad = str(e)
                if "not supported" in bad:
                    refused += 1
                    print(f"no   {k:3} {bad[-110:]}")
                    continue
            failed += bool(bad)
            equal += not bad
            short = {x: y for x, y in how.items() if x not in ("vocab_size", "hard_vocab_limit", "character_coverage")}
            print(f"{'FAIL' if bad else 'ok  '} {k:3}" + (f" {short}\n   {bad}" if bad else ""), flush=True)
    print(f"{equal} equal, {refused} refused, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
