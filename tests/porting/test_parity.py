"""A wrong gradient or a drifting loss is found; rounding is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rainshadow.porting.parity import compare, compare_gradients, is_drift  # noqa: E402
from rainshadow.porting.record import RunRecord  # noqa: E402


def record(precision: str = "fp32", *, scale: dict[str, float] | None = None) -> RunRecord:
    rng = np.random.default_rng(0)
    gradients = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {"a.weight": (8, 16), "a.bias": (16,), "b.weight": (4, 4)}.items()
    }
    for name, factor in (scale or {}).items():
        gradients[name] = gradients[name] * np.float32(factor)
    return RunRecord(
        script="s.py",
        target="cpu",
        precision=precision,
        losses=[4.0, 3.5, 3.0],
        loss_step=[0, 1, 2],
        step_wall_s=[0.1] * 3,
        gradients=gradients,
    )


def test_equal_runs_agree() -> None:
    parity = compare(record(), record())
    assert parity.agrees
    assert parity.worst_loss_error == 0
    assert parity.worst_gradient is not None and parity.worst_gradient.norm_error == 0


@pytest.mark.parametrize(("precision", "factor"), [("fp32", 1.001), ("bf16", 1.5), ("bf16", -1)])
def test_one_scaled_gradient_is_found(precision: str, factor: float) -> None:
    parity = compare(record(precision, scale={"b.weight": factor}), record())
    assert not parity.agrees
    assert parity.worst_gradient is not None
    assert parity.worst_gradient.name == "b.weight"
    assert parity.worst_gradient.norm_error == pytest.approx(abs(factor - 1), rel=1e-3)
    assert "b.weight" in parity.faults[0]


def test_a_rounding_difference_is_none() -> None:
    assert compare(record(scale={"b.weight": 1 + 1e-6}), record()).agrees


def test_one_wrong_element_shows_in_the_max_error() -> None:
    reference = record().gradients
    chip = {name: values.copy() for name, values in reference.items()}
    chip["a.weight"][3, 5] += 0.5
    worst = compare_gradients(chip, reference)[0]
    assert worst.name == "a.weight"
    assert worst.max_error == pytest.approx(0.5 / np.abs(reference["a.weight"]).max(), rel=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_wrong(value: float) -> None:
    chip = record()
    chip.gradients["a.bias"][0] = value
    parity = compare(chip, record())
    assert parity.worst_gradient is not None
    assert parity.worst_gradient.norm_error == np.inf
    assert not parity.agrees


def test_a_missing_gradient_is_wrong() -> None:
    chip = record()
    del chip.gradients["a.bias"]
    assert not compare(chip, record()).agrees
    assert not compare(record(), chip).agrees


def test_noise_around_zero_is_no_error() -> None:
    chip, reference = record(), record()
    reference.gradients["a.bias"] = np.full(16, 1e-7, np.float32)
    chip.gradients["a.bias"] = np.full(16, -1e-7, np.float32)
    assert compare(chip, reference).agrees


def test_a_zero_reference_against_a_real_gradient_is_wrong() -> None:
    chip, reference = record(), record()
    reference.gradients["a.bias"] = np.zeros(16, np.float32)
    assert not compare(chip, reference).agrees


@pytest.mark.parametrize(
    ("precision", "drift", "agrees"),
    [("bf16", 0.01, True), ("bf16", 0.03, False), ("fp32", 0.01, False)],
)
def test_loss_limit(precision: str, drift: float, agrees: bool) -> None:
    chip = replace(record(precision), losses=[4.0, 3.5, 3.0 * (1 + drift)])
    parity = compare(chip, record())
    assert parity.agrees is agrees
    assert parity.worst_loss_error == pytest.approx(drift)


def test_accumulated_losses_are_one_step() -> None:
    chip = replace(record(), losses=[2.0, 2.0, 3.5, 3.0], loss_step=[0, 0, 1, 2])
    assert compare(chip, record()).agrees


def test_a_run_with_fewer_steps_does_not_agree() -> None:
    chip = replace(record(), losses=[4.0], loss_step=[0], step_wall_s=[0.1])
    assert "1 steps" in compare(chip, record()).faults[0]


def attention_gradients(backend: object | None) -> dict[str, np.ndarray]:
    """Gradients of one causal attention layer, eager or compiled."""
    torch.manual_seed(0)
    project = torch.nn.Linear(16, 48)

    def forward(x: torch.Tensor) -> torch.Tensor:
        heads = project(x).view(2, 8, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        return y.square().mean()

    if backend is not None:
        torch._dynamo.reset()
        forward = torch.compile(forward, backend=backend, dynamic=False)
    forward(torch.randn(2, 8, 16)).backward()
    return {name: p.grad.numpy().copy() for name, p in project.named_parameters()}


def test_the_stock_tables_wrong_attention_gradient_is_found() -> None:
    """PyTorch decomposes the CPU attention's forward and keeps its backward kernel, which then
    reads a second result of another meaning: right losses, wrong gradients."""
    from functorch.compile import make_boxed_func
    from torch._decomp import core_aten_decompositions
    from torch._dynamo.backends.common import aot_autograd

    stock = aot_autograd(
        fw_compiler=lambda graph, inputs: make_boxed_func(graph.forward),
        decompositions=core_aten_decompositions(),
    )
    reference = replace(record(), gradients=attention_gradients(None))
    same = replace(record(), gradients=attention_gradients("aot_eager"))
    assert compare(same, reference).agrees
    wrong = replace(record(), gradients=attention_gradients(stock))
    assert not compare(wrong, reference).agrees
    assert not compare(replace(wrong, precision="bf16"), reference).agrees


def _with_losses(precision: str, losses: list[float]) -> RunRecord:
    return replace(record(precision), losses=losses)


def test_drift_is_excused_by_what_rounding_does_on_the_cpu() -> None:
    reference = record()
    chip = _with_losses("bf16", [4.0, 3.5, 3.3])
    alone = compare(chip, reference)
    assert alone.verdict == "disagrees"
    assert is_drift(alone)
    similar = compare(chip, reference, _with_losses("bf16", [4.0, 3.4, 2.8]))
    assert similar.verdict == "agrees"
    assert similar.rounding == pytest.approx(0.2 / 3.0)
    steady = compare(chip, reference, _with_losses("bf16", [4.0, 3.5, 3.02]))
    assert steady.verdict == "disagrees"


def test_a_wrong_gradient_is_no_drift() -> None:
    chip = replace(record("bf16", scale={"b.weight": 2.0}), losses=[4.0, 3.5, 3.3])
    assert not is_drift(compare(chip, record()))


def test_a_script_without_backward_is_not_compared() -> None:
    nothing = replace(record(), losses=[], loss_step=[], step_wall_s=[], gradients={})
    parity = compare(nothing, nothing)
    assert parity.verdict == "not compared"
    assert not parity.faults
    assert compare(nothing, record()).verdict == "disagrees"


def test_without_an_optimizer_every_loss_counts() -> None:
    manual = replace(record(), loss_step=[0, 0, 0], step_wall_s=[], gradients={})
    assert compare(manual, manual).losses == [4.0, 3.5, 3.0]
    assert compare(replace(manual, losses=[4.0, 3.5, 4.0]), manual).verdict == "disagrees"


def test_divergence_on_both_is_agreement() -> None:
    diverged = _with_losses("fp32", [4.0, float("inf"), float("nan")])
    assert compare(diverged, diverged).agrees
    assert "not finite" in compare(diverged, record()).faults[0]
