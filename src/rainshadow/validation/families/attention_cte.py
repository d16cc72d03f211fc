"""nki-library's attention for context encoding: reference times kept in its tests, on trn2."""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.nki.kernel import Shape
from rainshadow.validation.checkouts import Checkouts, module_from
from rainshadow.validation.launch import KernelLaunch, dtype_of
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

_MODULE = "nkilib_src.nkilib.core.attention.attention_cte"


def claims(point: Point) -> bool:
    return point["source_of_kernel"].endswith("attention_cte.py:attention_cte")


def launch(point: Point, checkouts: Checkouts) -> KernelLaunch:
    options = point.options
    folder = source_folder(checkouts)
    dtype = dtype_of(point["dtype"])
    return KernelLaunch(
        name=f"attention_cte {point['shapes']} {dtype}",
        chip=chip_of(point),
        lnc=_lnc(options),
        kernel=lambda: module_from(folder, _MODULE).attention_cte,
        arguments=lambda: _arguments(options, dtype),
    )


def value(point: Point, measured: Measured) -> float:
    return measured.duration_s + measured.launch_s


def target(point: Point) -> Target:
    if point["device"] != "trn2":
        return Target(f"{CHECKOUT}: platform not stated", "report")
    return Target(f"{CHECKOUT}: attention_cte", "median", FAMILY_MEDIAN, LIBRARY)


def _lnc(options: dict[str, str]) -> int:
    """As stated; else two cores for context parallelism, and one for the first table.

    The library does not say on how many cores the first table's times were taken: on two, they
    would be twice what the rest of the library needs for the same work.
    """
    return integer(options, "vnc_degree", 2 if "cp_degree" in options else 1)


def _arguments(options: dict[str, str], dtype: str) -> dict[str, Any]:
    """As the library's test builds them, tensors as shapes; lengths and offsets are values."""
    batch, width = integer(options, "bs"), integer(options, "d")
    batch_kv = integer(options, "bs_kv", batch)
    context_parallel = "cp_degree" in options
    length_q = integer(options, "q_seqlen_partial" if context_parallel else "seqlen_q")
    length_kv = integer(options, "kv_seqlen" if context_parallel else "seqlen_kv")
    by_token, keys_by_token = flag(options, "tp_q"), flag(options, "tp_k")
    given: dict[str, Any] = {
        "q": _tokens(batch, length_q, width, dtype, by_token=by_token),
        "k": _tokens(batch_kv, length_kv, width, dtype, by_token=keys_by_token),
        "v": _tokens(batch_kv, length_kv, width, dtype, by_token=True),
        "scale": float(options.get("softmax_scale", 1.0)),
        "causal_mask": flag(options, "causal_mask", default=True),
        "sliding_window": integer(options, "sliding_window", 0),
        "tp_q": by_token,
        "tp_k": keys_by_token,
        "tp_out": flag(options, "tp_out"),
    }
    prior = integer(options, "kv_seqlen_prior" if context_parallel else "prior_len", 0)
    if prior:
        used = integer(options, "kv_prior_used_len" if context_parallel else "prior_used_len")
        given["k_prior"] = _tokens(batch_kv, prior, width, dtype, by_token=keys_by_token)
        given["v_prior"] = _tokens(batch_kv, prior, width, dtype, by_token=True)
        given["prior_used_len"] = np.full((1,), used, dtype=np.int32)
    if flag(options, "sink"):
        given["sink"] = Shape((batch, 1), "float32")
    if context_parallel:
        offset = integer(options, "cp_rank_id") * length_q
        given["cp_offset"] = np.full((1, 1), offset, dtype=np.int32)
        given["global_cp_deg"] = integer(options, "cp_degree")
    return given


def _tokens(batch: int, length: int, width: int, dtype: str, *, by_token: bool) -> Shape:
    return Shape((batch, length, width) if by_token else (batch, width, length), dtype)
