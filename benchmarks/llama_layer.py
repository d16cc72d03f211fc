"""A 7B-parameter Llama layer, forward and backward, timed on the simulated core without data.

Aim: under a minute and under 4 GiB on two cores. Run: python benchmarks/llama_layer.py

The sizes are those of Llama 2 7B (Touvron et al. 2023, table 1 and the released configuration):
width 4,096, 32 heads of 128, SwiGLU width 11,008, 32 layers; sequence 4,096 by default.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

from rainshadow.compiler.frontends.torch.device import DEVICE_TYPE, register_device
from rainshadow.compiler.session import Session, SessionOptions
from rainshadow.sim.timing import time_trace

WIDTH, HEADS, HIDDEN, ROPE_BASE = 4096, 32, 11008, 10000.0


class LlamaLayer(nn.Module):
    """x: [batch, sequence, WIDTH] bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp_norm = nn.RMSNorm(WIDTH)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        batch, sequence, _ = x.shape
        q, k, v = (
            part.view(batch, sequence, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).split(WIDTH, -1)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, sequence, WIDTH))
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, halves rotated; cos, sin: [sequence, head width]."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def rope_tables(sequence: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos, sin: [sequence, head width] bfloat16."""
    half = WIDTH // HEADS // 2
    frequency = ROPE_BASE ** (-torch.arange(half) / half)
    angle = torch.outer(torch.arange(sequence), frequency).repeat(1, 2)
    return angle.cos().bfloat16(), angle.sin().bfloat16()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequence", type=int, default=4096)
    options = parser.parse_args()
    began = time.perf_counter()
    with Session("trainium2", SessionOptions(data="none")) as session:
        register_device()
        with torch.device("meta"):
            layer = LlamaLayer().bfloat16()
        layer = layer.to_empty(device=DEVICE_TYPE)
        x = torch.empty(
            1, options.sequence, WIDTH, dtype=torch.bfloat16, device=DEVICE_TYPE, requires_grad=True
        )
        cos, sin = (table.to(DEVICE_TYPE) for table in rope_tables(options.sequence))
        compiled = torch.compile(layer, backend=DEVICE_TYPE)
        result = compiled(x, cos, sin)
        result.backward(torch.empty_like(result))
        recorded = time.perf_counter()
        rows, duration_s, busy = 0, 0.0, {}
        for launch in session.launches:
            timeline = time_trace(launch.kernel.trace, session.chip)
            rows += timeline.trace.num_rows
            duration_s += (timeline.duration_ps + timeline.launch_ps) / 1e12
            print(
                f"{launch.phase:>10} {launch.kernel.name:<24} {timeline.trace.num_rows:>9,} rows "
                f"{timeline.duration_ps / 1e9:9.3f} ms {timeline.trace.flops / 1e12:8.3f} TFLOP"
            )
            for name, ps in timeline.engine_busy_ps.items():
                busy[name] = busy.get(name, 0) + ps / 1e12
        flops = sum(launch.kernel.trace.flops for launch in session.launches)
        host = session.host_fallbacks
        peak = session.chip.core_peak_flops
    done = time.perf_counter()
    print(
        f"simulated: {duration_s * 1e3:.2f} ms, {flops / 1e12:.2f} TFLOP of matmul, "
        f"{flops / peak / duration_s:.1%} of the core's peak, {len(host)} host operators"
    )
    print("busy: " + ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in busy.items()))
    print(f"wall: {done - began:.1f} s, of which timing {done - recorded:.1f} s; {rows:,} rows")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
