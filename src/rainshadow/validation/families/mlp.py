"""nki-library's MLP, context encoding (CTE) and token generation (TKG): reference times on trn2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts, module_from
from rainshadow.validation.launch import CannotRun, KernelLaunch, dtype_of
from rainshadow.validation.measured import Measured
from rainshadow.validation.nki_library import (
    CHECKOUT,
    FAMILY_MEDIAN,
    LIBRARY,
    chip_of,
    flag,
    integer,
    source_folder,
)
from rainshadow.validation.points import Point
from rainshadow.validation.target import Target

_MODULE = "nkilib_src.nkilib.core.mlp.mlp"
_TYPES = "nkilib_src.nkilib.core.utils.common_types"
_PARTITIONS = 128
#: The test of context encoding asks for fp8 weights whatever the quantization.
_CTE_WEIGHTS = "fp8_e4m3"
_NEEDED = ("hidden", "intermediate", "quant", "norm", "act")


def claims(point: Point) -> bool:
    return point["source_of_kernel"].endswith("mlp.py:mlp")


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    options = {"dtype": point["dtype"], **point.options}
    folder = source_folder(checkouts)
    generation = "(TKG)" in point["kernel"]
    if not generation:
        options.setdefault("quant_dtype", _CTE_WEIGHTS)
    missing = [name for name in _NEEDED if name not in options]
    if missing:
        raise CannotRun(f"the column shapes says no {', '.join(missing)}")
    for name in ("dtype", "quant_dtype"):
        if name in options:
            options[name] = dtype_of(options[name])
    if options["quant"] not in ("NONE", "STATIC", "ROW"):
        raise CannotRun(f"quantization {options['quant']}: MX formats are trn3's")
    return KernelLaunch(
        name=f"mlp {point['kernel']} {point['shapes']} {point['dtype']}",
        chip=chip_of(point),
        lnc=integer(options, "lnc", 2),
        kernel=lambda: module_from(folder, _MODULE).mlp,
        arguments=lambda: _arguments(folder, options, generation=generation),
    )


def value(point: Point, measured: Measured) -> float:
    return measured.duration_s + measured.launch_s


def target(point: Point) -> Target:
    kind = "TKG" if "(TKG)" in point["kernel"] else "CTE"
    return Target(f"{CHECKOUT}: mlp {kind}", "median", FAMILY_MEDIAN, LIBRARY)


def _arguments(folder: Path, options: dict[str, str], *, generation: bool) -> dict[str, Any]:
    """As the library's test builds them, tensors as shapes."""
    types = module_from(folder, _TYPES)
    hidden, inner = integer(options, "hidden"), integer(options, "intermediate")
    batch, length = integer(options, "batch"), integer(options, "seqlen")
    dtype = options["dtype"]
    quantized = options.get("quant_dtype")
    weights = quantized or dtype
    norm = options["norm"]
    tokens = Shape((batch, length, hidden), dtype)
    given: dict[str, Any] = {
        "hidden_tensor": _hidden(
            batch, length, hidden, dtype, weights, options["quant"], generation
        ),
        "gate_proj_weights_tensor": Shape((hidden, inner), weights),
        "up_proj_weights_tensor": Shape((hidden, inner), weights),
        "down_proj_weights_tensor": Shape((inner, hidden), weights),
        "store_fused_add_result": flag(options, "store_add"),
        "activation_fn": types.ActFnType[options["act"]],
        "normalization_type": types.NormType[norm],
        "quantization_type": types.QuantizationType[options["quant"]],
        "output_dtype": "bfloat16",
        "skip_gate_proj": flag(options, "skip_gate"),
        "use_tkg_gate_up_proj_column_tiling": not generation or flag(options, "gu_coltile"),
        "use_tkg_down_proj_column_tiling": not generation or flag(options, "dn_coltile"),
        "use_tkg_down_proj_optimized_layout": flag(options, "dn_optlayout"),
    }
    if norm not in ("NO_NORM", "RMS_NORM_SKIP_GAMMA"):
        given["normalization_weights_tensor"] = Shape((1, hidden), dtype)
        if flag(options, "norm_bias"):
            given["normalization_bias_tensor"] = Shape((1, hidden), dtype)
    if flag(options, "fused_add"):
        given["fused_add_tensor"] = tokens
    for name, size in (("gate", inner), ("up", inner), ("down", hidden)):
        if flag(options, f"{name}_bias"):
            given[f"{name}_proj_bias_tensor"] = Shape((1, size), dtype)
    return given | _scales(options["quant"], quantized, hidden, inner)


def _hidden(
    batch: int, length: int, hidden: int, dtype: str, weights: str, quant: str, generation: bool
) -> Shape:
    """Context encoding with quantization takes quantized tokens, row-wise with their scales."""
    if generation or quant == "NONE":
        return Shape((batch, length, hidden), dtype)
    scale_elements = 4 if quant == "ROW" else 0
    return Shape((batch, length, hidden + scale_elements), weights)


def _scales(quant: str, quantized: str | None, hidden: int, inner: int) -> dict[str, Shape]:
    if quant == "STATIC":
        names = ("gate_w_scale", "up_w_scale", "down_w_scale", "gate_up_in_scale", "down_in_scale")
        return {name: Shape((_PARTITIONS, 1), "float32") for name in names}
    if quantized is None:
        return {}
    sizes = {"gate_w_scale": inner, "up_w_scale": inner, "down_w_scale": hidden}
    return {name: Shape((_PARTITIONS, size), "float32") for name, size in sizes.items()}
