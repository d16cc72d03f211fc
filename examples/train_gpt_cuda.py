"""Trains a small character-level GPT on one CUDA GPU, the way most PyTorch scripts do."""

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--context", type=int, default=128)
parser.add_argument("--layers", type=int, default=3)
parser.add_argument("--heads", type=int, default=4)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--learning-rate", type=float, default=1e-3)
parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
parser.add_argument("--no-compile", dest="compile", action="store_false")
parser.add_argument("--text", default=Path(__file__).parent / "data" / "station_log.txt")
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
dtype = getattr(torch, args.dtype)
torch.manual_seed(1337)
torch.backends.cuda.matmul.allow_tf32 = True


class Characters(Dataset):
    """Windows of `context` characters and the characters that follow them."""

    def __init__(self, text, context):
        self.alphabet = sorted(set(text))
        index = {c: i for i, c in enumerate(self.alphabet)}
        self.data = torch.tensor([index[c] for c in text], dtype=torch.long)
        self.context = context

    def __len__(self):
        return len(self.data) - self.context - 1

    def __getitem__(self, i):
        window = self.data[i : i + self.context + 1]
        return window[:-1], window[1:]


class Block(nn.Module):
    """Causal self-attention, then an MLP, each with a residual connection."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm_1(x)).split(c, dim=2)
        q, k, v = (y.view(b, t, self.heads, c // self.heads).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).contiguous().view(b, t, c))
        return x + self.mlp(self.norm_2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, context, layers, heads, width):
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(self.initialise)
        self.head.weight = self.token.weight

    def initialise(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, tokens, targets):
        positions = torch.arange(tokens.size(1), device=tokens.device)
        x = self.token(tokens) + self.position(positions)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


dataset = Characters(Path(args.text).read_text(encoding="utf-8"), args.context)
loader = DataLoader(dataset, args.batch_size, shuffle=True, pin_memory=True, drop_last=True)
vocabulary = math.ceil(len(dataset.alphabet) / 64) * 64  # a round size suits tensor cores
model = GPT(vocabulary, args.context, args.layers, args.heads, args.width).to(device)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}")

optimizer = torch.optim.AdamW(
    model.parameters(), lr=args.learning_rate, betas=(0.9, 0.95), fused=device == "cuda"
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.steps)
scaler = torch.amp.GradScaler("cuda", enabled=dtype == torch.float16)
if args.compile:
    model = torch.compile(model)

torch.cuda.synchronize()
start = time.perf_counter()
batches = iter(loader)
for step in range(args.steps):
    tokens, targets = next(batches)
    tokens, targets = tokens.cuda(non_blocking=True), targets.cuda(non_blocking=True)
    with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
        loss = model(tokens, targets)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    if step % 5 == 0 or step == args.steps - 1:
        print(f"step {step:3d}  loss {loss.item():.4f}")

torch.cuda.synchronize()
print(f"{time.perf_counter() - start:.1f} s, {torch.cuda.max_memory_allocated() / 2**20:.1f} MiB")
