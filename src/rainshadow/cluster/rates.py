"""Knows how fast a chip works through each kind of a step's work, under one software stack.

rate = peak (maker) x best measured matmul fraction (where published) x what training kernels reach
of that (fitted per chip family, data/calibration/training.toml) x the stack's own factor. Every
field may be an array, one entry per layout or per validation point.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.layout import PRECISIONS
from rainshadow.cluster.software import Software
from rainshadow.errors import NotModelled
from rainshadow.machine import Chip
from rainshadow.sources import Picker

#: Layout precision -> the chip's peak it runs on, by preference.
_PEAKS: Mapping[str, tuple[str, ...]] = {
    "float32": ("tfloat32", "float32"),
    "bfloat16": ("bfloat16", "float16"),
    "float8": ("float8_e4m3fn", "float8_e4m3", "int8"),
    "mxfp8": ("float8_e4m3fn", "float8_e4m3"),
    "nvfp4": ("float4_e2m1fn_x4",),
}


#: Families whose collectives are kernels on the compute units; TPUs and NeuronCores have engines
#: of their own for them.
_SHARED_COLLECTIVES = ("gpu",)
#: Power per peak rate of H100, the middle of the fitted GPUs.
_WATTS_PER_TFLOPS = 700 / 989


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The fitted constants; meanings, values and what they were fitted on: docs/planner.md."""

    gpu: float
    power: float
    tpu: float
    neuroncore: float
    other: float
    fp8: float
    mxfp8: float
    nvfp4: float
    attention: float
    picked: float
    states: float
    experts: float
    memory: float
    layer_s: float
    expert_s: float
    step_s: float
    jitter: float
    hidden_tensor: float
    hidden_data: float
    hidden_expert: float
    tax: float
    half_rows: float
    half_width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Numbers of one chip. linear, experts: FLOP/s by index of PRECISIONS, nan where it cannot."""

    linear: Any
    experts: Any
    attention: Any
    picked: Any
    states: Any
    logits: Any
    memory: Any
    layer_s: Any
    expert_s: Any
    step_s: Any
    jitter: Any
    hidden_tensor: Any
    hidden_data: Any
    hidden_expert: Any
    tax: Any
    half_rows: Any
    half_width: Any
    host_bytes_per_s: Any


@cache
def _raw() -> Mapping[str, Any]:
    text = (resources.files("rainshadow") / "data/calibration/training.toml").read_text("utf-8")
    return tomllib.loads(text)


def _constants(key: str) -> Calibration:
    names = [field.name for field in dataclasses.fields(Calibration)]
    return Calibration(**{name: float(_raw()[name][key]) for name in names})


def calibration() -> Calibration:
    """The shipped constants, as fitted."""
    return _constants("value")


def starting_point() -> Calibration:
    """Where a fit begins."""
    return _constants("start")


def spreads() -> dict[str, float]:
    """Fitted constant -> how far it may be from its start, as a factor's logarithm."""
    fields = [field.name for field in dataclasses.fields(Calibration) if field.name != "other"]
    return {name: float(_raw()[name]["spread"]) for name in fields}


def chip_peaks(chip: Chip, pick: Picker) -> tuple[float, ...]:
    """FLOP/s the best published matmul reaches, by index of PRECISIONS; nan where there is none.

    Errors: `NotModelled` for a host processor, and for a chip without a 16-bit peak.
    """
    if chip.family == "cpu":
        raise NotModelled(
            f"{chip.name} is a host processor, not an accelerator",
            fix="plan on an accelerator; hosts are listed for their own sake",
        )
    best = chip.achievable_matmul_fraction
    fraction = 1.0
    if best is not None:
        fraction = pick.higher_is_better(best, f"{chip.name} achievable matmul fraction")
    low = chip.achievable_fp8_fraction
    fraction8 = fraction
    if low is not None:
        fraction8 = pick.higher_is_better(low, f"{chip.name} achievable fp8 fraction")
    found = []
    for name in PRECISIONS:
        key = _peak_key(chip, name)
        if key is None:
            found.append(float("nan"))
            continue
        peak = pick.higher_is_better(chip.peak_flops[key], f"{chip.name} {key} peak")
        wide = name in ("float32", "bfloat16")
        found.append(peak * (fraction if wide else fraction8))
    if np.isnan(found[PRECISIONS.index("bfloat16")]):
        raise NotModelled(
            f"{chip.name} has no bfloat16 peak",
            fix=f"add it to data/machines/{chip.name}.toml with its source",
        )
    return tuple(found)


