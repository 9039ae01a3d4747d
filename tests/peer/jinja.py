#!/usr/bin/env python3
"""fettle's chat templates beside jinja2 as transformers configures it.

usage: jinja.py JINJA [--seed N] [--snippets N] [--golden FILE] [DIR|FILE ...]

JINJA is build/peer/jinja. Renders, by both,
  every chat template under the paths (*.jinja; chat_template of *.json), and those of installed packages,
  over the scenario bank with several sets of options, with the spans of {% generation %};
  drawn snippets of expressions and statements.
--golden writes drawn snippets with jinja2's results, a line each, and ends.
A template that refuses must be refused by both. Ends with 'N passed, N failed'.
"""
import argparse, importlib.util, json, os, pathlib, random, subprocess, sys, warnings

from transformers.utils import chat_template_utils as hf

OPTIONS = [{}, {"enable_thinking": False}, {"enable_thinking": True, "preserve_thinking": True, "reasoning_effort": "high"},
           {"clear_thinking": False, "thinking": True, "documents": [{"title": "A", "text": "b"}]}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


# What is refused here and not there, by the words of the refusal; each is counted.
KNOWN = ["an integer beyond 64 bits", "a power that is a complex number"]


class Peer:
    def __init__(self, path):
        self.p = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def render(self, template, variables):
        self.p.stdin.write(json.dumps({"template": template, "vars": variables}) + "\n")
        self.p.stdin.flush()
        return json.loads(self.p.stdout.readline())


def judge(template, variables):
    """(text, spans) by transformers, or (None, why)."""
    try:
        compiled = hf._compile_jinja_template(template)
        blocks, spans = [], []
        v = {k: json.loads(json.dumps(x)) for k, x in variables.items()}
        with compiled.environment.activate_tracker(blocks, spans):
            for block in compiled.generate(**v):
                blocks.append(block)
        return "".join(blocks), spans
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"


def templates(paths):
    found = {}
    for root in paths:
        root = pathlib.Path(root)
        for f in [root] if root.is_file() else sorted(root.rglob("*")):
            if f.suffix == ".jinja":
                found[str(f)] = f.read_text()
            elif f.suffix == ".json" and f.stat().st_size < 20_000_000:
                try:
                    t = json.loads(f.read_text()).get("chat_template")
                except Exception:
                    continue
                for i, one in enumerate(t if isinstance(t, list) else [t] if isinstance(t, str) else []):
                    found[f"{f}#{i}"] = one["template"] if isinstance(one, dict) else one
    return found


class Snippets:
    """Draws templates; most render, some are wrong, and must be for both."""
    TEXTS = ["a", "", " x ", "Ab-c d", "é\u00a0Ж\u2003", "\n\nq\n", "<|im_end|>", "it's \"q\" \\", "ſtraße İ Σας", "1", "-2.50", "a,b,,c", "\t"]
    VARS = ["s", "t", "n", "f", "l", "d", "e", "nope", "msgs", "true", "none", "u"]
    FILTERS = ["trim", "upper", "lower", "capitalize", "title", "length", "string", "list", "first", "last", "tojson", "tojson(indent=2)",
               "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'), sort_keys=true)", "default('z')", "d('z', true)", "join('-')", "join",
               "reverse|list", "sort", "unique|list", "replace('a', 'bb')", "int", "float", "abs", "round(1)", "items|list", "dictsort",
               "map('upper')|list", "map(attribute='role')|join('/')", "select|list", "reject('none')|list", "selectattr('role', 'eq', 'user')|list|length",
               "indent(2)", "indent(1, true)", "min", "max", "sum", "batch(2)|list", "slice(2)|list", "safe", "e", "center(9)", "truncate(5, true)",
               "urlencode", "count", "rejectattr('x')|list|length", "groupby('role')|length", "trim('a ')", "wrong"]
    TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float", "boolean", "true",
             "false", "odd", "even", "lower", "upper", "callable", "in l", "eq(1)", "sameas none", "divisibleby 2", "ne 'a'"]
    METHODS = ["strip()", "lstrip()", "rstrip('x \\n')", "upper()", "split()", "split('a')", "split(',', 1)", "rsplit(' ', 1)", "rsplit()",
               "splitlines()", "startswith('a')", "endswith(('c', 'd'))", "replace('a', '')", "find('b')", "title()", "capitalize()", "count('a')",
               "get('k')", "get('zz', 3)", "items()|list", "keys()|list", "values()|list", "join(['p', 'q'])", "partition('-')",
               "removeprefix('A')", "isdigit()", "isalpha()", "zfill(5)", "index('a')", "append(1)", "format(1)", "ljust(4)", "swap()", "lower()",
               "islower()", "isspace()", "rfind('a')", "rpartition(' ')"]
    OPS = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "**"]

    def __init__(self, rnd):
        self.r = rnd

    def lit(self):
        r = self.r
        return r.choice([lambda: repr(r.choice(self.TEXTS)), lambda: str(r.randrange(-3, 12)), lambda: r.choice(["1.5", "0.1", "1e20", "2.0", "1e-7", "3.14159"]),
                         lambda: "[" + ", ".join(self.expr(2) for _ in range(r.randrange(3))) + "]",
                         lambda: "{" + ", ".join(f"'{k}': " + self.expr(2) for k in r.sample("kxy", r.randrange(3))) + "}",
                         lambda: "(" + self.expr(2) + ", " + self.expr(2) + ")", lambda: "range(%d)" % r.randrange(4),
                         lambda: "'%s|%r' % (s, " + self.expr(3) + ")", lambda: "'{:>5}{}'.format(s, n)"])()

    def expr(self, depth=0):
        r = self.r
        if depth > 3 or r.random() < 0.25:
            return r.choice(self.VARS) if r.random() < 0.6 else self.lit()
        k = r.randrange(11)
        sub = lambda: self.expr(depth + 1)
        if k == 0: return f"{sub()}|{r.choice(self.FILTERS)}"
        if k == 1: return f"({sub()}).{r.choice(self.METHODS)}"
        if k == 2: return f"({sub()} {r.choice(self.OPS)} {sub()})"
        if k == 3: return f"{sub()} is {r.choice(['', 'not '])}{r.choice(self.TESTS)}"
        if k == 4: return f"({r.choice(self.VARS[:9])})[{r.choice(['0', '-1', '1:', ':-1', '::-1', '1:3', '::2', '-5:2', repr('k'), '5', '3:1:-1'])}]"
        if k == 5: return f"({sub()} if {sub()} else {sub()})"
        if k == 6: return f"(not {sub()})"
        if k == 7: return f"-{sub()}" if r.random() < 0.3 else f"({sub()}).{r.choice(['k', 'role', 'x', 'content', 'real_x'])}"
        if k == 8: return f"({sub()} < {sub()} < {sub()})" if r.random() < 0.3 else sub()
        return r.choice(self.VARS)

    def stmt(self, depth=0):
        r = self.r
        ws = lambda: r.choice(["", "", "-", "+"]) if r.random() < 0.6 else ""
        tag = lambda t: "{%" + ws() + " " + t + " " + r.choice(["", "", "-", "+"]) + "%}"
        body = lambda: "".join(self.stmt(depth + 1) for _ in range(r.randrange(1, 3)))
        k = r.randrange(13) if depth < 3 else r.randrange(4)
        if k < 2: return "{{" + r.choice(["", "-"]) + " " + self.expr() + " " + r.choice(["", "-"]) + "}}"
        if k == 2: return r.choice([" ", "\n", "  \n", "\n    ", "text ", "\n\n", "{# c #}", "{#- c -#}", "\t", "{% raw %} {{ x }} {% endraw %}"])
        if k == 3: return tag("set " + r.choice(["s", "v", "w"]) + " = " + self.expr())
        if k == 4: return tag("if " + self.expr()) + body() + (tag("elif " + self.expr()) + body() if r.random() < .3 else "") + (tag("else") + body() if r.random() < .5 else "") + tag("endif")
        if k == 5:
            extra = r.choice(["", "", " if x", "{{ loop.index }}"])
            inside = r.choice(["{{ loop.index0 }}{{ loop.last }}", "{{ loop.previtem }}{{ loop.nextitem }}", "{{ x }}", "{{ loop.cycle('a', 'b') }}", "{{ loop.length }}{{ loop.revindex }}", "{% if loop.index > 1 %}{% break %}{% endif %}", "{% if x %}{% continue %}{% endif %}{{ x }}", "{{ loop.changed(x) }}"])
            return tag("for x in " + self.expr() + (extra if extra.startswith(" if") else "")) + inside + body() + (tag("else") + body() if r.random() < .3 else "") + tag("endfor")
        if k == 6: return tag("for a, b in " + r.choice(["d.items()", "d|items", "d|dictsort", "[(1, 2), (3, 4)]", self.expr()])) + "{{ a }}={{ b }};" + tag("endfor")
        if k == 7: return tag("macro m(a, b=" + self.expr(2) + ")") + "<{{ a }}|{{ b }}>" + body() + tag("endmacro") + "{{ m(" + self.expr(2) + ") }}" + ("{{ m(b=1, a=s) }}" if r.random() < .5 else "")
        if k == 8: return tag("set v") + body() + tag("endset") + "{{ v }}"
        if k == 9: return "{% set ns = namespace(c=0, q='') %}" + tag("for x in " + r.choice(["l", "msgs", "s"])) + "{% set ns.c = ns.c + 1 %}" + "{% set ns.q = ns.q ~ x %}" + tag("endfor") + "{{ ns.c }}{{ ns.q }}"
        if k == 10 and depth: return "-"  # transformers counts from the start of what captures it
        if k == 10: return tag("generation") + body() + tag("endgeneration")
        if k == 11: return tag("filter " + r.choice(["upper", "trim", "replace('a', 'b')|length"])) + body() + tag("endfilter")
        return "{% macro w() %}[{{ caller() }}]{% endmacro %}" + tag("call w()") + body() + tag("endcall")

    def draw(self):
        return "".join(self.stmt() for _ in range(self.r.choice([1, 1, 1, 2, 3])))

    def variables(self):
        r = self.r
        return {"s": r.choice(self.TEXTS), "t": r.choice(self.TEXTS), "n": r.randrange(-2, 9), "f": r.choice([0.5, 1.0, 2.25, 1e16, -0.0]), "l": [r.choice([1, 2, "a", None, 1.5, True]) for _ in range(r.randrange(4))],
                "d": {"k": r.choice(["v", 1, [1]]), "B": 2, "a": "é"}, "e": r.choice([[], {}, "", 0]), "u": ["b", "A", "c"], "msgs": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "x": 1}]}


