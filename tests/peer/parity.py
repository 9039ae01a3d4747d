#!/usr/bin/env python3
"""The renderers of fettle beside the chat templates that TRL ships, by `fettle model parity`.

usage: parity.py FETTLE [--tokenizer DIR]

Each template is put beside a small tokenizer that has every family's control tokens, the directory is added as a
model, and the report is read: a difference must be a known one, and a known one must be there. Needs trl.
Ends with 'N passed, N failed'.
"""
import argparse, importlib.util, json, os, pathlib, shutil, subprocess, sys, tempfile

# template, renderer, bos
PAIRS = [("qwen3", "qwen3", ""), ("qwen3_instruct_2507", "qwen3_instruct", ""), ("llama3", "llama3", "<|begin_of_text|>"),
         ("qwen3_5_think", "qwen3_5", ""), ("qwen3_8", "qwen3_8_xhigh_reasoning", ""),
         ("gptoss", "gpt_oss_medium_reasoning", ""), ("nemotron_3_super", "nemotron3", ""), ("nemotron_3_nano", "nemotron3", ""),
         ("nemotron_3_ultra", "nemotron3_ultra", ""), ("qwen2_5", "qwen2_5", ""), ("phi3", "phi3", ""),
         ("llama3_1", "llama3", "<|begin_of_text|>"), ("llama3_2", "llama3", "<|begin_of_text|>"),
         ("qwen3_5_nothink", "qwen3_5_disable_thinking", ""), ("qwen3_6", "qwen3_5", ""), ("phi3_5", "phi3", ""),
         ("gemma", "gemma", "<bos>"), ("gemma3", "gemma3", "<bos>"), ("gemma4_v5", "gemma4", "<bos>"),
         ("nemotron_3_5_lightning", "nemotron3_ultra", ""), ("qwen3_vl", "qwen3_vl_instruct", "")]
# control tokens that the tokenizer lacks
WORDS = """<bos> <eos> <start_of_turn> <end_of_turn> <|turn> <turn|> <|channel> <channel|> <|think|> <|tool> <tool|> <|tool_call>
<tool_call|> <|tool_response> <tool_response|> <|"|>""".split()
# model type, what auto takes beside the template
AUTO = {"qwen3": "qwen3", "qwen3_instruct_2507": "qwen3", "qwen3_vl": "qwen3_vl", "qwen3_5_think": "qwen3_5",
        "qwen3_5_nothink": "qwen3_5", "qwen3_6": "qwen3_5", "qwen3_8": "qwen3_5", "nemotron_3_nano": "nemotron_h",
        "nemotron_3_super": "nemotron_h", "nemotron_3_ultra": "nemotron_h", "nemotron_3_5_lightning": "nemotron_h",
        "llama3": "llama", "llama3_1": "llama", "llama3_2": "llama", "gptoss": "gpt_oss", "phi3": "phi3", "qwen2_5": "qwen2"}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("fettle"); ap.add_argument("--templates"); ap.add_argument("--tokenizer", default="tests/golden/renderers/tokenizer")
    ap.add_argument("--model", default="core/starter/model")
    a = ap.parse_args()
    spec = importlib.util.find_spec("trl")
    if not spec and not a.templates:
        print("parity: trl is not installed; nothing was compared")
        return 0
    where = pathlib.Path(a.templates) if a.templates else pathlib.Path(spec.origin).parent / "chat_templates"
    os.environ["FETTLE_DATE"] = "2026-11-26"
    passed = failed = 0
    with tempfile.TemporaryDirectory() as tmp:
        run = lambda *args: subprocess.run([a.fettle, *args, "--home", tmp + "/home"], capture_output=True, text=True)
        for template, renderer, bos in PAIRS:
            d = pathlib.Path(tmp) / template
            d.mkdir()
            for f in pathlib.Path(a.model).iterdir():
                if f.name in ("config.json", "model.safetensors"):
                    shutil.copy(f, d)
            tok = json.loads((pathlib.Path(a.tokenizer) / "tokenizer.json").read_text())
            tok["added_tokens"] += [dict(content=w, special=True, normalized=False, id=0) for w in WORDS]
            (d / "tokenizer.json").write_text(json.dumps(tok))
            shutil.copy(where / f"{template}.jinja", d / "chat_template.jinja")
            (d / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos, "eos_token": "<|endoftext|>"} if bos else {"eos_token": "<|endoftext|>"}))
            added = run("model", "add", template, str(d))
            p = run("model", "parity", template, "--renderer", renderer, "--json")
            if p.returncode or added.returncode:
                print(f"{template} {renderer}: {added.stderr}{p.stderr}")
                failed += 1
                continue
            r = json.loads(p.stdout)
            if template in AUTO:
                conf = json.loads((d / "config.json").read_text())
                (d / "config.json").write_text(json.dumps({**conf, "model_type": AUTO[template]}))
                auto = json.loads(run("model", "parity", template, "--json").stdout)["renderer"]
                passed += auto == renderer
                failed += auto != renderer
                if auto != renderer:
                    print(f"    auto takes {auto}, not {renderer}")
            print(f"{template:22} {renderer:26} of {r['scenarios']}: equal {r['equal']}, known {r['known']}, vanished {r['vanished']}, different {r['different']}")
            passed += r["equal"] + r["known"]
            failed += r["vanished"] + r["different"]
            for row in r["rows"]:
                if row["verdict"] in ("vanished", "different"):
                    print(f"    {row['verdict']} {row['scenario']}: {row.get('ours')!r} / {row.get('template')!r}")
        run("stop")
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
