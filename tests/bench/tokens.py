#!/usr/bin/env python3
"""Encoding beside Hugging Face tokenizers and tiktoken, in turns in one run, one thread each.

usage: make && tests/bench/tokens.py FETTLE [--mb 8] [--rounds 3] [DIR...]

DIR: a directory with a tokenizer.json, a .tiktoken or a tokenizer.model; without one a file of 15 MB with random merges is
made and opened for time and memory. English is Python's documentation, code its library, CJK random
words of 300 characters. fettle reads lines of JSON and writes ids, so its time has that in it, less what an empty text
takes (opening); the others get the texts as they are. Needs tokenizers; tiktoken where a .tiktoken file is.
"""
import argparse
import base64
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

os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "peer"))
import splits
from tokenizers import Tokenizer


def texts(mb):
    """Name: list of texts of some 100 kB."""
    rnd = random.Random(1)
    english = "\n".join(pydoc_data.topics.topics.values())
    code = "\n".join(open(p, errors="ignore").read() for p in sorted(glob.glob(os.path.dirname(inspect.__file__) + "/*.py")))
    words = ["".join(chr(0x4E00 + rnd.randrange(300)) for _ in range(rnd.randint(1, 4))) for _ in range(2000)]
    cjk = "".join(rnd.choice(words) + rnd.choice(["", "", "", "，", "。"]) for _ in range(400000))
    out = {}
    for name, s in (("english", english), ("code", code), ("cjk", cjk)):
        s = s.encode()[:mb << 20].decode(errors="ignore")
        out[name] = [s[i:i + 100000] for i in range(0, len(s), 100000)]
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


def fettle(exe, d, todo):
    """Seconds, and the ids of each text."""
    lines = "".join(json.dumps(dict(text=s), ensure_ascii=False) + "\n" for s in todo)
    at = time.perf_counter()
    r = subprocess.run([exe, "tokenize", d], input=lines.encode(), stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - at, [json.loads(x)["tokens"] for x in r.stdout.splitlines()]


def timed(encode, todo):
    at = time.perf_counter()
    ids = [encode(s) for s in todo]
    return time.perf_counter() - at, ids


def peers(d):
    out = {}
    if os.path.exists(d + "/tokenizer.json"):
        t = Tokenizer.from_file(d + "/tokenizer.json")
        out["HF tokenizers"] = lambda s: t.encode(s, add_special_tokens=False).ids
    for path in glob.glob(d + "/*.tiktoken"):
        import tiktoken
        ranks = {base64.b64decode(a): int(b) for a, b in (line.split() for line in open(path, "rb"))}
        family = {199998: "o200k", 100256: "cl100k", 151643: "qwen2"}.get(len(ranks), "gpt2")
        e = tiktoken.Encoding("x", pat_str=splits.FAMILIES[family][0], mergeable_ranks=ranks, special_tokens={})
        out["tiktoken"] = e.encode_ordinary
    return out


def row(exe, d, name, todo, rounds):
    size = sum(len(s.encode()) for s in todo) / 1e6
    took = {"fettle": [], **{k: [] for k in peers(d)}}
    others = peers(d)
    for _ in range(rounds):
        empty = fettle(exe, d, [""])[0]
        s, ids = fettle(exe, d, todo)
        took["fettle"].append(s - empty)
        for k, encode in others.items():
            s, theirs = timed(encode, todo)
            took[k].append(s)
            assert ids == theirs, f"{d} {name}: fettle and {k} differ"
    rates = "  ".join(f"{k} {size / statistics.median(v):6.1f}" for k, v in took.items())
    print(f"{os.path.basename(d):12} {name:8} {size:5.1f} MB   MB/s: {rates}", flush=True)


def opening(exe, d, rounds):
    """A child's time and its peak memory, less nothing."""
    took, rss = [], 0
    for _ in range(rounds):
        at = time.perf_counter()
        p = subprocess.Popen([exe, "tokenize", d], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, _, use = os.wait4(p.pid, 0)
        took.append(time.perf_counter() - at)
        rss = max(rss, use.ru_maxrss)
    at = time.perf_counter()
    Tokenizer.from_file(d + "/tokenizer.json")
    print(f"opening {os.path.getsize(d + '/tokenizer.json') / 1e6:.1f} MB: fettle {1000 * statistics.median(took):.0f} ms (least "
          f"{1000 * min(took):.0f}), {rss / 1024:.0f} MiB; HF tokenizers {1000 * (time.perf_counter() - at):.0f} ms")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fettle")
    ap.add_argument("dirs", nargs="*")
    ap.add_argument("--mb", type=int, default=8)
    ap.add_argument("--rounds", type=int, default=3)
    a = ap.parse_args()
    todo = texts(a.mb)
    with tempfile.TemporaryDirectory() as work:
        if not a.dirs:
            make(work, 180000)
            opening(a.fettle, work, a.rounds)
        for d in a.dirs:
            for name, s in todo.items():
                row(a.fettle, d.rstrip("/"), name, s, a.rounds)


if __name__ == "__main__":
    main()