def same(ours, text, spans):
    if text is None or "error" in ours:
        return text is None and "error" in ours
    if ours["text"] != text:
        return False
    cut = lambda i: len(text.encode("utf-8", "surrogatepass")[:i].decode("utf-8", "surrogatepass"))
    marked, want = set(), set()
    for a, b in ours["generated"]:
        marked.update(range(cut(a), cut(b)))
    for a, b in spans or []:
        want.update(range(a, b))
    return marked == want


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("jinja"); ap.add_argument("paths", nargs="*")
    ap.add_argument("--golden"); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--snippets", type=int, default=20000)
    a = ap.parse_intermixed_args()
    warnings.simplefilter("ignore")
    os.environ["FETTLE_DATE"] = "2026-11-26"
    from datetime import datetime
    class Fixed(datetime):
        @classmethod
        def now(cls, tz=None): return cls(2026, 11, 26)
    hf.datetime = Fixed
    if a.golden:
        draw = Snippets(random.Random(a.seed))
        with open(a.golden, "w") as f:
            for _ in range(a.snippets):
                t, v = draw.draw(), draw.variables()
                text, spans = judge(t, v)
                v = {k: x for k, x in v.items() if k in t}
                if len(t) < 400 and (text is not None or draw.r.random() < .2):
                    f.write(json.dumps(dict(template=t, vars=v, text=text, generated=[list(s) for s in spans] if text is not None else None), separators=(",", ":")) + "\n")
        return 0
    bank = [json.loads(x) for x in subprocess.run([a.jinja, "--bank"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.splitlines()]
    peer, passed, failed, refused, known = Peer(a.jinja), 0, 0, 0, 0

    def check(name, template, variables):
        nonlocal passed, failed, refused, known
        text, spans = judge(template, variables)
        ours = peer.render(template, variables)
        if same(ours, text, spans):
            passed += 1
            refused += text is None
            return
        if any(x in str(ours.get("error")) for x in KNOWN):
            known += 1
            return
        failed += 1
        if failed <= 12:
            print(f"DIFFERS {name}\n  template {template[:600]!r}\n  vars {json.dumps(variables)[:300]}\n  jinja2 {text!r:.600} {spans!r:.300}\n  ours   {ours!r:.600}")

    site = [pathlib.Path(importlib.util.find_spec(m).origin).parent for m in ("trl", "transformers") if importlib.util.find_spec(m)]
    found = templates([*a.paths, *site])
    for name, t in found.items():
        for s in bank:
            for o in OPTIONS:
                for ask in {s["asks"], False}:
                    v = dict(TOKENS, messages=hf._alias_reasoning_fields(s["messages"]), tools=s.get("tools"), documents=None, add_generation_prompt=ask, **{k: x for k, x in o.items() if k != "documents"})
                    v.update({k: x for k, x in o.items() if k == "documents"})
                    check(f"{name} {s['id']} {o} {ask}", t, v)
    print(f"{len(found)} templates x {len(bank)} scenarios x options: {passed} alike ({refused} refused by both), {known} known, {failed} differ", flush=True)
    before = passed, failed, refused, known
    rnd = random.Random(a.seed)
    draw = Snippets(rnd)
    for i in range(a.snippets):
        check(f"snippet {i}", draw.draw(), draw.variables())
    print(f"{a.snippets} snippets: {passed - before[0]} alike ({refused - before[2]} refused by both), {known - before[3]} known, {failed - before[1]} differ")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
