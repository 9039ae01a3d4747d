#!/usr/bin/env python3
"""fettle's renderers beside tinker-cookbook's, on conversations drawn here.

usage: renderers.py FETTLE [--seed N] [--count N] [--only NAME,...]
       renderers.py --pack ORACLE OUT      (makes tests/golden/renderers/golden.jsonl)

Every renderer that both have, on the tokenizer of tests/golden/renderers, with --compat:
  tokens and weights of every train-on mode; what the cookbook refuses is refused
  generation prompts; declarations of tools in front of a conversation
  answers parsed back: as rendered, cut short, and with pieces put in or taken out
Without --compat, on text without control tokens: the same tokens.
Needs tinker-cookbook. Ends with 'N passed, N failed'.
"""
import argparse, datetime, json, logging, os, random, subprocess, sys, tempfile, warnings

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZER = os.path.join(HERE, "..", "golden", "renderers", "tokenizer")
DATE = datetime.date.today().isoformat()
MODES = ["last_assistant_message", "last_assistant_turn", "all_assistant_messages", "all_messages", "all_tokens",
         "all_user_and_system_messages", "customized"]
NO_TOOLS = {"role_colon", "llama3"}


# ---- drawing ----

ALPHABET = ["a", "b", " ", " ", "\n", "\n\n", "\t", "word", "The end.", "1,234", "Ünïcödé", "漢字", "👋🏽", "\u00a0", "'", '"', "\\",
            "{", "}", "[1]", "User:", "\n\nUser:", ":", "<", ">", "</", "|", "x = f(y)", "\r\n", "\u3000", "\x1c", "e\u0301"]
CONTROL = ["<think>", "</think>", "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<tool_call>", "</tool_call>", "<｜User｜>",
           "<|end|>", "<|channel|>", "<|user|>", "<tool_response>", "｜DSML｜", "<｜end▁of▁sentence｜>", "<arg_key>",
           "<think>\nwhy\n</think>\n\n", "<think></think>"]


def text(rnd, control):
    n = rnd.choice([0, 1, 1, 2, 3, 5, 12])
    return "".join(rnd.choice(CONTROL if control and rnd.random() < 0.15 else ALPHABET) for _ in range(n))


def value(rnd, depth=0):
    kind = rnd.randrange(9 if depth < 2 else 6)
    if kind == 0: return rnd.choice([True, False, None])
    if kind == 1: return rnd.randrange(-10**6, 10**6)
    if kind == 2: return rnd.choice([0.5, 1.0, -2.25e-7, 1e16, 123456.789, 1e-5, 3.14159, 1e22, -0.0, 0.1])
    if kind < 6: return text(rnd, False)
    if kind == 6: return [value(rnd, depth + 1) for _ in range(rnd.randrange(4))]
    return {f"k{i}": value(rnd, depth + 1) for i in range(rnd.randrange(4))}


def call(rnd, i):
    args = {rnd.choice(["city", "days", "x", "naïve", "a-b"]) + str(k): value(rnd) for k in range(rnd.randrange(4))}
    return {"type": "function", "id": rnd.choice([f"call_{i}", f"functions.f{i}:{i}"]),
            "function": {"name": rnd.choice(["get_weather", "a", "search_2"]), "arguments": json.dumps(args, ensure_ascii=rnd.random() < 0.5)}}


def answer(rnd, control, tools):
    m = {"role": "assistant", "content": text(rnd, control)}
    r = rnd.random()
    if r < 0.35:
        m["content"] = [{"type": "thinking", "thinking": text(rnd, control)}, {"type": "text", "text": text(rnd, control)}]
    elif r < 0.42:
        m["content"] = [{"type": rnd.choice(["text", "text", "thinking"]), k: ""} for k in ["text"]]
        for p in m["content"]:
            p.clear(); kind = rnd.choice(["text", "thinking"]); p.update({"type": kind, kind: text(rnd, control)})
    if tools and rnd.random() < 0.4:
        m["tool_calls"] = [call(rnd, i) for i in range(rnd.choice([1, 1, 2]))]
    return m


