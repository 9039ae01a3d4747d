#!/usr/bin/env python3
"""fettle's pre-tokenizers and normalizers beside Hugging Face's.

usage: splits.py PIECES [--strings N] [--seed S] [--only NAME,...] [--scalars]
       splits.py --golden > tests/golden/splits.jsonl

Random strings over an alphabet made to break them (every class of letters,
every white space, marks, signs, new and unassigned characters), N for each
configuration; with --scalars every character of Unicode in the contexts of
spec/renderers §11, too. (Above 20,000 only the patterns of the families.) Pieces, their texts and offsets must be the same.
PIECES is build/peer/pieces. Needs tokenizers (and sentencepiece for its charsmap). Ends with 'N passed, N failed'.
"""
import argparse, base64, io, json, random, struct, subprocess, sys, tempfile

from tokenizers import NormalizedString, Regex, normalizers as N, pre_tokenizers as P
from tokenizers import Tokenizer

CONTRACT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
PRE = r"[^\r\n\p{L}\p{N}]?"
UP, LOW = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"


def cased(no, end):
    return f"{PRE}[{UP}{no}]*[{LOW}{no}]+{end}|{PRE}[{UP}{no}]+[{LOW}{no}]*{end}|"


FAMILIES = {
    "gpt2": [r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"],
    "llama3": [CONTRACT + "|" + PRE + r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "qwen2": [CONTRACT + "|" + PRE + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "qwen35": [CONTRACT + "|" + PRE + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + TAIL],
    "o200k": [cased("", CONTRACT + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL],
    "tekken": [cased("", "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + TAIL],
    "kimi": [r"[\p{Han}]+|" + cased(r"&&[^\p{Han}]", CONTRACT + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + TAIL],
    "cl100k": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
               r"\s*[\r\n]|\s+(?!\S)|\s"],
    "deepseek3": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
                  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                  " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"],
}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def seq(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def pretoks():
    out = {}
    for name, patterns in FAMILIES.items():
        out[name] = seq(*map(split, patterns)) if len(patterns) > 1 else split(patterns[0])
        # The same through PCRE2: a comment makes the text unknown.
        out["re_" + name] = seq(*(split(p + "(?#)") for p in patterns))
    behaviors = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
    for b in behaviors:
        for inv in (False, True):
            tag = f"{b}{'_inv' if inv else ''}"
            out["split_" + tag] = split(r"\s|\p{P}", b, inv)
            out["empty_" + tag] = split(r"a*|\d", b, inv)
            out["string_" + tag] = split(" ", b, inv, "String")
        out["punct_" + b] = {"type": "Punctuation", "behavior": b}
    byte = lambda pre, use: {"type": "ByteLevel", "add_prefix_space": pre, "trim_offsets": True, "use_regex": use}
    meta = lambda s, sp: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": s, "split": sp}
    out.update({
        "bytelevel": byte(False, True), "bytelevel_prefix": byte(True, True), "bytelevel_plain": byte(True, False),
        "falcon": seq({"type": "Punctuation", "behavior": "Contiguous"}, byte(False, True),
                      {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")),
        "smollm": seq({"type": "Digits", "individual_digits": True}, byte(False, True)),
        "prefix_each": seq(split(r"\s+", "Removed"), byte(True, False)),
        "digits": {"type": "Digits", "individual_digits": False},
        "whitespace": {"type": "Whitespace"}, "whitespacesplit": {"type": "WhitespaceSplit"},
        "bert": {"type": "BertPreTokenizer"}, "chardelim": {"type": "CharDelimiterSplit", "delimiter": "a"},
        "scripts": {"type": "UnicodeScripts"}, "fixed": {"type": "FixedLength", "length": 3},
        "bloom": seq(split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), byte(False, False)),
        "deepseek_coder": seq(*(split(p) for p in ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"]),
                              {"type": "Digits", "individual_digits": True}, byte(False, False)),
        "word_edges": split(r"\b\w+\b|\B."), "intersect": split(r"[\w&&[^\p{Ll}\d_]]+"),
        "line": split(r"^[a-z ]*$|(?m:a.b)"), "posix": split(r"[[:alpha:]]+|[[:punct:]]|[[:^space:]]"),
        "look": split(r"(?<=\p{Lu})\p{Ll}+|(?<!a)b(?=\s)|x{2}|(?:ab){1,2}+"),
        "folds": split(r"(?i:[a-k]+|kel|'S)|\h{,2}"),
        "meta_always": meta("always", True), "meta_first": meta("first", True), "meta_never": meta("never", True),
        "meta_first_whole": meta("first", False), "meta_in_seq": seq(split(r"\p{N}+"), meta("first", True)),
    })
    return {k: {"pre_tokenizer": v} for k, v in out.items()}


def charsmap():
    """SentencePiece's nmt_nfkc, from a model that it trains; None without it."""
    try:
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb
    except ImportError:
        return None
    out, rnd = io.BytesIO(), random.Random(1)
    lines = (" ".join("".join(rnd.choices("abcdefgh", k=4)) for _ in range(20)) for _ in range(200))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=out, vocab_size=100, minloglevel=2,
                                             normalization_rule_name="nmt_nfkc", hard_vocab_limit=False)
    model = pb.ModelProto()
    model.ParseFromString(out.getvalue())
    return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def norms(with_charsmap=True):
    nseq = lambda *p: {"type": "Sequence", "normalizers": list(p)}
    bert = lambda c, h, a, l: {"type": "BertNormalizer", "clean_text": c, "handle_chinese_chars": h, "strip_accents": a, "lowercase": l}
    rep = lambda k, p, c: {"type": "Replace", "pattern": {k: p}, "content": c}
    out = {n: {"type": n} for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")}
    out.update({
        "strip": {"type": "Strip", "strip_left": True, "strip_right": True},
        "strip_left": {"type": "Strip", "strip_left": True, "strip_right": False},
        "bert": bert(True, True, None, True), "bert_cased": bert(True, True, None, False), "bert_accents": bert(False, False, True, False),
        "replace_space": rep("String", " ", "▁"), "replace_regex": rep("Regex", r"\s{2,}|a", "xyz"),
        "replace_none": rep("Regex", r"\p{L}+", ""), "replace_empty": rep("Regex", r"b*", "-"),
        "prepend": {"type": "Prepend", "prepend": "▁x"},
        "llama2": nseq({"type": "Prepend", "prepend": "▁"}, rep("String", " ", "▁")),
        "albert": nseq(rep("String", "``", '"'), rep("String", "''", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
        "t5ish": nseq({"type": "NFKC"}, rep("Regex", " {2,}", " "), {"type": "Strip", "strip_left": False, "strip_right": True}),
        "nfd_strip_nfc": nseq({"type": "NFD"}, {"type": "StripAccents"}, {"type": "NFC"}),
    })
    if with_charsmap and (map := charsmap()):
        out["precompiled"] = {"type": "Precompiled", "precompiled_charsmap": map}
        out["t5"] = nseq(out["precompiled"], {"type": "Strip", "strip_left": False, "strip_right": True}, rep("Regex", " {2,}", "▁"))
    return {"n_" + k: {"normalizer": v} for k, v in out.items()}


ALPHABET = (
    list("abcxyzABCXYZsStTmMdDlLvVrReEkK") + ["'"] * 8 + [" "] * 12 + list("\n\r") * 4 + list("0123456789.,!?/-_()[]{}|\"#\t\v\f")
    + list("ſKǅʰªº中文字一龥龦〇々あいカア・ーゟ゠\u3040\u3097한글กขकि्ा½٣Ⅷ²³¹¼④éÉßẞİıñΣσςЖжאשع")
    + [chr(c) for c in (0x85, 0xA0, 0x1680, 0x2000, 0x2003, 0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0x180E, 0x200B, 0x200C,
                        0x200D, 0xFEFF, 0xAD, 0x300, 0x301, 0x323, 0x307, 0x345, 0x20DD, 0x483, 0x488, 0x903, 0x93F, 0x94D, 0xE01, 0xE33, 0x1100, 0x1161,
                        0x11A8, 0xAC00, 0xAC01, 0x3099, 0x309A, 0x309B, 0x30FB, 0x2E80, 0x2F00, 0x3007, 0x3021, 0x31C0, 0x4DBF,
                        0x9FFF, 0xF900, 0xFA10, 0x20000, 0x2A6DF, 0x2CEB0, 0x2EBF0, 0x2EBE0, 0x31350, 0x323AF, 0x323B0, 0x3134F, 0x1F600, 0x1F468, 0x1F3FD,
                        0xFE0F, 0x1F1E6, 0x1F1E7, 0x378, 0x530, 0xE000, 0xF8FF, 0xFFFE, 0xFFFF, 0x10FFFF, 0xE0001, 0x7F, 0, 1, 0x1F, 0x9F,
                        0x2581, 0xFF5C, 0xFF21, 0xFF41, 0xFF11, 0xFF21, 0xFB01, 0x2126, 0x212B, 0x1E9B, 0x1C89, 0xA7CB, 0x10D40, 0x10D4A,
                        0x11F50, 0x11F02, 0x16D40, 0x1CCF0, 0x1E4EC, 0x1E4D0, 0x1D7CE, 0x1D400, 0x11DE0, 0x16EA0, 0x1F240, 0x2FA1D, 0x16FF0, 0x16FE2,
                        0x1734, 0x1B44, 0xFDFA, 0x3392, 0x33FF, 0x0F73, 0x0344, 0x1D15E, 0x2ADC, 0xFB1D, 0x958, 0x11938, 0x1E2EC, 0x7FD)]
    + ["'s", "'S", "'ſ", "'ll", "'LL", "'re", "  ", " \n", "\r\n", "``", "''", "e\u0301", "é\u0323", "ㅤ", "abab", "xx"])
PRIVATE = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def strings(rnd, n):
    choice, k = rnd.choice, len(ALPHABET)
    for _ in range(n):
        s = "".join(rnd.choices(ALPHABET, k=rnd.randrange(1, 14)))
        if rnd.random() < 0.2:
            s += choice(PRIVATE) + choice(ALPHABET)
        yield s


def contexts():
    """Every character in every context; a thousand characters are one text."""
    for i in range(0, len(PRIVATE), 1000):
        yield "".join(f"{c} .\na{c} .\n{c}a .\na{c}a .\n {c} .\n{c}\n .\n1{c}1 .\n'{c} .\n{c}{c} .\n"
                      for c in PRIVATE[i:i + 1000])


def tokenizer(conf):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=conf.get("normalizer"),
                pre_tokenizer=conf.get("pre_tokenizer"), post_processor=None, decoder=None,
                model=dict(type="WordLevel", vocab={"u": 0}, unk_token="u"))


def reference(conf):
    """A function: text to [(from, to, piece)] by Hugging Face."""
    t = Tokenizer.from_str(json.dumps(tokenizer(conf)))
    if "pre_tokenizer" in conf:
        run = t.pre_tokenizer.pre_tokenize_str
        return lambda s: [(a, b, p) for p, (a, b) in run(s)]
    each = P.Split(Regex(r"(?m:.)"), "isolated")
    norm = t.normalizer

    def normalized(s):
        pts = __import__("tokenizers").PreTokenizedString(s)
        pts.normalize(norm.normalize)
        each.pre_tokenize(pts)
        return [(a, b, p) for p, (a, b), _ in pts.get_splits("original", "char")]
    return normalized


BYTE = {b: chr(b) for r in ((33, 127), (161, 173), (174, 256)) for b in range(*r)}
BYTE.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in BYTE)})


def is_bytes(conf):
    return "ByteLevel" in json.dumps(conf.get("pre_tokenizer", ""))


def check(pieces, name, conf, texts):
    """Chunks of texts through both; the number of texts, and what differs first."""
    ref, to_bytes, done = reference(conf), is_bytes(conf), 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(conf, f)
        f.flush()
        chunk = []
        def run():
            blob = b"".join(struct.pack("<I", len(b)) + b for b in (s.encode() for s in chunk))
            got = subprocess.run([pieces, f.name], input=blob, capture_output=True)
            if got.returncode:
                return got.stderr.decode() or f"exit {got.returncode}"
            want = []
            for s in chunk:
                r = ref(s)
                want.append(struct.pack("<I", len(r)))
                for a, b, p in r:
                    e = "".join(p).translate(UNBYTE).encode("latin-1") if to_bytes else p.encode()
                    want.append(struct.pack("<III", a, b, len(e)) + e)
            return None if b"".join(want) == got.stdout else differ(chunk, want, got.stdout, ref)
        for s in texts:
            chunk.append(s)
            done += 1
            if len(chunk) == 20000 or len(s) > 1000:
                bad = run()
                if bad:
                    return done, bad
                chunk = []
        return done, run() if chunk else None


PIECE_END, TEXT_END = "\U0010fffe", "\U0010fffd"


def check_fast(pieces, conf, n, rnd):
    """n random strings whose pieces join to them: the texts of pieces only."""
    run, done = Tokenizer.from_str(json.dumps(tokenizer(conf))).pre_tokenizer.pre_tokenize_str, 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(conf, f)
        f.flush()
        while done < n:
            chunk = [s for s in strings(rnd, min(50000, n - done)) if PIECE_END not in s and TEXT_END not in s]
            blob = b"".join(len(b).to_bytes(4, "little") + b for b in (s.encode() for s in chunk))
            got = subprocess.run([pieces, f.name, "-p"], input=blob, capture_output=True).stdout
            want = "".join([PIECE_END.join([p for p, _ in run(s)]) + TEXT_END for s in chunk]).encode()
            if got != want:
                got = got.decode().split(TEXT_END)
                return done, next(f"{ascii(s)}: fettle {ascii(g)}" for s, g in zip(chunk, got)
                                  if g != PIECE_END.join(p for p, _ in run(s)))
            done += len(chunk)
    return done, None


UNBYTE = {ord(v): chr(k) for k, v in BYTE.items()}


def differ(chunk, want, out, ref):
    at = 0
    for s in chunk:
        (n,), at = struct.unpack_from("<I", out, at), at + 4
        got = []
        for _ in range(n):
            a, b, k = struct.unpack_from("<III", out, at)
            got.append((a, b, out[at + 12:at + 12 + k]))
            at += 12 + k
        r = ref(s)
        if [g[:2] for g in got] != [x[:2] for x in r] or any(
                g[2] not in (x[2].encode(), x[2].translate(UNBYTE).encode("latin-1", "replace")) for g, x in zip(got, r)):
            return f"{ascii(s)}:\n   fettle {ascii(got)}\n   theirs {ascii(r)}"
    return "differs"


def golden(confs, seed):
    """A few texts of each configuration with their pieces, for make test."""
    for name, conf in confs.items():
        rnd, ref, to_bytes = random.Random(f"{seed} {name}"), reference(conf), is_bytes(conf)
        cases = []
        for s in strings(rnd, 8):
            cases.append([s, [[a, b] + ([] if to_bytes else [p]) for a, b, p in ref(s)]])
        print(json.dumps(dict(name=name, conf=conf, cases=cases), ensure_ascii=False, separators=(",", ":")))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("pieces", nargs="?")
    ap.add_argument("--golden", action="store_true")
    ap.add_argument("--strings", type=int, default=20000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--only", default="")
    ap.add_argument("--scalars", action="store_true")
    a = ap.parse_args()
    confs = {**pretoks(), **norms(not a.golden)}
    if a.golden:
        return golden(confs, a.seed)
    failed = passed = 0
    for name, conf in confs.items():
        if a.only and name not in a.only.split(","):
            continue
        rnd = random.Random(f"{a.seed} {name}")
        total = 0
        sources = [strings(rnd, min(a.strings, 20000))] + ([contexts()] if a.scalars else [])
        more = a.strings - 20000 if name.removeprefix("re_") in FAMILIES else 0
        for source in sources + [None] * (more > 0):
            n, bad = check(a.pieces, name, conf, source) if source else check_fast(a.pieces, conf, more, rnd)
            total += n
            if bad:
                break
        failed += bool(bad)
        passed += not bad
        print(f"{'FAIL' if bad else 'ok  '} {name:24} {total:9} strings" + (f"\n   {bad}" if bad else ""), flush=True)
    print(f"{passed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
