"""First-generation kernels of aws-neuron/nki-samples: bounds that its CI set on nki.benchmark.

AWS does not say on which chip; the bounds hold on all of them, and Trainium 1, the older one, is
taken where a point names none. They were chosen a few per cent above what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts, module_from
from rainshadow.validation.launch import CannotRun, KernelLaunch, dtype_of
from rainshadow.validation.measured import Measured
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target

#: The kernels were removed from nki-samples in 2026: a checkout of its state before may stand
#: beside today's, or be taken from its history.
_CHECKOUTS = ("nki-samples-2025", "nki-samples")
_PACKAGE = "nki_samples.reference"
_NUMBER = re.compile(r"\d+")
_LETTERED = re.compile(r"\b([A-Za-z]+)(\d+)\b")
_DOUBLE_ROW_PARTS = 2
_PARTITIONS = 128
#: A prediction further below its bound is as wrong as one above it.
_FURTHEST_BELOW = 0.4
_REMARK = (
    "bounds, not measurements, and the chip is not stated. Kernels that leave the engine of a copy "
    "or a scaling to AWS's compiler are too slow here, where VectorE does them all."
)

Arguments = tuple[tuple[int, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Sample:
    """module: of the package.  arguments: launch grid and arguments, of shapes and dtype."""

    module: str
    arguments: Callable[[str, str], Arguments]


def _attention(keys_by_token: bool) -> Callable[[str, str], Arguments]:
    def arguments(shapes: str, dtype: str) -> Arguments:
        batch, length, width = _sizes(shapes, "bs", "L", "d")
        by_width, by_token = (batch, width, length), (batch, length, width)
        return (batch,), {
            "q_ref": Shape(by_width, dtype),
            "k_ref": Shape(by_token if keys_by_token else by_width, dtype),
            "v_ref": Shape(by_token, dtype),
        }

    return arguments


def _attention_backward(shapes: str, dtype: str) -> Arguments:
    batch, heads, length, width = _sizes(shapes, "bs", "h", "L", "d")
    given: dict[str, Any] = {
        name: Shape((batch, heads, width, length), dtype)
        for name in ("q_ref", "k_ref", "v_ref", "o_ref", "dy_ref")
    }
    given["lse_ref"] = Shape((batch, heads, _PARTITIONS, length // _PARTITIONS), "float32")
    return (batch, heads), given | {
        "seed_ref": None,
        "use_causal_mask": True,
        "mixed_precision": True,
    }


def _norm_and_projection(shapes: str, dtype: str) -> Arguments:
    batch, length, hidden, width = _numbers(shapes, 4)
    weights = Shape((hidden, width), dtype)
    return (1,), {"hidden": Shape((batch, length, hidden), dtype), "weights": weights}


def _double_row(shapes: str, dtype: str) -> Arguments:
    rows, contracted, columns = _sizes(shapes, "M", "K", "N")
    blocks = _numbers(shapes.partition("blk")[2], 3)
    names = ("TILES_IN_BLOCK_M", "TILES_IN_BLOCK_N", "TILES_IN_BLOCK_K")
    packed = (contracted // _DOUBLE_ROW_PARTS, columns * _DOUBLE_ROW_PARTS)
    return (1,), {
        "lhs": Shape((rows, contracted), dtype),
        "rhs_quantized": Shape(packed, dtype_of("fp8")),
        "rhs_scale": Shape((_PARTITIONS, columns), dtype),
        **dict(zip(names, blocks, strict=True)),
    }


def _resize(shapes: str, dtype: str) -> Arguments:
    batch, height, width, channels, out_height, out_width = _numbers(shapes, 6)
    return (batch,), {
        "data_tensor": Shape((batch, height, width, channels), dtype),
        "out_shape": (batch, out_height, out_width, channels),
    }


def _pool(shapes: str, dtype: str) -> Arguments:
    numbers = [int(number) for number in _NUMBER.findall(shapes)]
    if len(numbers) not in (5, 6):
        raise CannotRun(f"shapes {shapes!r} are not N, C, H, W and the output's size")
    size = numbers[4] if len(numbers) == 5 else tuple(numbers[4:])
    return (1,), {"in_tensor": Shape(tuple(numbers[:4]), dtype), "output_size": size}


_SAMPLES = {
    "fused_self_attn_for_SD_small_head_size": _Sample("attention", _attention(True)),
    "allocated_fused_self_attn_for_SD_small_head_size": _Sample(
        "allocated_attention", _attention(False)
    ),
    "flash_attn_bwd": _Sample("attention", _attention_backward),
    "allocated_fused_rms_norm_qkv": _Sample("allocated_fused_linear", _norm_and_projection),
    "quantized_double_row_matmul": _Sample("double_row_matmul", _double_row),
    "resize_nearest_fixed_dma_kernel": _Sample("vision", _resize),
    "adaptive_avg_pool2d_kernel": _Sample("vision", _pool),
}


def claims(point: Point) -> bool:
    return "nki-samples" in point["source_of_kernel"] and point["kernel"] in _SAMPLES


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    name = next((name for name in _CHECKOUTS if name in checkouts.folders), _CHECKOUTS[-1])
    sample = _SAMPLES[point["kernel"]]
    path = f"src/{_PACKAGE.replace('.', '/')}/{sample.module}.py"
    folder = checkouts.state_with(name, path, point) / "src"
    dtype = dtype_of(point["dtype"].partition("x")[0])
    grid, arguments = sample.arguments(point["shapes"], dtype)

    def kernel() -> Any:
        module = module_from(folder, f"{_PACKAGE}.{sample.module}")
        return getattr(module, point["kernel"])

    return KernelLaunch(
        name=f"{point['kernel']} {point['shapes']} {dtype}",
        chip=point["device"].partition("/")[0],
        lnc=1,
        kernel=kernel,
        arguments=lambda: arguments,
        grid=grid,
    )


def value(point: Point, measured: Measured) -> float:
    return measured.duration_s + measured.benchmark_launch_s


def target(point: Point) -> Target:
    return Target("nki-samples: upper bounds", "upper", _FURTHEST_BELOW, remark=_REMARK)


def _numbers(text: str, count: int) -> list[int]:
    """All numbers in a text.

    Errors: `CannotRun` where they are not `count`.
    """
    numbers = [int(number) for number in _NUMBER.findall(text)]
    if len(numbers) != count:
        raise CannotRun(f"shapes {text!r} are not {count} numbers")
    return numbers


def _sizes(shapes: str, *letters: str) -> list[int]:
    """The numbers after the letters.

    Errors: `CannotRun` where one is missing.
    """
    known = {letter: int(number) for letter, number in _LETTERED.findall(shapes)}
    missing = [letter for letter in letters if letter not in known]
    if missing:
        raise CannotRun(f"shapes {shapes!r} say no {', '.join(missing)}")
    return [known[letter] for letter in letters]