def conversation(rnd, control, tools):
    ms = []
    if rnd.random() < 0.4: ms.append({"role": "system", "content": text(rnd, control)})
    if rnd.random() < 0.1: ms.append(answer(rnd, control, False))
    for _ in range(rnd.choice([1, 1, 2, 3])):
        user = text(rnd, control)
        ms.append({"role": "user", "content": [{"type": "text", "text": user}] if rnd.random() < 0.15 else user})
        for _ in range(3):
            m = answer(rnd, control, tools)
            ms.append(m)
            if "tool_calls" not in m: break
            results = [{"role": "tool", "content": text(rnd, control), "tool_call_id": c["id"], "name": c["function"]["name"]} for c in m["tool_calls"]]
            rnd.shuffle(results)
            ms += results
    if rnd.random() < 0.05: ms.append({"role": rnd.choice(["developer", "system", "user"]), "content": text(rnd, control)})
    if rnd.random() < 0.15:
        for m in ms: m["trainable"] = rnd.random() < 0.5
    return ms


def schema(rnd, depth=0):
    s = {"type": rnd.choice(["string", "integer", "number", "boolean", "array", "object"] if depth < 2 else ["string", "integer"])}
    if rnd.random() < 0.5: s["description"] = rnd.choice(["what it is", "two\n\nlines", "Größe", "in <b>"])
    if s["type"] == "string" and rnd.random() < 0.3: s["enum"] = ["a", "b ü"]
    if s["type"] == "string" and "enum" not in s and rnd.random() < 0.3: s.update(maxLength=7, pattern="^a+$")
    if s["type"] == "integer" and rnd.random() < 0.4: s.update(minimum=1, maximum=9)
    if rnd.random() < 0.2 and s["type"] in ("string", "integer"): s["default"] = "d" if s["type"] == "string" else 3
    if s["type"] == "array":
        s["items"] = schema(rnd, depth + 1) if rnd.random() < 0.8 else {}
        if rnd.random() < 0.3: s["minItems"] = 2
    if s["type"] == "object":
        names = rnd.sample(["zeta", "alpha", "mid", "x1"], rnd.randrange(1, 4))
        s["properties"] = {n: schema(rnd, depth + 1) for n in names}
        s["required"] = [n for n in names if rnd.random() < 0.5]
        if rnd.random() < 0.2: s["additionalProperties"] = rnd.choice([True, False, {"type": "string"}])
    return s


def tool(rnd, i):
    p = schema(rnd)
    while p["type"] != "object": p = schema(rnd)
    if rnd.random() < 0.2:
        p["properties"]["ref"] = {"$ref": rnd.choice(["#", "#/$defs/Node"])}
        p["$defs"] = {"Node": {"type": "object", "description": "a node", "properties": {"v": {"type": "string"}}}}
    return {"name": f"tool_{i}", "description": rnd.choice(["Does it.", "Größer\nand more", " spaced "]), "parameters": p}


# ---- the two sides ----

class Fettle:
    def __init__(self, binary, model, home):
        self.binary, self.model = binary, model
        self.env = dict(os.environ, FETTLE_DATE=DATE, FETTLE_HOME=home)

    def lines(self, name, objects, *options):
        """One result an object; {"error"} where the line is refused."""
        lines, out = [json.dumps(o) for o in objects], []
        while len(out) < len(lines):
            p = subprocess.run([self.binary, "render", self.model, "--renderer", name, *options],
                               input="\n".join(lines[len(out):]) + "\n", capture_output=True, text=True, env=self.env)
            out += [json.loads(l) for l in p.stdout.splitlines()]
            if p.returncode < 0: raise SystemExit(f"{name}: fettle died with {p.returncode}: {lines[len(out)]}")
            if p.returncode: out.append({"error": p.stderr.strip()})
        return out


def live(R, ms):
    return [dict(m, tool_calls=[R.ToolCall.model_validate(c) for c in m["tool_calls"]]) if "tool_calls" in m else m for m in ms]


def attempt(f):
    try: return f()
    except Exception as e: return {"error": f"{type(e).__name__}: {e}"}


def supervised(R, r, ms, mode):
    x, w = r.build_supervised_example(live(R, ms), train_on_what=R.TrainOnWhat(mode))
    return {"tokens": x.to_ints(), "weights": [float(v) for v in w.tolist()]}


def parsed(r, ids):
    m, end = r.parse_response(list(ids))
    out = {"role": m["role"], "content": m["content"]}
    if m.get("tool_calls"): out["tool_calls"] = [c.model_dump(mode="json") for c in m["tool_calls"]]
    if m.get("unparsed_tool_calls"): out["unparsed_tool_calls"] = [c.raw_text for c in m["unparsed_tool_calls"]]
    return {"message": out, "termination": end.value}


def comparable(p):
    """What must agree of a parsed answer: not the words of an error."""
    m = dict(p.get("message", {}))
    m["unparsed_tool_calls"] = [u["raw_text"] if isinstance(u, dict) else u for u in m.get("unparsed_tool_calls", [])]
    m["tool_calls"] = [dict(c, function=dict(c["function"])) for c in m.get("tool_calls", [])]
    return m, p.get("termination")


