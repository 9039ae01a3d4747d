#!/usr/bin/env python3
"""fettle beside PyTorch, transformers and peft, on models made here.

usage: check.py FETTLE [--seed N] [--only FAMILY,...]

Draws tiny models of each family with random weights, sizes and seeds, trains
the same rows with `fettle run sft` and with a plain PyTorch loop, and compares:
  train_mean_nll of the first 20 steps, each reduction, full tuning  (1e-3 relative)
  the same with bf16 weights over a float32 master; its bf16 export    (1e-3; equal bits)
  fettle logprobs with transformers in float32                       (1e-4)
  trainer's and sampler's logprobs                                   (equal bits)
  exported PEFT adapter and HF directory, loaded in peft / transformers (1e-4)
Needs torch, transformers and peft (CPU). Ends with 'N passed, N failed'.
"""
import argparse, json, os, random, subprocess, sys, tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(2)
RESULTS = []


def families(rnd):
    """One drawn config a family: odd vocabulary, several head layouts, tied or not."""
    def base():
        heads, kv = rnd.choice([(4, 2), (6, 3), (3, 1), (8, 8)])
        d = rnd.choice([8, 12, 16])
        return dict(vocab_size=rnd.randrange(200, 400), hidden_size=heads * d, intermediate_size=rnd.randrange(40, 120),
                    num_hidden_layers=rnd.choice([1, 2, 3]), num_attention_heads=heads, num_key_value_heads=kv,
                    max_position_embeddings=512, tie_word_embeddings=rnd.random() < 0.5, attention_dropout=0.0,
                    bos_token_id=1, eos_token_id=2, pad_token_id=rnd.choice([None, 0, 5]))
    def conf(model_type, **kw):
        return AutoConfig.for_model(model_type, **dict(base(), **kw))
    def rope(theta=10000.0, **kw):
        return dict(rope_type="default", rope_theta=theta, **kw)
    def yarn(**kw):
        return dict(rope_type="yarn", rope_theta=rnd.choice([1e4, 5e5]), factor=rnd.choice([4.0, 8.0]),
                    original_max_position_embeddings=rnd.choice([32, 64]), **kw)
    window = lambda: rnd.randrange(3, 25)
    dim = lambda *also: rnd.choice([8, 12, 16, 20, 32, *also])
    llama3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                  high_freq_factor=4.0, original_max_position_embeddings=64)
    moe = lambda: dict(num_experts_per_tok=rnd.choice([1, 2, 3]), router_aux_loss_coef=0.0, output_router_logits=False)
    yield "llama", conf("llama")
    yield "llama3", conf("llama", rope_parameters=llama3, attention_bias=rnd.random() < 0.5)
    yield "qwen2", conf("qwen2")
    yield "qwen3", conf("qwen3", head_dim=dim())
    yield "gemma2", conf("gemma2", head_dim=dim(), query_pre_attn_scalar=rnd.choice([8, 24, 40]), sliding_window=window(),
                         attn_logit_softcapping=rnd.choice([2.0, 20.0]), final_logit_softcapping=rnd.choice([3.0, 30.0]))
    yield "gemma3", conf("gemma3_text", head_dim=dim(), query_pre_attn_scalar=rnd.choice([8, 24]), sliding_window=window(),
                         layer_types=["sliding_attention", "full_attention"], num_hidden_layers=2,
                         rope_parameters=dict(sliding_attention=rope(), full_attention=dict(rope(1e6), rope_type="linear", factor=4.0)))
    yield "mistral", conf("mistral", head_dim=dim(), sliding_window=window())
    yield "phi3", conf("phi3", rope_parameters=rope(partial_rotary_factor=rnd.choice([0.5, 1.0])), sliding_window=rnd.choice([None, 9]))
    d = rnd.choice([8, 16, 24])  # a head; three quarters of it turn
    shared = dict(max_position_embeddings=512, original_max_position_embeddings=64)
    yield "phi4", conf("phi3", hidden_size=4 * d, num_attention_heads=4, num_key_value_heads=2, sliding_window=None, **shared,
                       rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, original_max_position_embeddings=64,
                                            short_factor=[1 + rnd.random() for _ in range(3 * d // 8)],
                                            long_factor=[1 + 9 * rnd.random() for _ in range(3 * d // 8)]))
    yield "olmo2", conf("olmo2", rope_parameters=rope(5e5))
    yield "olmo3", conf("olmo3", sliding_window=window(), layer_types=["full_attention", "sliding_attention"], num_hidden_layers=2,
                        rope_parameters=dict(sliding_attention=rope(5e5), full_attention=yarn(attention_factor=1.2)))
    yield "glm4", conf("glm4", head_dim=dim(), attention_bias=rnd.random() < 0.5, rope_parameters=rope(partial_rotary_factor=0.5))
    yield "smollm3", conf("smollm3", num_hidden_layers=5, no_rope_layer_interval=rnd.choice([2, 4]), rope_parameters=rope(2e6))
    # A sole expert that is normalised has weight 1: its router's gradient is rounding, which Adam blows up.
    chosen = moe()
    yield "qwen3_moe", conf("qwen3_moe", head_dim=dim(), num_experts=rnd.choice([4, 7]), moe_intermediate_size=4 * rnd.randrange(3, 10),  # torch._grouped_mm wants 16 bytes
                           
                            num_hidden_layers=3, norm_topk_prob=chosen["num_experts_per_tok"] > 1 and rnd.random() < 0.5,
                            mlp_only_layers=[rnd.randrange(3)], **chosen)
    yield "gpt_oss", conf("gpt_oss", head_dim=dim(64), intermediate_size=4 * rnd.randrange(6, 20), num_local_experts=rnd.choice([3, 5]), sliding_window=window(),
                          layer_types=["sliding_attention", "full_attention"], num_hidden_layers=2,
                          rope_parameters=yarn(beta_fast=32.0, beta_slow=1.0, truncate=rnd.random() < 0.5), **moe())


def make_model(config, dtype, seed, path):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    one = 0.0 if config.model_type.startswith("gemma") else 1.0
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * (0.08 if p.dim() > 1 else 0.1) + (one if p.dim() == 1 else 0.0))
    model.to(dtype).save_pretrained(path)


def make_rows(vocab, rnd, n, path):
    rows = []
    for _ in range(n):
        k = rnd.randrange(3, 60)
        rows.append(dict(tokens=[rnd.randrange(vocab) for _ in range(k)],
                         weights=[rnd.choice([0, 1, 1, 0.5]) for _ in range(k - 1)] + [1]))
    with open(path, "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    return rows


def fettle(args, home, stdin=None):
    r = subprocess.run([FETTLE, *args, "--home", home], input=stdin, capture_output=True, text=True)
    if r.returncode != 0:
        raise RuntimeError(f"fettle {' '.join(args)}: exit {r.returncode}: {r.stderr[-600:]}{r.stdout[-300:]}")
    return r.stdout


def scaled(batch, reduction):
    ws = [torch.tensor(r["weights"][1:], dtype=torch.float64) for r in batch]
    if reduction == "mean":
        return [w / w.sum() if w.sum() > 0 else w for w in ws]
    if reduction == "token":
        total = sum(w.sum() for w in ws)
        return [w / total for w in ws]
    return ws


def bf16_of(x):
    """Rounded to bfloat16, ties away from zero (PyTorch's own cast takes the even one; float16 weights have many)."""
    return ((x.view(torch.int32) + 0x8000) & -0x10000).view(torch.float32)


def torch_trace(path, rows, steps, batch_size, lr, reduction, bf16=False):
    """Mean NLL of each step. bf16: AdamW changes float32 masters, passes see them rounded."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    params = list(model.parameters())
    masters = [p.detach().clone().requires_grad_() for p in params] if bf16 else params
    opt = torch.optim.AdamW(masters, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    trace = []
    for s in range(steps):
        batch = rows[s * batch_size:(s + 1) * batch_size]
        weights = scaled(batch, reduction)
        num = den = 0.0
        if bf16:
            with torch.no_grad():
                for p, m in zip(params, masters):
                    p.copy_(bf16_of(m))
        model.zero_grad()
        for r, w in zip(batch, weights):
            x = torch.tensor(r["tokens"])
            lp = torch.log_softmax(model(input_ids=x[None, :-1]).logits[0].float(), -1).gather(1, x[1:, None])[:, 0]
            (-(w.float() * lp).sum()).backward()
            num += float((w * lp.detach().double()).sum())
            den += float(w.sum())
        if bf16:
            for p, m in zip(params, masters):
                m.grad = p.grad
        opt.step()
        trace.append(-num / den)
    return trace


def check(name, ok, detail):
    RESULTS.append(bool(ok))
    print(f"{'ok  ' if ok else 'FAIL'} {name}: {detail}", flush=True)


def reference_logprobs(model, tokens):
    x = torch.tensor(tokens)
    lp = torch.log_softmax(model(input_ids=x[None]).logits[0].float(), -1)
    return lp[:-1].gather(1, x[1:, None])[:, 0].tolist()


def worst(a, b):
    return max((abs(x - y) for x, y in zip(a, b)), default=0.0)


def logprob_lines(home, target, seqs, *flags):
    out = fettle(["logprobs", target, *flags], home, "".join(json.dumps({"tokens": s}) + "\n" for s in seqs))
    return [json.loads(line)["logprobs"] for line in out.splitlines()]


def exported_bf16(name, ckpt, rows, home, work):
    """A run with bf16 weights loses nothing in a bf16 export: the same bits answer."""
    fettle(["export", ckpt, "--as", "hf", "--dtype", "bf16", "-o", f"{work}/{name}-bf16"], home)
    fettle(["model", "add", f"{name}-bf16", f"{work}/{name}-bf16"], home)
    seqs = [r["tokens"] for r in rows[:6]]
    got, want = logprob_lines(home, f"{name}-bf16", seqs), logprob_lines(home, ckpt, seqs)
    check(f"{name} bf16 export of bf16 weights", got == want, "equal bits" if got == want else "differ")


def one_family(name, config, dtype, rnd, work):
    home, path, data = f"{work}/home", f"{work}/{name}", f"{work}/{name}.jsonl"
    make_model(config, dtype, rnd.randrange(1 << 30), path)
    steps, batch = 20, 4
    rows = make_rows(config.vocab_size, rnd, steps * batch, data)
    fettle(["model", "add", name, path], home)
    full_ckpt = None
    for reduction, precision in (("sum", "bf16"), ("sum", "fp32"), ("token", "fp32"), ("mean", "fp32")):
        lr = 1e-3
        out = json.loads(fettle(["run", "sft", f"model={name}", f"data={data}", f"learning_rate={lr}", "lr_schedule=constant",
                                 f"batch_size={batch}", "lora_rank=0", f"reduction={reduction}", f"precision={precision}", "shuffle=false", "save_every=0",
                                 "eval_every=0", "sample_every=0", "--wait", "--json"], home))
        points = [json.loads(l) for l in fettle(["metrics", str(out["run"]), "train_mean_nll", "--json"], home).splitlines()]
        got = [p["value"] for p in sorted(points, key=lambda p: p["step"])]
        want = torch_trace(path, rows, steps, batch, lr, reduction, precision == "bf16")
        rel = max(abs(g - w) / abs(w) for g, w in zip(got, want)) if len(got) == steps else float("inf")
        check(f"{name} {dtype} full tuning reduction={reduction} precision={precision}", rel <= 1e-3,
              f"{len(got)} steps, worst {rel:.1e} relative")
        full_ckpt = out["checkpoints"][-1]
        if precision == "bf16":
            if dtype != torch.bfloat16:  # before an update only rounding tells them apart
                other = torch_trace(path, rows, 1, batch, lr, reduction)
                close, far = (abs(got[0] - x[0]) / abs(x[0]) for x in (want, other))
                check(f"{name} bf16 weights are rounded ones", close < 1e-6 and far > 5 * close,
                      f"step 1 is {close:.1e} away, float32's {far:.1e}")
            exported_bf16(name, full_ckpt["id"] if isinstance(full_ckpt, dict) else full_ckpt, rows, home, work)
    seqs = [r["tokens"] for r in rows[:6]]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        want = [reference_logprobs(model, s) for s in seqs]
    got, sampled = logprob_lines(home, name, seqs), logprob_lines(home, name, seqs, "--sampler")
    check(f"{name} logprobs", all(g[0] is None for g in got) and max(worst(g[1:], w) for g, w in zip(got, want)) <= 1e-4,
          f"worst {max(worst(g[1:], w) for g, w in zip(got, want)):.1e}")
    check(f"{name} sampler's logprobs", got == sampled, "equal bits" if got == sampled else "differ")
    with torch.no_grad():
        fettle(["export", full_ckpt["id"] if isinstance(full_ckpt, dict) else full_ckpt, "--as", "hf", "-o", f"{work}/{name}-hf"], home)
        ckpt_id = full_ckpt["id"] if isinstance(full_ckpt, dict) else full_ckpt
        hf = AutoModelForCausalLM.from_pretrained(f"{work}/{name}-hf", dtype=torch.float32, attn_implementation="eager").eval()
        want = [reference_logprobs(hf, s) for s in seqs]
        got = logprob_lines(home, ckpt_id, seqs)
        w = max(worst(g[1:], x) for g, x in zip(got, want))
        check(f"{name} exported HF directory", w <= 1e-4, f"worst {w:.1e}")
        out = json.loads(fettle(["run", "sft", f"model={name}", f"data={data}", "learning_rate=5e-3", "lora_rank=4", f"batch_size={batch}",
                                 "save_every=0", "eval_every=0", "sample_every=0", "--wait", "--json"], home))
        ckpt_id = out["checkpoints"][-1]
        ckpt_id = ckpt_id["id"] if isinstance(ckpt_id, dict) else ckpt_id
        fettle(["export", ckpt_id, "--as", "peft", "-o", f"{work}/{name}-peft"], home)
        import peft
        base = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        lora = peft.PeftModel.from_pretrained(base, f"{work}/{name}-peft").eval()
        want = [reference_logprobs(lora, s) for s in seqs]
        got = logprob_lines(home, ckpt_id, seqs)
        w = max(worst(g[1:], x) for g, x in zip(got, want))
        base_gap = max(worst(g[1:], x) for g, x in zip(logprob_lines(home, name, seqs), want))
        check(f"{name} exported PEFT adapter", w <= 1e-4 and base_gap > 1e-3, f"worst {w:.1e} (the base is {base_gap:.1e} away)")
        fettle(["export", ckpt_id, "--as", "hf", "-o", f"{work}/{name}-merged"], home)
        merged = AutoModelForCausalLM.from_pretrained(f"{work}/{name}-merged", dtype=torch.float32, attn_implementation="eager").eval()
        w = max(worst(g[1:], reference_logprobs(merged, s)) for g, s in zip(got, seqs))
        check(f"{name} exported merged directory", w <= 1e-4, f"worst {w:.1e}")


def main():
    global FETTLE
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("fettle")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--only", help="families, by comma")
    a = ap.parse_args()
    FETTLE = os.path.abspath(a.fettle)
    rnd = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as work:
        try:
            for i, (name, config) in enumerate(families(rnd)):
                if a.only and name not in a.only.split(","):
                    continue
                try:
                    one_family(name, config, [torch.float32, torch.bfloat16, torch.float16][(i + a.seed) % 3], rnd, work)
                except Exception as e:
                    check(name, False, repr(e))
        finally:
            subprocess.run([FETTLE, "stop", "--home", f"{work}/home"], capture_output=True)
    print(f"{sum(RESULTS)} passed, {len(RESULTS) - sum(RESULTS)} failed")
    return 0 if all(RESULTS) and RESULTS else 1


if __name__ == "__main__":
    sys.exit(main())
