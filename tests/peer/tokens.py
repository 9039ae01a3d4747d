#!/usr/bin/env python3
"""fettle tokenize and detokenize beside Hugging Face tokenizers, tiktoken and SentencePiece.

usage: tokens.py FETTLE [--texts N] [--seed S] [--only NAME,...] [--gen SCRIPT] [--real DIR]

Tokenizers are trained anew for each seed (BPE with bytes and with byte fallback, Unigram, WordPiece, WordLevel, added
tokens with every flag); --gen names another script that writes such directories ('SCRIPT OUT --seed N --lines N').
--real: a folder of directories with real vocabularies, each a tokenizer.json, a .tiktoken or a tokenizer.model. Each gets
N texts: random and adversarial ones, floods, pieces of its own vocabulary, and control tokens written out. Ids and the
text of ids must be the same; those of Hugging Face get another post-processor, and then the characters that tokens cover
must be the same, too. Ends with 'N passed, N failed'.
"""
import argparse
import base64
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile

os.environ["RUST_BACKTRACE"] = "0"

from tokenizers import AddedToken, Regex, Tokenizer, decoders as D, models as M, normalizers as N
from tokenizers import pre_tokenizers as P, processors as X, trainers as T

import splits


# ---- texts ----

def texts(rnd, n, vocab, control):
    """n texts for a vocabulary (strings); control: its special tokens."""
    letters = ["a", "b", " ", "\n", "é", "字", "\u0301", "👍", "0", "'s", "▁", "<0x41>", "##", "\ufffd", "\x7f", "\u2028"]
    out = ["", " ", "  a", "a  ", "\n\n a"]
    out += [c * rnd.randint(200, 3000) for c in letters] + [(c + d) * 300 for c, d in zip(letters, letters[1:])]
    out += list(splits.strings(rnd, n // 3))
    while len(out) < n:
        parts = []
        for _ in range(rnd.randint(1, 12)):
            r = rnd.random()
            parts.append(rnd.choice(vocab) if r < 0.6 else rnd.choice(control) if control and r < 0.75 else rnd.choice(letters))
            if r > 0.9:
                parts[-1] += rnd.choice([" ", "\n", "x", ""])
        out.append("".join(parts))
    return [s.replace("\0", " ") for s in out[:n]]


# ---- tokenizers ----

def byte_bpe(pattern, ignore, norm=None):
    t = Tokenizer(M.BPE(ignore_merges=ignore))
    t.pre_tokenizer = P.Sequence([P.Split(Regex(p), "isolated") for p in pattern] +
                                 [P.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = D.ByteLevel()
    if norm:
        t.normalizer = norm
    return t, dict(trainer=T.BpeTrainer, initial_alphabet=P.ByteLevel.alphabet())


def fallback_bpe(norm, pre, strip):
    t = Tokenizer(M.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = norm
    if pre:
        t.pre_tokenizer = pre
    t.decoder = D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse()] + ([D.Strip(" ", 1, 0)] if strip else []))
    return t, dict(trainer=T.BpeTrainer, limit_alphabet=300, max_token_length=16,
                   special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)])


def affix_bpe():
    t = Tokenizer(M.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
    t.normalizer, t.pre_tokenizer, t.decoder = N.Lowercase(), P.Whitespace(), D.BPEDecoder()
    return t, dict(trainer=T.BpeTrainer, special_tokens=["[UNK]"], end_of_word_suffix="</w>")


def unigram():
    t = Tokenizer(M.Unigram())
    t.normalizer = N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer, t.decoder = P.Metaspace("▁", prepend_scheme="always"), D.Metaspace("▁", prepend_scheme="always")
    return t, dict(trainer=T.UnigramTrainer, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")


def wordpiece():
    t = Tokenizer(M.WordPiece(unk_token="[UNK]"))
    t.normalizer, t.pre_tokenizer, t.decoder = N.BertNormalizer(lowercase=True), P.BertPreTokenizer(), D.WordPiece()
    return t, dict(trainer=T.WordPieceTrainer, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], limit_alphabet=300)


def wordlevel():
    t = Tokenizer(M.WordLevel(unk_token="[UNK]"))
    t.pre_tokenizer = P.WhitespaceSplit()
    return t, dict(trainer=T.WordLevelTrainer, special_tokens=["[UNK]"])


KINDS = {
    "llama2": lambda: fallback_bpe(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, True),
    "metaspace": lambda: fallback_bpe(N.Sequence([]), P.Metaspace("▁", prepend_scheme="first", split=False), True),
    "gemma": lambda: fallback_bpe(N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), False),
    "affix": affix_bpe, "unigram": unigram, "wordpiece": wordpiece, "wordlevel": wordlevel,
}
for family, patterns in splits.FAMILIES.items():
    KINDS[family] = lambda p=patterns, f=family: byte_bpe(p, f in ("llama3", "o200k"), N.NFC() if "qwen" in f else None)


def flags(rnd):
    """Added tokens with every flag, among them what overlaps."""
    words = ["[A]", "[AB]", "[AB]C", "word", "Wörd", "<|x|>", "<|x|><|y|>", "e\u0301", "  ", "\n\n", "é", "a b"]
    return [AddedToken(w, special=rnd.random() < 0.5, lstrip=rnd.random() < 0.3, rstrip=rnd.random() < 0.3,
                       single_word=rnd.random() < 0.3,
                       # two that are normalised to the same: which of them is found is no rule of theirs
                       normalized=rnd.random() < 0.5 and w not in ("e\u0301", "\n\n")) for w in words]


def train(kind, rnd):
    t, how = KINDS[kind]()
    corpus = list(splits.strings(rnd, 1500)) + [open(splits.__file__).read()] + [" ".join(
        "".join(rnd.choice("abcdeéü字") for _ in range(rnd.randint(1, 6))) for _ in range(60)) for _ in range(300)]
    make = how.pop("trainer")
    t.train_from_iterator(corpus, make(vocab_size=rnd.randint(700, 3000), show_progress=False, **how))
    if rnd.random() < 0.8:
        t.add_tokens(flags(rnd))
    if rnd.random() < 0.5:
        t.add_special_tokens(["<bos>"])
        t.post_processor = X.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", t.token_to_id("<bos>"))])
    return t


def post(t, rnd):
    """Another post-processor for t: what trims, what puts tokens around, in any order."""
    words = sorted(x for x in t.get_vocab().items() if re.fullmatch("[a-z<>]+", x[0]))
    a, b = rnd.sample(words, 2)
    trims = [X.ByteLevel(add_prefix_space=rnd.random() < 0.5, trim_offsets=rnd.random() < 0.7) for _ in range(2)]
    around = X.TemplateProcessing(f"{a[0]} $A {b[0]}", special_tokens=[a, b])
    t.post_processor = rnd.choice([
        trims[0], around, X.Sequence([trims[0], around]), X.Sequence([around, trims[0]]), X.Sequence([trims[0], trims[1]]),
        X.RobertaProcessing(a, b, trim_offsets=rnd.random() < 0.8, add_prefix_space=rnd.random() < 0.5)])


# ---- references: (encode, decode, vocabulary, control tokens, ids that are not decoded) ----

def of_json(path):
    j = json.load(open(path))
    t = Tokenizer.from_str(json.dumps({**j, "truncation": None, "padding": None}))

    def encode(s):
        try:
            return t.encode(s, add_special_tokens=False).ids
        except BaseException as e:  # "bad split": spans of added tokens that cross are a panic
            if type(e).__name__ != "PanicException":
                raise
            return None
    return (encode, lambda i: t.decode(i, skip_special_tokens=False),
            sorted(w.replace("Ġ", " ").replace("Ċ", "\n") for w in t.get_vocab()),
            [a["content"] for a in j["added_tokens"]],
            # from 0.23 on these are decoded as what the normalizer makes of them, not as they are written
            {a["id"] for a in j["added_tokens"] if t.id_to_token(a["id"]) != a["content"]})


TIKTOKEN = {  # ranks: pattern, special tokens at (tiktoken's own, and Qwen's)
    50256: ("gpt2", {"<|endoftext|>": 50256}), 50257: ("gpt2", {"<|endoftext|>": 50256}),
    50281: ("gpt2", {"<|endoftext|>": 50256}),
    100256: ("cl100k", {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259,
                        "<|fim_suffix|>": 100260, "<|endofprompt|>": 100276}),
    199998: ("o200k", {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}),
    151643: ("qwen2", {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|extra_0|>": 151646,
                       "<|extra_204|>": 151850}),
}


def of_tiktoken(path):
    import tiktoken
    lines = [line.split() for line in open(path, "rb")]
    ranks = {base64.b64decode(a): int(b) for a, b in (x for x in lines if len(x) == 2 and x[0] != b"=")}
    family, special = TIKTOKEN[1 + max(int(x[-1]) for x in lines)]
    e = tiktoken.Encoding("x", pat_str=splits.FAMILIES[family][0], mergeable_ranks=ranks, special_tokens=special)
    norm = N.NFC().normalize_str if family == "qwen2" else str  # Python's is of another Unicode
    return (lambda s: e.encode(norm(s), allowed_special="all"), lambda i: e.decode(i, errors="replace"),
            [b.decode("utf-8", "replace") for b in ranks], list(special), set())


def of_sentencepiece(path):
    import sentencepiece
    p = sentencepiece.SentencePieceProcessor(model_file=path)
    pieces = [(p.id_to_piece(i), p.is_control(i) or p.is_unknown(i)) for i in range(p.get_piece_size())]
    control = [s for s, is_control in pieces if is_control]

    def encode(s):
        """None: not comparable, control tokens in a text are none there."""
        return None if any(c in s for c in control) else p.encode(s)
    return encode, p.decode, [s.replace("▁", " ") for s, is_control in pieces if not is_control], [], {p.unk_id()}


def reference(d):
    for pattern, of in (("tokenizer.json", of_json), ("*.tiktoken", of_tiktoken), ("tokenizer.model", of_sentencepiece)):
        for path in glob.glob(os.path.join(d, pattern)):
            return of(path)
    raise SystemExit(f"{d}: no tokenizer in it")


# ---- comparing ----

def fettle(exe, verb, d, rows, *flags):
    r = subprocess.run([exe, verb, d, *flags], input="".join(json.dumps(x) + "\n" for x in rows), capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError(r.stderr.strip())
    return [json.loads(line) for line in r.stdout.split("\n") if line]


def compare(exe, d, n, rnd):
    """The first difference, or None; and the texts compared."""
    encode, decode, vocab, control, strange = reference(d)
    todo = texts(rnd, n, vocab, control)
    want = [encode(s) for s in todo]
    todo, want = [s for s, w in zip(todo, want) if w is not None], [w for w in want if w is not None]
    got = fettle(exe, "tokenize", d, [dict(text=s) for s in todo])
    for s, w, g in zip(todo, want, got):
        if w != g["tokens"]:
            return f"{ascii(s)[:300]}\n   fettle {g['tokens'][:40]}\n   theirs {w[:40]}", 0
    want = [[i for i in w if i not in strange] for w in want]
    back = fettle(exe, "detokenize", d, [dict(tokens=w) for w in want])
    for w, g in zip(want, back):
        if decode(w) != g["text"]:
            return f"decode {w[:40]}\n   fettle {ascii(g['text'])[:300]}\n   theirs {ascii(decode(w))[:300]}", 0
    return None, len(todo)


def compare_offsets(exe, d, n, rnd, work):
    """The same of what tokens cover."""
    if not os.path.exists(os.path.join(d, "tokenizer.json")):
        return None, 0
    t = Tokenizer.from_file(os.path.join(d, "tokenizer.json"))
    t.no_truncation(), t.no_padding()
    count = 0
    for special in ([], ["--special"]) * 3:
        post(t, rnd)
        t.save(os.path.join(work, "tokenizer.json"))
        todo = texts(rnd, n // 6, sorted(t.get_vocab()), [x.content for x in t.get_added_tokens_decoder().values()])
        got = fettle(exe, "tokenize", work, [dict(text=s) for s in todo], "--offsets", *special)
        for s, g in zip(todo, got):
            try:
                w = t.encode(s, add_special_tokens=bool(special))
            except BaseException as e:
                if type(e).__name__ != "PanicException":
                    raise
                continue
            count += 1
            mine, theirs = (list(zip(*x)) for x in ((g["tokens"], map(tuple, g["offsets"])), (w.ids, w.offsets)))
            if mine != theirs:
                i = next((i for i, (x, y) in enumerate(zip(mine, theirs)) if x != y), min(len(mine), len(theirs)))
                return f"offsets {ascii(s)[:200]} {special} {str(t.post_processor)[:200]}\n   at token {i} {ascii(w.tokens[i:i + 1])[:100]}" \
                    f"\n   fettle {mine[i:i + 6]}\n   theirs {theirs[i:i + 6]}", 0
            chars = [s.encode()[x:y].decode() for x, y in g["byte_offsets"]]
            if chars != [s[x:y] for x, y in g["offsets"]]:
                return f"bytes are not characters: {ascii(s)[:300]}", 0
    return None, count


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fettle")
    ap.add_argument("--texts", type=int, default=1500)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--only", default="")
    ap.add_argument("--gen")
    ap.add_argument("--real")
    a = ap.parse_args()
    passed = failed = total = 0
    with tempfile.TemporaryDirectory() as work:
        if a.gen:
            subprocess.run([sys.executable, a.gen, work, "--seed", str(a.seed), "--lines", "20"], check=True,
                           stdout=subprocess.DEVNULL)
        for kind in [] if a.gen or a.real else KINDS:
            os.makedirs(os.path.join(work, kind))
            train(kind, random.Random(f"{a.seed} {kind}")).save(os.path.join(work, kind, "tokenizer.json"))
        for d in sorted(glob.glob(os.path.join(a.real or work, "*/"))):
            name = os.path.basename(d.rstrip("/"))
            if a.only and name not in a.only.split(","):
                continue
            if not os.path.exists(os.path.join(d, "config.json")):
                open(os.path.join(d, "config.json"), "w").write("{}")
            try:
                bad, n = compare(a.fettle, d, a.texts, random.Random(f"{a.seed} {name}"))
                if not bad:
                    with tempfile.TemporaryDirectory() as other:
                        bad, more = compare_offsets(a.fettle, d, a.texts, random.Random(f"{a.seed} {name} at"), other)
                    n += more
            except RuntimeError as e:
                bad, n = str(e), 0
            total += n
            failed += bool(bad)
            passed += not bad
            print(f"{'FAIL' if bad else 'ok  '} {name:16} {n:7} texts" + (f"\n   {bad}" if bad else ""), flush=True)
    print(f"{total} texts; {passed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