def strange(want):
    """Damaged calls that the cookbook reads and fettle does not: markup in a name, half a surrogate pair."""
    for c in want.get("message", {}).get("tool_calls", []):
        args = attempt(lambda: json.loads(c["function"]["arguments"]))
        if isinstance(args, dict) and any(set(k) & set('"<>') for k in args): return True
        if any(0xD800 <= ord(ch) < 0xE000 for ch in json.dumps(args, ensure_ascii=False)): return True
    return False


# ---- comparing ----

class Count:
    def __init__(self): self.ok, self.bad = 0, 0
    def note(self, good, what, *detail):
        self.ok += good; self.bad += not good
        if not good and self.bad <= 12: print("differs:", what, *[str(d)[:400] for d in detail], sep="\n    ", flush=True)


def same(got, want, keys):
    if "text-only; list content" in want.get("error", ""): return "tokens" in got  # nemotron3_low_thinking: here a list may end in the hint
    if "error" in want: return "error" in got
    return all(got.get(k) == want[k] for k in keys)


def check_examples(n, R, r, name, f, convs):
    for mode in MODES:
        got = f.lines(name, [{"messages": ms} for ms in convs], "--compat", "--train-on", mode)
        for ms, g in zip(convs, got):
            want = attempt(lambda: supervised(R, r, ms, mode))
            n.note(same(g, want, ["tokens", "weights"]), f"{name} {mode}", json.dumps(ms, ensure_ascii=False), g, want)


def check_prompts(n, R, r, name, f, convs):
    got = f.lines(name, [{"messages": ms} for ms in convs], "--compat", "--prompt")
    for ms, g in zip(convs, got):
        want = attempt(lambda: {"tokens": r.build_generation_prompt(live(R, ms)).to_ints()})
        n.note(same(g, want, ["tokens"]), f"{name} prompt", json.dumps(ms, ensure_ascii=False), g, want)


def check_tools(n, R, r, name, f, convs, rnd):
    rows, wants = [], []
    for ms in convs:
        ms = [{k: v for k, v in m.items() if k != "trainable"} for m in ms]
        tools = [tool(rnd, i) for i in range(rnd.randrange(1, 4))]
        system, rest = (ms[0]["content"], ms[1:]) if ms[0]["role"] == "system" else ("", ms)
        if not rest or not isinstance(system, str): continue
        rows.append({"messages": ms, "tools": [{"type": "function", "function": t} for t in tools]})
        wants.append(attempt(lambda: {"tokens": r.build_generation_prompt(live(R, r.create_conversation_prefix_with_tools(tools, system) + rest)).to_ints()}))
    got = f.lines(name, rows, "--compat", "--prompt")
    for row, g, want in zip(rows, got, wants):
        n.note(same(g, want, ["tokens"]), f"{name} tools", json.dumps(row, ensure_ascii=False), g, want)


def mutate(rnd, ids, tok):
    ids = list(ids)
    for _ in range(rnd.choice([0, 0, 1, 2])):
        at = rnd.randrange(len(ids) + 1)
        if rnd.random() < 0.5 and ids: del ids[min(at, len(ids) - 1)]
        else: ids[at:at] = tok.encode(rnd.choice(CONTROL[:12]), add_special_tokens=False)
    return ids[:rnd.randrange(len(ids) + 1)] if rnd.random() < 0.15 else ids


def check_parsing(n, R, r, name, f, convs, rnd, tok):
    answers = []
    for ms in convs:
        ms = [{k: v for k, v in m.items() if k != "trainable"} for m in ms]
        at = [i for i, m in enumerate(ms) if m["role"] == "assistant"]
        if not at: continue
        ms = ms[:at[-1] + 1]
        whole = attempt(lambda: r.build_supervised_example(live(R, ms))[0].to_ints())
        prompt = attempt(lambda: r.build_generation_prompt(live(R, ms[:-1])).to_ints())
        if isinstance(whole, dict) or isinstance(prompt, dict) or whole[:len(prompt)] != prompt: continue
        answers.append(whole[len(prompt):])
        answers.append(mutate(rnd, answers[-1], tok))
    got = f.lines(name, [{"tokens": a} for a in answers], "--parse")
    for a, g in zip(answers, got):
        want = attempt(lambda: parsed(r, a))
        good = "error" in g if "error" in want else comparable(g) == comparable(want)
        good = good or (strange(want) and bool(g.get("message", {}).get("unparsed_tool_calls")))
        n.note(good, f"{name} parse", repr(tok.decode(a)), json.dumps(g, ensure_ascii=False), json.dumps(want, ensure_ascii=False))


