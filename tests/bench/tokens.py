#!/usr/bin/env python3
"""Encoding beside Hugging Face tokenizers and tiktoken, in turns in one run, one thread each.

usage: make && tests/bench/tokens.py FETTLE [--rounds 3] [--file NAME=PATH...] [DIR...]

DIR: a directory with a tokenizer.json of bytes (its ids are the ranks for tiktoken); without one a file of 15 MB with
random merges is made and opened for time and memory. Texts: those of --file, else English from Python's documentation,
code of its library, and CJK of random words. fettle's time is `fettle bench text`'s, in a process of its own, on the same
file: anew, without a word that it remembers, and as the median of five times over. The others go on with what they remember
from the round before; the ids of all are compared. Needs tokenizers and tiktoken.
"""
import argparse
import glob
import inspect
import json
import os
import pydoc_data.topics
import random
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "peer"))
import splits
import tiktoken
from tokenizers import Tokenizer


def texts():
    rnd = random.Random(1)
    english = "\n".join(pydoc_data.topics.topics.values())
    code = "\n".join(open(p, errors="ignore").read() for p in sorted(glob.glob(os.path.dirname(inspect.__file__) + "/*.py")))
    words = ["".join(chr(0x4E00 + rnd.randrange(300)) for _ in range(rnd.randint(1, 4))) for _ in range(2000)]
    cjk = "".join(rnd.choice(words) + rnd.choice(["", "", "", "，", "。"]) for _ in range(400000))
    return {"english": english, "code": code, "cjk": cjk}


def written(work):
    """Name: path of at most 8 MB."""
    out = {}
    for name, s in texts().items():
        out[name] = f"{work}/{name}.txt"
        with open(out[name], "wb") as f:
            f.write(s.encode(errors="ignore")[:8 << 20].decode(errors="ignore").encode())
    return out


def make(d, size):
    """A byte-level tokenizer.json of some 15 MB: words of the texts and random ones, cut in the middle."""
    rnd, alphabet = random.Random(2), [chr(c) for c in range(33, 127)] + [chr(c) for c in range(161, 173)] + [
        chr(c) for c in range(174, 256)] + [chr(256 + i) for i in range(68)]
    vocab, merges = {c: i for i, c in enumerate(alphabet)}, []
    tokens = list(alphabet)
    while len(vocab) < size:
        a, b = tokens[int(len(tokens) * rnd.random() ** 3)], tokens[int(len(tokens) * rnd.random() ** 3)]
        if a + b not in vocab and len(a + b) < 14:
            vocab[a + b] = len(vocab)
            merges.append([a, b])
            tokens.append(a + b)
    split = {"type": "Split", "pattern": {"Regex": splits.FAMILIES["llama3"][0]}, "behavior": "Isolated", "invert": False}
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None, "decoder": byte,
               "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte]},
               "model": {"type": "BPE", "vocab": vocab, "merges": merges}}, open(d + "/tokenizer.json", "w"), indent=1)
    open(d + "/config.json", "w").write("{}")


def fettle(exe, d, path, times):
    """Seconds of encoding the file, the median of so many times."""
    r = subprocess.run([exe, "bench", "text", d, path, "--rounds", str(times), "--json"], stdout=subprocess.PIPE, check=True)
    one = json.loads(r.stdout)["rows"][0]
    return one["mb"] / one["encode_mb_s"]


def ids_of(exe, d, todo):
    lines = "".join(json.dumps(dict(text=s), ensure_ascii=False) + "\n" for s in todo)
    r = subprocess.run([exe, "tokenize", d], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return [json.loads(x)["tokens"] for x in r.stdout.splitlines()]


def timed(encode, todo):
    at = time.perf_counter()
    ids = [encode(s) for s in todo]
    return time.perf_counter() - at, ids


def letters():
    """The byte of each letter of a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + i): b for i, b in enumerate(rest)}}


def pattern(j):
    """The regex of a Split that is there, alone or in a sequence."""
    for p in j["pre_tokenizer"].get("pretokenizers", [j["pre_tokenizer"]]):
        if p["type"] == "Split":
            return p["pattern"]["Regex"]
    return splits.FAMILIES["gpt2"][0]


def peers(d):
    t, j, byte = Tokenizer.from_file(d + "/tokenizer.json"), json.load(open(d + "/tokenizer.json")), letters()
    added = {x["content"]: x["id"] for x in j["added_tokens"]}
    ranks = {bytes(byte[c] for c in k): v for k, v in j["model"]["vocab"].items() if k not in added}
    form = (j["normalizer"] or {}).get("type")  # tiktoken has none: it gets the text's form
    assert form in (None, "NFC", "NFKC"), f"{d}: normalizer {form}"
    e = tiktoken.Encoding("x", pat_str=pattern(j), mergeable_ranks=ranks, special_tokens=added)
    return {"HF tokenizers": lambda s: t.encode(s, add_special_tokens=False).ids, "tiktoken": lambda s: e.encode(unicodedata.normalize(form, s) if form else s, allowed_special="all")}


def row(exe, d, name, path, rounds):
    text = open(path, encoding="utf-8", newline="", errors="strict").read()
    todo = [text[i:i + 100000] for i in range(0, len(text), 100000)]
    size, others = len(text.encode()) / 1e6, peers(d)
    took, ours = {k: [] for k in ["fettle anew", "fettle", *others]}, ids_of(exe, d, todo)
    for _ in range(rounds):
        took["fettle anew"].append(fettle(exe, d, path, 1))
        took["fettle"].append(fettle(exe, d, path, 5))
        for k, encode in others.items():
            s, theirs = timed(encode, todo)
            took[k].append(s)
            assert ours == theirs, f"{d} {name}: fettle and {k} differ"
    best = {k: size / min(v) for k, v in took.items()}
    rates = "  ".join(f"{k} {size / statistics.median(v):6.1f} (most {best[k]:.1f})" for k, v in took.items())
    print(f"{os.path.basename(d):12} {name:8} {size:5.1f} MB   MB/s: {rates}", flush=True)


def opening(exe, d, rounds):
    """Time and peak memory of the program that opens it, which says both itself: a child of this one counts its memory."""
    text, took, peak, theirs = os.path.abspath(__file__), [], 0, []
    for _ in range(rounds):
        r = subprocess.run([exe, "bench", "text", d, text, "--rounds", "1", "--json"], stdout=subprocess.PIPE, check=True)
        took.append(json.loads(r.stdout)["open_ms"])
        peak = max(peak, json.loads(r.stdout)["open_peak_mib"])
        at = time.perf_counter()
        Tokenizer.from_file(d + "/tokenizer.json")
        theirs.append(1000 * (time.perf_counter() - at))
    print(f"opening {os.path.getsize(d + '/tokenizer.json') / 1e6:.1f} MB: fettle {statistics.median(took):.0f} ms (least "
          f"{min(took):.0f}), {peak:.0f} MiB; HF tokenizers {statistics.median(theirs):.0f} ms (least {min(theirs):.0f})", flush=True)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fettle")
    ap.add_argument("dirs", nargs="*")
    ap.add_argument("--file", action="append", default=[])
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as work:
        if not a.dirs:
            make(work, 180000)
            opening(a.fettle, work, a.rounds)
        files = dict(f.split("=", 1) for f in a.file) or written(work)
        for d in (d.rstrip("/") for d in a.dirs):
            opening(a.fettle, d, a.rounds)
            for name, path in files.items():
                row(a.fettle, d, name, path, a.rounds)


if __name__ == "__main__":
    main()