def _peak_key(chip: Chip, precision: str) -> str | None:
    return next((key for key in _PEAKS[precision] if key in chip.peak_flops), None)


def stated_peaks(chip: Chip) -> np.ndarray:
    """The maker's FLOP/s, by index of PRECISIONS; nan where there is none."""
    keys = [_peak_key(chip, name) for name in PRECISIONS]
    return np.array([chip.peak_flops[key].value if key else np.nan for key in keys])


def family_fraction(chip: Chip, fitted: Calibration) -> float:
    """What training kernels reach of the best matmul, on chips of this family."""
    gpu = fitted.gpu
    if chip.tdp is not None:
        watts = chip.tdp.value / (chip.peak_flops["bfloat16"].value / 1e12)
        gpu *= (watts / _WATTS_PER_TFLOPS) ** fitted.power
    known = {"gpu": gpu, "tpu": fitted.tpu, "neuroncore": fitted.neuroncore}
    return known.get(chip.family, fitted.other)


def _below_one(fraction: Any) -> Any:
    """Nothing multiplies faster than the best matmul that was measured: a soft minimum with 1."""
    power = assumed("rate_exponent")
    return fraction / (1 + fraction**power) ** (1 / power)


def rates_of(
    chip: Chip, software: Software, pick: Picker, fitted: Calibration | None = None
) -> Rates:
    """The rates of a chip under a stack, in one scenario.

    Errors: as `chip_peaks`.
    """
    fitted = fitted or calibration()
    reach = family_fraction(chip, fitted) * software.efficiency
    scale = np.array([1.0, 1.0, *(fitted.fp8 * part for part in (1.0, fitted.mxfp8, fitted.nvfp4))])
    peaks = np.array(chip_peaks(chip, pick))
    reached = _below_one(reach * scale)
    wide = peaks[PRECISIONS.index("bfloat16")] * _below_one(reach)
    memory = pick.higher_is_better(chip.hbm.bandwidth, f"{chip.name} HBM bandwidth")
    host = chip.host_link
    return Rates(
        linear=peaks * reached,
        experts=peaks * reached * fitted.experts * software.experts,
        attention=wide * fitted.attention * software.attention,
        picked=wide * fitted.attention * fitted.picked,
        states=wide * fitted.attention * fitted.states,
        logits=wide,
        memory=memory * fitted.memory,
        layer_s=fitted.layer_s * software.launch,
        expert_s=fitted.expert_s * software.launch,
        step_s=fitted.step_s,
        jitter=fitted.jitter,
        hidden_tensor=fitted.hidden_tensor,
        hidden_data=fitted.hidden_data if software.hidden_data is None else software.hidden_data,
        hidden_expert=fitted.hidden_expert,
        tax=fitted.tax if chip.family in _SHARED_COLLECTIVES else 0.0,
        half_rows=fitted.half_rows * wide / 1e15,
        half_width=fitted.half_width,
        host_bytes_per_s=assumed("host_link")
        if host is None
        else pick.higher_is_better(host, f"{chip.name} host link"),
    )


def error_fraction(chip: Chip, experts: bool) -> float:
    """What 90 % of left-out runs were within: on this chip, or on one of its family never seen.

    experts: for mixture-of-experts models.
    """
    errors: Mapping[str, float] = _raw()["error"]
    own = errors.get(chip.name, errors.get(chip.family, errors["unseen"]))
    return max(own, errors["experts"]) if experts else own
