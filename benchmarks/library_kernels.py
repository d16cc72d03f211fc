"""Kernels of AWS's nki-library at 2,048 tokens against the same mathematics in eager PyTorch.

Aims: at most 3 times PyTorch's time in float32 on the same CPU, and at most twice the memory of the
tensors that the kernel holds: arguments and results in HBM, and its cores' SBUF and PSUM. The chip
adds in float32; PyTorch's bfloat16, for which some CPUs have instructions, is given beside it. Each
kernel runs in a process of its own, and its results are compared with PyTorch's.
Needs RAINSHADOW_CHECKOUT_NKI_LIBRARY. Run: python benchmarks/library_kernels.py
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from rainshadow.machine import load_chip
from rainshadow.nki.kernel import Kernel, record
from rainshadow.validation.checkouts import module_from

VARIABLE = "RAINSHADOW_CHECKOUT_NKI_LIBRARY"
LIBRARY = "nkilib_src.nkilib.core"
TOKENS, HIDDEN, INNER, HEADS, HEAD_SIZE, LNC = 2048, 4096, 2048, 8, 128, 2
REPEATS, AIM_TIME, AIM_MEMORY = 3, 3.0, 2.0
EPSILON = 1e-6


@dataclass(frozen=True)
class Case:
    """A kernel, what it is called with, and the same in PyTorch.

    formula: of tensors, whatever their dtype.  distance: of the kernel's result from PyTorch's,
    relative to the latter's largest value.
    """

    kernel: Kernel
    arguments: dict[str, Any]
    formula: Callable[..., torch.Tensor]
    tensors: tuple[torch.Tensor, ...]
    distance: Callable[[Any, torch.Tensor], float]

    def eager(self) -> torch.Tensor:
        """PyTorch's result."""
        return self.formula(*self.tensors)


def attention(folder: Path) -> Case:
    """Causal, 8 heads of 128."""
    q, k, v = (torch.randn(HEADS, TOKENS, HEAD_SIZE).bfloat16() for _ in range(3))
    scale = HEAD_SIZE**-0.5
    hidden = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)

    def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = (q @ k.transpose(1, 2)).float() * scale
        return scores.masked_fill(hidden, -torch.inf).softmax(-1).to(v.dtype) @ v

    module = module_from(folder, f"{LIBRARY}.attention.attention_cte")
    given = {"q": q, "k": k, "v": v, "scale": scale, "tp_k": True}
    return Case(module.attention_cte, given, eager, (q, k, v), _distance)


def mlp(folder: Path) -> Case:
    """SiLU gate, without a norm."""
    x = torch.randn(1, TOKENS, HIDDEN).bfloat16()
    gate, up = (torch.randn(HIDDEN, INNER).mul(HIDDEN**-0.5).bfloat16() for _ in range(2))
    down = torch.randn(INNER, HIDDEN).mul(INNER**-0.5).bfloat16()

    def eager(
        x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
    ) -> torch.Tensor:
        return (functional.silu(x @ gate) * (x @ up)) @ down

    given = {
        "hidden_tensor": x,
        "gate_proj_weights_tensor": gate,
        "up_proj_weights_tensor": up,
        "down_proj_weights_tensor": down,
    }
    kernel = module_from(folder, f"{LIBRARY}.mlp.mlp").mlp
    return Case(kernel, given, eager, (x, gate, up, down), _distance)


def rmsnorm(folder: Path) -> Case:
    """RMSNorm, then each row quantized to fp8 with a scale of its own."""
    x, weight = torch.randn(1, TOKENS, HIDDEN).bfloat16(), torch.randn(1, HIDDEN).bfloat16()
    types = module_from(folder, f"{LIBRARY}.utils.common_types")
    module = module_from(folder, f"{LIBRARY}.rmsnorm.rmsnorm_quant")
    most = 240.0  # of the chip's float8e4

    def eager(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON) * weight
        factor = most / normed.abs().amax(-1, keepdim=True)
        return (normed * factor).to(torch.float8_e4m3fn)

    def distance(result: Any, expected: torch.Tensor) -> float:
        return _distance(result[..., :HIDDEN], expected)  # behind it lie the scales

    options = module.RmsNormQuantKernelArgs(
        quantization_type=types.QuantizationType.ROW,
        lower_bound=0.0,
        norm_type=types.NormType.RMS_NORM,
        eps=EPSILON,
    )
    given = {"hidden": x, "ln_w": weight, "kargs": options}
    return Case(module.rmsnorm_quant_kernel, given, eager, (x, weight), distance)


CASES = {"attention": attention, "mlp": mlp, "rmsnorm": rmsnorm}


def _distance(result: Any, expected: torch.Tensor) -> float:
    wide = result.float().numpy() if torch.is_tensor(result) else result.astype(np.float32)
    exact = expected.float().numpy()
    return float(np.abs(wide.reshape(exact.shape) - exact).max() / np.abs(exact).max())


def measure(name: str, folder: Path) -> bool:
    """Print a kernel's line: seconds, both ratios and the distance. Whether it meets the aims."""
    torch.manual_seed(0)
    torch.set_grad_enabled(False)
    chip = load_chip("trainium2")
    case = CASES[name](folder)
    simulate = functools.partial(record, case.kernel[LNC], (), case.arguments, chip=chip)
    before = _peak_bytes()
    run = simulate()
    grown = _peak_bytes() - before
    wide = functools.partial(case.formula, *(tensor.float() for tensor in case.tensors))
    seconds, eager_s, wide_s = (_least(call) for call in (simulate, case.eager, wide))
    result = run.outputs[0] if isinstance(run.outputs, list | tuple) else run.outputs
    traces = (run.trace, *run.other_traces)
    core = chip.core
    assert core is not None
    on_chip = core.sbuf.bytes_per_partition.value + core.psum.bytes_per_partition.value
    held = traces[0].peak_bytes["hbm"] + len(traces) * int(core.partitions.value * on_chip)
    rows = sum(trace.num_rows for trace in traces)
    memory = grown / held
    print(
        f"{name:<10}{rows:>6,} instructions {seconds:.2f} s, {seconds / wide_s:.1f} times "
        f"PyTorch's float32 and {seconds / eager_s:.1f} times its bfloat16; "
        f"{grown / 2**20:.0f} MiB, {memory:.2f} times what it holds; results within "
        f"{case.distance(result, case.eager()):.1e}",
        flush=True,
    )
    return seconds / wide_s <= AIM_TIME and memory <= AIM_MEMORY


def _least(call: Callable[[], Any]) -> float:
    """The least seconds of some calls."""
    return min(timeit.repeat(call, number=1, repeat=REPEATS))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Every case in a process of its own."""
    if VARIABLE not in os.environ:
        print(f"{VARIABLE} is not set: NOT RUN", file=sys.stderr)
        return 2
    if len(sys.argv) == 2:
        return 0 if measure(sys.argv[1], Path(os.environ[VARIABLE]) / "src") else 1
    return max(subprocess.run([sys.executable, __file__, name]).returncode for name in CASES)


if __name__ == "__main__":
    sys.exit(main())
