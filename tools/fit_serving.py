"""Fits the constants of data/serving on published serving measurements.

    python tools/fit_serving.py inference_points.csv [--write]

Only rows whose split is "open" are used. Groups are fitted one after another, each keeping what
earlier ones found (see GROUPS). A constant's range is what leaving out one model at a time gives.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from rainshadow.cluster.serving.stack import ServingStack
from rainshadow.sources import Figure
from rainshadow.validation.inference import ServingPoint, predict, read_points

FOLDER = Path(__file__).resolve().parents[1] / "src/rainshadow/data/serving"
#: Physical limits of what is fitted, and where the fit starts.
LIMITS: Mapping[str, tuple[float, float, float]] = {
    "hbm_fraction": (0.3, 0.75, 0.92),
    "kv_fraction": (0.05, 0.5, 0.92),
    "matmul_fraction": (0.05, 0.5, 0.95),
    "expert_fraction": (0.03, 0.3, 1.0),
    "attention_fraction": (0.01, 0.3, 1.0),
    "link_fraction": (0.02, 0.3, 1.0),
    "layer_latency": (1e-6, 1e-4, 4e-4),
    "step_latency": (1e-5, 1e-3, 2e-2),
    "prefill_layer_latency": (1e-6, 3e-4, 3e-3),
    "sequence_latency": (1e-8, 3e-7, 1e-5),
}
UNITS = {"layer_latency", "step_latency", "prefill_layer_latency", "sequence_latency"}
Constants = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Group:
    """Points fitted together. free: (stack, constant); "a+b" means one value for both stacks."""

    name: str
    chosen: Callable[[ServingPoint], bool]
    free: Sequence[tuple[str, str]]


BOTH = "tensorrt_llm_hopper+tensorrt_llm_blackwell"
TITLES = {
    "tensorrt_llm_hopper": (
        "NVIDIA TensorRT-LLM 1.x on Hopper", "TensorRT-LLM 1.x", ["h100_sxm", "h200"],
    ),
    "tensorrt_llm_blackwell": (
        "NVIDIA TensorRT-LLM 1.x on Blackwell", "TensorRT-LLM 1.x",
        ["b200", "gb200", "b300", "gb300"],
    ),
    "vllm_mi300x": ("vLLM on ROCm 6.4 and 7.0, MI300X", "vLLM 0.9-0.11, ROCm", ["mi300x"]),
    "neuron_v2": (
        "Transformers NeuronX, Neuron 2.18, Trainium 1 and Inferentia 2", "Neuron 2.18",
        ["trainium1"],
    ),
    "neuron_v3": (
        "NxD Inference and vLLM-Neuron, Trainium 2", "NxD Inference, Neuron 2.2x", ["trainium2"],
    ),
}  # fmt: skip
STACK_OF = {
    "H100": "tensorrt_llm_hopper", "H200": "tensorrt_llm_hopper", "B200": "tensorrt_llm_blackwell",
    "GB200": "tensorrt_llm_blackwell", "MI300X": "vllm_mi300x", "Trainium1": "neuron_v2",
    "Inferentia2": "neuron_v2", "Trainium2": "neuron_v3",
}  # fmt: skip
MOE = ("qwen3_235b_a22b", "gpt_oss_120b", "deepseek_v3")


def _stack_is(*names: str) -> Callable[[ServingPoint], bool]:
    return lambda point: STACK_OF[point.chip] in names


NVIDIA = _stack_is("tensorrt_llm_hopper", "tensorrt_llm_blackwell")
GROUPS = (
    Group(
        "TensorRT-LLM, dense models",
        lambda point: NVIDIA(point) and point.model not in MOE,
        (
            (BOTH, "hbm_fraction"), ("tensorrt_llm_hopper", "matmul_fraction"),
            ("tensorrt_llm_blackwell", "matmul_fraction"), (BOTH, "attention_fraction"),
            (BOTH, "link_fraction"), (BOTH, "layer_latency"), (BOTH, "sequence_latency"),
        ),
    ),
    Group(
        "TensorRT-LLM, mixtures of experts",
        lambda point: NVIDIA(point) and point.model in MOE,
        ((BOTH, "expert_fraction"),),
    ),
    Group(
        "vLLM on MI300X", _stack_is("vllm_mi300x"),
        (("vllm_mi300x", "matmul_fraction"), ("vllm_mi300x", "kv_fraction")),
    ),
    Group(
        "Neuron, second-generation cores", _stack_is("neuron_v2"),
        tuple(
            ("neuron_v2", name)
            for name in (
                "hbm_fraction", "kv_fraction", "matmul_fraction", "attention_fraction",
                "link_fraction", "layer_latency", "sequence_latency", "prefill_layer_latency",
            )
        ),
    ),
    Group(
        "Trainium 2, decode",
        lambda point: point.chip == "Trainium2" and point.metric == "tpot_p50_ms",
        (("neuron_v3", "layer_latency"), ("neuron_v3", "step_latency")),
    ),
    Group(
        "Trainium 2, prefill",
        lambda point: point.chip == "Trainium2" and point.metric == "ttft_p50_ms"
        and point.model not in MOE,
        (("neuron_v3", "attention_fraction"), ("neuron_v3", "prefill_layer_latency")),
    ),
)  # fmt: skip
#: Constants that a stack takes from another one's fit, with the reason.
TAKEN = {
    ("vllm_mi300x", name): ("tensorrt_llm_hopper", "the points do not separate it")
    for name in (
        "hbm_fraction", "expert_fraction", "attention_fraction", "link_fraction", "layer_latency",
        "sequence_latency", "step_latency", "prefill_layer_latency",
    )
} | {
    ("neuron_v3", name): ("neuron_v2", "the points do not separate it")
    for name in ("matmul_fraction", "expert_fraction", "link_fraction")
}  # fmt: skip
#: tokens per block of a mixture of experts: moe-arch-deep-dive of Neuron's documentation.
BLOCKS = "block_size of the examples in Neuron's guide to mixtures of experts"
#: Not fitted: engine settings and what the points cannot tell.
ASSUMED: Mapping[str, Mapping[str, tuple[float, float, float, str]]] = {
    "all": {
        "memory_fraction": (0.9, 0.85, 0.95, "of HBM; the engines' default is 0.9"),
        "max_sequences": (2048, 256, 4096, "sequences in a batch; an engine setting"),
        "expert_fraction": (0.2, 0.1, 0.5, "no mixture of experts among the points"),
        "step_latency": (1e-5, 0, 2e-3, "the fit puts all fixed time in the layers"),
        "prefill_layer_latency": (1e-4, 2e-5, 3e-4, "saturated servers do not show it"),
        "expert_block": (1, 1, 1, "grouped matmuls take any number of tokens"),
    },
    "neuron_v2": {"expert_block": (512, 128, 1024, BLOCKS)},
    "neuron_v3": {
        "hbm_fraction": (0.95, 0.7, 1.0, "weights stream beside the fixed time of a layer"),
        "kv_fraction": (0.9, 0.5, 1.0, "the points do not separate it"),
        "sequence_latency": (1e-6, 0, 3e-6, "batches of 1 and 2 do not show it"),
        "expert_block": (512, 128, 1024, BLOCKS),
    },
}


def stack_of(
    name: str, constants: Constants, ranges: Mapping[str, tuple[float, float]]
) -> ServingStack:
    """A stack from plain numbers."""
    title, software, chips = TITLES[name]
    figures = {}
    for field in dataclasses.fields(ServingStack):
        if "dimension" in field.metadata:
            value = constants[name][field.name]
            figures[field.name] = Figure(
                value=value, text=f"{value:g}", dimension=field.metadata["dimension"],
                source="rainshadow", grade="derived", low=value, high=value,
            )  # fmt: skip
    return ServingStack(
        name=name, title=title, software=software, chips=tuple(chips),
        buckets="power_of_two" if name == "neuron_v2" else "exact",
        kv_heads="copied" if name.startswith("neuron") else "once", **figures,
    )  # fmt: skip


def start() -> Constants:
    """Where the fit starts."""
    found: Constants = {}
    for name in TITLES:
        found[name] = {key: middle for key, (_, middle, _) in LIMITS.items()}
        for scope in ("all", name):
            for key, (value, *_) in ASSUMED.get(scope, {}).items():
                found[name][key] = value
    return found


def apply(
    constants: Constants, free: Sequence[tuple[str, str]], logs: Sequence[float]
) -> Constants:
    """Constants with the free ones replaced. A GPU reads its cache as fast as its weights."""
    changed = {name: dict(values) for name, values in constants.items()}
    for (stacks, key), log in zip(free, logs, strict=True):
        for stack in stacks.split("+"):
            changed[stack][key] = float(np.exp(log))
            if key == "hbm_fraction" and stack.startswith("tensorrt"):
                changed[stack]["kv_fraction"] = changed[stack][key]
    return changed


def residuals(constants: Constants, points: Sequence[ServingPoint]) -> np.ndarray:
    """log(predicted / measured)."""
    stacks = {name: stack_of(name, constants) for name in TITLES}
    return np.array([np.log(predict(p, stacks[STACK_OF[p.chip]]) / p.value) for p in points])


def fit(group: Group, points: Sequence[ServingPoint], constants: Constants) -> Constants:
    """The free constants of a group by robust least squares on logarithms."""
    limits = [LIMITS[key] for _, key in group.free]
    low, high = np.log([lim[0] for lim in limits]), np.log([lim[2] for lim in limits])
    first = np.log([constants[stacks.split("+")[0]][key] for stacks, key in group.free])
    found = least_squares(
        lambda logs: residuals(apply(constants, group.free, logs), points),
        np.clip(first, low + 1e-6, high - 1e-6), bounds=(low, high), loss="soft_l1",
        f_scale=0.1, diff_step=1e-3, max_nfev=25,
    )  # fmt: skip
    return apply(constants, group.free, found.x)


def take_over(constants: Constants, target: str) -> Constants:
    changed = {name: dict(values) for name, values in constants.items()}
    for (stack, key), (origin, _) in TAKEN.items():
        if stack.startswith(target):
            changed[stack][key] = constants[origin][key]
    return changed


def fit_all(points: Sequence[ServingPoint]) -> Constants:
    """Every group in order."""
    constants = start()
    for group in GROUPS:
        constants = take_over(constants, group.free[0][0].split("+")[0])
        chosen = [point for point in points if group.chosen(point)]
        if chosen:
            constants = fit(group, chosen, constants)
    return constants


Ranges = dict[tuple[str, str], tuple[float, float]]


def leave_one_model_out(
    points: Sequence[ServingPoint], whole: Constants
) -> tuple[Ranges, dict[str, np.ndarray]]:
    """(constant -> its range, model -> relative errors) of fits that never saw the model."""
    found: dict[tuple[str, str], list[float]] = {}
    errors: dict[str, np.ndarray] = {}
    for model in sorted({point.model for point in points}):
        rest = fit_all([point for point in points if point.model != model])
        left_out = [point for point in points if point.model == model]
        errors[model] = np.expm1(residuals(rest, left_out))
        for group in GROUPS:
            for stacks, key in group.free:
                for stack in stacks.split("+"):
                    found.setdefault((stack, key), [whole[stack][key]]).append(rest[stack][key])
    return {key: (min(values), max(values)) for key, values in found.items()}, errors


def text_of(name: str, constants: Constants, ranges: Ranges) -> str:
    """A stack's TOML."""
    title, software, chips = TITLES[name]
    lines = [
        "# Written by tools/fit_serving.py; do not edit by hand.",
        f'title = "{title}"', f'software = "{software}"',
        "chips = [" + ", ".join(f'"{chip}"' for chip in chips) + "]",
        f'buckets = "{"power_of_two" if name == "neuron_v2" else "exact"}"',
        f'kv_heads = "{"copied" if name.startswith("neuron") else "once"}"', "",
    ]  # fmt: skip
    for field in dataclasses.fields(ServingStack):
        if "dimension" in field.metadata:
            lines.append(_line(name, field.name, constants, ranges))
    return "\n".join(lines) + "\n"


