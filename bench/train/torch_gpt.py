#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokens a second that PyTorch trains the model of `train -preset shakespeare` at: torch_gpt.py [steps] [threads]. A line of JSON for eager and one for torch.compile.

The same network and the same work a step as train/model and train/optim in float32: 4 layers, 4 heads, width 128, context 64, batch 12, 65 characters; RMSNorm, fused causal
attention (scaled_dot_product_attention), relu² of 512, an untied head, no biases; gradient clipped to a norm of 1, AdamW over all parameters (the foreach and the fused one, of which the
faster counts). Random tokens: what a step costs does not depend on them. Each figure is the median step after a warm-up.
"""
import json
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
if len(sys.argv) > 2:
    torch.set_num_threads(int(sys.argv[2]))
LAYERS, HEADS, WIDTH, CONTEXT, BATCH, VOCAB = 4, 4, 128, 64, 12, 65


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return F.rms_norm(x, (WIDTH,), self.weight, 1e-5)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = Norm(), Norm()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, HEADS, c // HEADS).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
        x = x + self.out(y)
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCAB, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), Norm()
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, x, y):
        h = self.token(x) + self.position.weight
        for block in self.blocks:
            h = block(h)
        return F.cross_entropy(self.head(self.norm(h)).view(-1, VOCAB), y.view(-1))


def run(name, compiled, fused):
    torch.manual_seed(1)
    model = GPT()
    loss_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=fused, foreach=None if fused else True)
    x, y = (torch.randint(VOCAB, (BATCH, CONTEXT)) for _ in range(2))
    times = []
    for i in range(steps + 20):
        at = time.perf_counter()
        loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        if i >= 20:
            times.append(time.perf_counter() - at)
    t = statistics.median(times)
    print(json.dumps({"name": name, "torch": torch.__version__, "threads": torch.get_num_threads(), "ms": round(1e3 * t, 2), "min_ms": round(1e3 * min(times), 2),
                      "tokens_per_s": round(BATCH * CONTEXT / t)}), flush=True)


for fused in (False, True):
    for compiled in (False, True):
        try:
            run(f"{'compiled' if compiled else 'eager'}, {'fused' if fused else 'foreach'} AdamW", compiled, fused)
        except Exception as e:
            print(json.dumps({"name": "compiled" if compiled else "eager", "error": str(e)[:300]}), flush=True)
