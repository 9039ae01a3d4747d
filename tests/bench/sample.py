#!/usr/bin/env python3
"""Sampling beside llama.cpp on the same random model, in turns in one run.

usage: make && tests/bench/sample.py [--work DIR] [--threads 2] [--rounds 5]

The model has the width of Qwen2.5-0.5B, 4 layers and 32000 words (88 M). It
needs numpy; with llama_cpp and gguf it writes the same weights as Q8_0 and
Q4_0 for llama.cpp, without them that side is printed as not measured.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

C, H, K, D, F, L, V = 896, 14, 2, 64, 4864, 4, 32000
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tensors():
    """(name, GGUF name, shape) of everything."""
    yield "model.embed_tokens.weight", "token_embd.weight", (V, C)
    yield "model.norm.weight", "output_norm.weight", (C,)
    for i in range(L):
        a, b = f"model.layers.{i}.", f"blk.{i}."
        yield a + "input_layernorm.weight", b + "attn_norm.weight", (C,)
        yield a + "post_attention_layernorm.weight", b + "ffn_norm.weight", (C,)
        for n, g, rows in (("q", "q", H * D), ("k", "k", K * D), ("v", "v", K * D)):
            yield a + f"self_attn.{n}_proj.weight", b + f"attn_{g}.weight", (rows, C)
            yield a + f"self_attn.{n}_proj.bias", b + f"attn_{g}.bias", (rows,)
        yield a + "self_attn.o_proj.weight", b + "attn_output.weight", (C, H * D)
        yield a + "mlp.gate_proj.weight", b + "ffn_gate.weight", (F, C)
        yield a + "mlp.up_proj.weight", b + "ffn_up.weight", (F, C)
        yield a + "mlp.down_proj.weight", b + "ffn_down.weight", (C, F)


def values(shape, rng):
    """f32 that are bf16."""
    x = rng.standard_normal(shape, dtype=np.float32) * 0.02
    if len(shape) == 1:
        x = x + 1
    return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)


def make_hf(path):
    if os.path.exists(path + "/model.safetensors"):
        return
    os.makedirs(path, exist_ok=True)
    conf = dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"], hidden_size=C,
                num_attention_heads=H, num_key_value_heads=K, head_dim=D, intermediate_size=F,
                num_hidden_layers=L, vocab_size=V, max_position_embeddings=4096, rms_norm_eps=1e-6,
                rope_theta=10000.0, tie_word_embeddings=True, hidden_act="silu", eos_token_id=0)
    json.dump(conf, open(path + "/config.json", "w"))
    rng, head, blobs, at = np.random.default_rng(1), {}, [], 0
    for name, _, shape in tensors():
        b = (values(shape, rng).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        head[name] = dict(dtype="BF16", shape=list(shape), data_offsets=[at, at + len(b)])
        at += len(b)
        blobs.append(b)
    h = json.dumps(head).encode()
    h += b" " * (-len(h) % 8)
    with open(path + "/model.safetensors", "wb") as f:
        f.write(len(h).to_bytes(8, "little") + h)
        for b in blobs:
            f.write(b)


def make_gguf(path, kind):
    import gguf
    if os.path.exists(path):
        return
    w = gguf.GGUFWriter(path, "qwen2")
    w.add_block_count(L)
    w.add_context_length(4096)
    w.add_embedding_length(C)
    w.add_feed_forward_length(F)
    w.add_head_count(H)
    w.add_head_count_kv(K)
    w.add_layer_norm_rms_eps(1e-6)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(V)
    w.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(1)
    for _, name, shape in tensors():
        x = values(shape, rng)
        if len(shape) == 2:
            w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
        else:
            w.add_tensor(name, x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


class Llama:
    def __init__(self, path, threads):
        import ctypes
        import llama_cpp as ll
        self.ll = ll
        self.quiet = ll.llama_log_callback(lambda *_: None)
        ll.llama_log_set(self.quiet, ctypes.c_void_p(0))
        ll.llama_backend_init()
        self.model = ll.llama_load_model_from_file(path.encode(), ll.llama_model_default_params())
        p = ll.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = 2048, 512, 512
        p.n_threads = p.n_threads_batch = threads
        p.n_seq_max = 16
        p.kv_unified = True  # one pool, so that a sequence may be long
        self.ctx = ll.llama_new_context_with_model(self.model, p)
        self.batch = ll.llama_batch_init(512, 0, 16)

    def step(self, rows):
        """rows: (token, position, sequence, wants logits)"""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, pos, seq, want) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, pos, 1, want
            b.seq_id[i][0] = seq
        if self.ll.llama_decode(self.ctx, b) != 0:
            sys.exit("llama_decode failed")

    def clear(self):
        ll = self.ll
        if hasattr(ll, "llama_memory_clear"):
            ll.llama_memory_clear(ll.llama_get_memory(self.ctx), True)
        else:
            ll.llama_kv_self_clear(self.ctx)

    def run(self):
        self.clear()
        t = time.monotonic()
        self.step([(i * 7 % V, i, 0, i == 511) for i in range(512)])
        out = {"prefill_512": 512 / (time.monotonic() - t)}
        for streams, key in ((1, "decode_1"), (16, "decode_16")):
            self.clear()
            self.step([(s * 16 + i, i, s, i == 15) for s in range(streams) for i in range(16)])
            for n in range(26):
                if n == 2:
                    t = time.monotonic()
                self.step([(n, 16 + n, s, True) for s in range(streams)])
            out[key] = 24 * streams / (time.monotonic() - t)
        return out


def build(work):
    out = work + "/bench_sample"
    libs = [f"{ROOT}/build/lib/{m}.a" for m in ("sample", "text", "model", "kernels", "wire", "base")]
    pc = subprocess.check_output(["pkg-config", "--cflags", "--libs", "jansson", "libpcre2-8", "libutf8proc", "libcrypto"], text=True)
    subprocess.check_call(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-I" + ROOT, "-o", out,
                           ROOT + "/tests/bench/bench_sample.c", "-Wl,--start-group", *libs, "-Wl,--end-group",
                           *pc.split(), "-lm", "-lpthread"])
    return out


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--work", default="build/bench")
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--rounds", type=int, default=5)
    a = a.parse_args()
    os.makedirs(a.work, exist_ok=True)
    make_hf(a.work + "/model")
    exe, peers = build(a.work), {}
    try:
        import gguf
        import llama_cpp
        for name, kind in (("Q8_0", gguf.GGMLQuantizationType.Q8_0), ("Q4_0", gguf.GGMLQuantizationType.Q4_0)):
            make_gguf(f"{a.work}/{name}.gguf", kind)
            peers[name] = Llama(f"{a.work}/{name}.gguf", a.threads)
        print("llama_cpp", llama_cpp.__version__)
    except ImportError as e:
        print(f"llama.cpp: not measured ({e})")
    seen = {}
    for _ in range(a.rounds):
        for line in subprocess.check_output([exe, a.work + "/model", str(a.threads), "1"], text=True).splitlines():
            row = json.loads(line)
            seen.setdefault("fettle " + row.pop("precision"), []).append(row)
        for name, peer in peers.items():
            seen.setdefault("llama.cpp " + name, []).append(peer.run())
    keys = ("prefill_512", "decode_1", "decode_16", "weights_gb_s", "read_gb_s")
    mid = {n: {k: statistics.median(r[k] for r in rows) for k in keys if k in rows[0]} for n, rows in seen.items()}
    print(f"{a.threads} threads, median of {a.rounds}; tokens a second; weights read and a plain read in GB/s")
    print(f"{'':18}" + "".join(f"{k:>14}" for k in keys))
    for n, r in mid.items():
        print(f"{n:18}" + "".join(f"{r[k]:14.1f}" if k in r else f"{'-':>14}" for k in keys))
    for n, peer in (("q8", "Q8_0"), ("q4", "Q4_0")):
        if "llama.cpp " + peer in mid:
            b = mid["llama.cpp " + peer]
            print(f"{n} / {peer}: " + ", ".join(f"{k} {mid['fettle ' + n][k] / b[k]:.2f}x" for k in keys[:3]))


main()