def _line(name: str, key: str, constants: Constants, ranges: Ranges) -> str:
    value = constants[name][key]
    taken = TAKEN.get((name, key))
    origin = taken[0] if taken else name
    if key == "kv_fraction" and name.startswith("tensorrt"):
        origin, key_of_range = name, "hbm_fraction"
    else:
        key_of_range = key
    if (origin, key_of_range) in ranges:
        low, high = ranges[origin, key_of_range]
        grade = "assumed" if taken else "derived"
        groups = [
            g.name
            for g in GROUPS
            if any(origin in s.split("+") and k == key_of_range for s, k in g.free)
        ]
        note = f"fitted on: {groups[0]}" + (f"; taken from {origin}, {taken[1]}" if taken else "")
        source = "serving-fit"
    else:
        scope = name if key in ASSUMED.get(name, {}) else "all"
        _, low, high, note = ASSUMED[scope][key]
        grade, source = "assumed", "rainshadow"
    return (
        f'{key} = {{ value = "{_quantity(value, key)}", source = "{source}", grade = "{grade}", '
        f'low = "{_quantity(low, key)}", high = "{_quantity(high, key)}", note = "{note}" }}'
    )


def _group_of(stack: str, key: str) -> str:
    return next(
        g.name for g in GROUPS if any(stack in s.split("+") and k == key for s, k in g.free)
    )