def check_plain(n, name, f, convs):
    """Text without control tokens: compat changes nothing."""
    rows = [{"messages": ms} for ms in convs]
    mode = ["--train-on", "all_messages"]
    for row, a, b in zip(rows, f.lines(name, rows, *mode), f.lines(name, rows, "--compat", *mode)):
        if any("tool_calls" in m or isinstance(m["content"], list) for m in row["messages"]): continue  # as the models' own templates have them, see the README
        if name.startswith("deepseekv3") and any(m["role"] == "assistant" and not m["content"] for m in row["messages"]): continue  # they end
        if "error" in b and "error" not in a: continue  # several texts in a list are one text
        n.note(a.get("tokens") == b.get("tokens") and a.get("weights") == b.get("weights"), f"{name} plain", json.dumps(row, ensure_ascii=False), a, b)


# ---- packing the oracle ----

def runs(weights):
    """0/1 weights as lengths of runs, zeros first."""
    out, now = [0], 0
    for w in weights:
        if w != now: out.append(0); now = w
        out[-1] += 1
    return out


def pack(oracle, out):
    index = json.load(open(os.path.join(oracle, "index.json")))
    with open(out, "w") as f:
        for name in index["renderers"]:
            rows = [json.loads(l) for l in open(os.path.join(oracle, name + ".jsonl"))]
            if name == "role_colon":
                f.write(json.dumps({"date": index["date"], "modes": MODES, "messages": [r["messages"] for r in rows]}, ensure_ascii=False) + "\n")
            packed = []
            for r in rows:
                sup = r["supervised"]
                tokens = next((s["tokens"] for s in sup.values() if "tokens" in s), [])
                assert all(s["tokens"] == tokens for s in sup.values() if "tokens" in s)
                p = r["generation_prompt"]
                if isinstance(p, list):
                    k = 0
                    while k < min(len(p), len(tokens)) and p[k] == tokens[k]: k += 1
                    p = [k] + p[k:]
                else: p = None
                packed.append([tokens, p, [runs(sup[m]["weights"]) if "tokens" in sup[m] else None for m in MODES]])
            f.write(json.dumps({"renderer": name, "stop": rows[0]["stop"], "rows": packed}, separators=(",", ":")) + "\n")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("fettle", nargs="?"); ap.add_argument("--seed", type=int, default=1); ap.add_argument("--count", type=int, default=40)
    ap.add_argument("--only", default=""); ap.add_argument("--pack", nargs=2)
    a = ap.parse_args()
    if a.pack: return pack(*a.pack)
    logging.disable(logging.WARNING); warnings.simplefilter("ignore")
    import tinker_cookbook.renderers as R
    from transformers import PreTrainedTokenizerFast
    tok = PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    n = Count()
    with tempfile.TemporaryDirectory() as d:
        model = os.path.join(d, "model"); os.mkdir(model)
        for name in os.listdir(TOKENIZER): os.symlink(os.path.abspath(os.path.join(TOKENIZER, name)), os.path.join(model, name))
        open(os.path.join(model, "config.json"), "w").write("{}")
        f = Fettle(os.path.abspath(a.fettle), model, os.path.join(d, "home"))
        names = subprocess.run([f.binary, "render", "--list"], capture_output=True, text=True, env=f.env).stdout.split()
        for name in names:
            if a.only and name not in a.only.split(","): continue
            r = attempt(lambda: R.get_renderer(name, tok))
            if isinstance(r, dict): print(f"{name:34s} not in the cookbook"); continue
            rnd = random.Random(f"{a.seed} {name}"); was = n.ok, n.bad
            convs = [conversation(rnd, i % 2 == 0, i % 3 > 0) for i in range(a.count)]
            check_examples(n, R, r, name, f, convs)
            check_prompts(n, R, r, name, f, convs + [ms[:rnd.randrange(1, len(ms) + 1)] for ms in convs])
            if name not in NO_TOOLS: check_tools(n, R, r, name, f, convs, rnd)
            check_parsing(n, R, r, name, f, convs, rnd, tok)
            check_plain(n, name, f, [conversation(rnd, False, i % 2) for i in range(a.count)])
            print(f"{name:34s} {n.ok - was[0]} passed, {n.bad - was[1]} failed", flush=True)
    print(f"{n.ok} passed, {n.bad} failed")
    sys.exit(n.bad > 0)


main()
