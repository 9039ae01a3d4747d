#!/usr/bin/env python3
"""Times a training step in PyTorch: the model of `fettle bench cpu`.

usage: torch_step.py DIR {full|lora} {eager|compile} [--steps N] [--threads N]
       torch_step.py DIR save        writes the model that everybody runs
Prints one line of JSON: {"s": median, "min_s": ..., "loss": of the third step,
"rss_mib": peak}.

4 layers of Qwen2.5-0.5B's width, V = 32000, tied, 88 M parameters (bf16 in the
file); 512 tokens a step, the same as `fettle bench step`; fp32; AdamW, fused
unless --adamw foreach; all parameters, or LoRA of rank 16 on every linear map
of the layers. The step is what fettle's forward_backward + optim_step do: loss
over all tokens, gradients, their norm, the update.
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

L, C, H, K, D, FF, V, T, R = 4, 896, 14, 2, 64, 4864, 32000, 512, 16


class Linear(nn.Module):
    """A linear map, with an adapter beside it when rank > 0."""

    def __init__(self, i, o, bias, rank):
        super().__init__()
        self.w = nn.Parameter(torch.randn(o, i) * 0.02, requires_grad=not rank)
        self.b = nn.Parameter(torch.zeros(o), requires_grad=not rank) if bias else None
        if rank:
            self.A = nn.Parameter((torch.rand(rank, i) * 2 - 1) / i**0.5)
            self.B = nn.Parameter(torch.zeros(o, rank))
        self.rank = rank

    def forward(self, x):
        y = F.linear(x, self.w, self.b)
        if self.rank:
            y = y + F.linear(F.linear(x, self.A), self.B) * 2.0
        return y


class Norm(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.w = nn.Parameter(torch.ones(C), requires_grad=not rank)

    def forward(self, x):
        return F.rms_norm(x, (C,), self.w, 1e-6)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.n1, self.n2 = Norm(rank), Norm(rank)
        self.q = Linear(C, H * D, True, rank)
        self.k = Linear(C, K * D, True, rank)
        self.v = Linear(C, K * D, True, rank)
        self.o = Linear(H * D, C, False, rank)
        self.gate = Linear(C, FF, False, rank)
        self.up = Linear(C, FF, False, rank)
        self.down = Linear(FF, C, False, rank)

    def forward(self, x, cos, sin):
        h = self.n1(x)
        q = rotate(self.q(h).view(1, T, H, D).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(1, T, K, D).transpose(1, 2), cos, sin)
        v = self.v(h).view(1, T, K, D).transpose(1, 2)
        k, v = (t.repeat_interleave(H // K, 1) for t in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(o.transpose(1, 2).reshape(1, T, H * D))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(V, C) * 0.02, requires_grad=not rank)
        self.layers = nn.ModuleList(Layer(rank) for _ in range(L))
        self.norm = Norm(rank)
        f = 1e6 ** (-torch.arange(0, D, 2) / D)
        a = torch.outer(torch.arange(T), f)
        self.register_buffer("cos", a.cos())
        self.register_buffer("sin", a.sin())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embed)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed)
        return F.cross_entropy(logits.view(-1, V), targets.view(-1), reduction="sum")


def name_of(p):
    """Our parameter's name in a Hugging Face file; None for adapters."""
    if p == "embed":
        return "model.embed_tokens.weight"
    if p == "norm.w":
        return "model.norm.weight"
    _, layer, module, w = p.split(".")
    if w not in "wb":
        return None
    part = {"n1": "input_layernorm", "n2": "post_attention_layernorm"}.get(module)
    part = part or f"{'self_attn' if module in 'qkvo' else 'mlp'}.{module}_proj"
    return f"model.layers.{layer}.{part}.{'weight' if w == 'w' else 'bias'}"


def save(path):
    model = Model(0)
    os.makedirs(path, exist_ok=True)
    tensors = {name_of(k): v.data.bfloat16() for k, v in model.named_parameters()}
    save_file(tensors, f"{path}/model.safetensors", {"format": "pt"})
    conf = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
        "hidden_size": C, "num_hidden_layers": L, "num_attention_heads": H,
        "num_key_value_heads": K, "intermediate_size": FF, "vocab_size": V,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "hidden_act": "silu", "tie_word_embeddings": True,
    }  # fmt: skip
    with open(f"{path}/config.json", "w") as f:
        json.dump(conf, f, indent=1)


def load(path, rank):
    model = Model(rank)
    tensors = load_file(f"{path}/model.safetensors")
    with torch.no_grad():
        for k, v in model.named_parameters():
            if name_of(k):
                v.copy_(tensors[name_of(k)])
    return model


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("what", choices=("full", "lora", "save"))
    p.add_argument("mode", choices=("eager", "compile"), nargs="?", default="eager")
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--adamw", choices=("foreach", "fused"), default="fused")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    if o.what == "save":
        return save(o.dir)
    model = load(o.dir, R if o.what == "lora" else 0)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=1e-4, **{o.adamw: True})
    run = torch.compile(model) if o.mode == "compile" else model
    tokens = torch.tensor([[(t * 7919 + t * t % 1013) % V for t in range(T + 1)]])
    times = []
    for i in range(o.steps + 2):  # two to warm up
        start = time.perf_counter()
        loss = run(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1e9)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if i == 2:
            third = loss.item() / T
        if i >= 2:
            times.append(time.perf_counter() - start)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out = {"s": statistics.median(times), "min_s": min(times), "loss": third}
    print(json.dumps(out | {"rss_mib": round(rss)}))


if __name__ == "__main__":
    main()