def _quantity(value: float, key: str) -> str:
    if key in UNITS:
        return f"{value * 1e6:.4g} us" if value < 1e-3 else f"{value * 1e3:.4g} ms"
    return f"{value:.4g}"


def main() -> None:
    """Fit, print errors per group, and write the files with --write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", type=Path)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    points = [point for point in read_points(arguments.points) if point.split == "open"]
    constants = fit_all(points)
    for name in TITLES:
        chosen = [point for point in points if STACK_OF[point.chip] == name]
        print(f"{name}: {_summary(np.expm1(residuals(constants, chosen)))}")
        print("  ", {key: float(f"{value:.3g}") for key, value in constants[name].items()})
    print(f"all: {_summary(np.expm1(residuals(constants, points)))}")
    ranges, errors = leave_one_model_out(points, constants)
    for model, found in errors.items():
        print(f"never saw {model}: {_summary(found)}")
    print(f"leave one model out: {_summary(np.concatenate(list(errors.values())))}")
    if arguments.write:
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name in TITLES:
            (FOLDER / f"{name}.toml").write_text(text_of(name, constants, ranges), "utf-8")


def _summary(errors: np.ndarray) -> str:
    sizes = np.abs(errors)
    return (
        f"{sizes.size} points, median {np.median(sizes):.1%}, mean {sizes.mean():.1%}, "
        f"P90 {np.quantile(sizes, 0.9):.1%}, bias {np.median(errors):+.1%}"
    )


if __name__ == "__main__":
    main()
