"""Operators as a script issues them: values, in-place writes, caching, the host fall-back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from rainshadow.compiler.session import Session, SessionOptions
from rainshadow.errors import NotModelled

CALLS = {
    "add": lambda x, y: x + y,
    "add with alpha": lambda x, y: torch.add(x, y, alpha=2),
    "scalar": lambda x, y: 3.0 * x - 1,
    "division": lambda x, y: x / (y.abs() + 1),
    "matmul": lambda x, y: x @ y.t(),
    "sum": lambda x, y: x.sum(0),
    "mean": lambda x, y: (x * y).mean(-1, keepdim=True),
    "softmax": lambda x, y: x.softmax(-1),
    "gelu": lambda x, y: functional.gelu(x),
    "layer norm": lambda x, y: functional.layer_norm(x, (8,)),
    "where": lambda x, y: torch.where(x > y, x, y),
    "cat": lambda x, y: torch.cat([x, y], 1),
    "cast": lambda x, y: x.to(torch.bfloat16).float(),
    "transposed": lambda x, y: (x.t() * 2).t() + y,
}


@pytest.mark.parametrize("name", CALLS)
def test_values(session, name):
    torch.manual_seed(1)
    x, y = torch.randn(4, 8), torch.randn(4, 8)
    there = CALLS[name](x.to("rainshadow"), y.to("rainshadow"))
    torch.testing.assert_close(there.cpu(), CALLS[name](x, y), rtol=1e-4, atol=1e-5)
    assert session.launches
    assert session.host_fallbacks == []


def test_in_place_writes_the_same_memory(session):
    base = torch.arange(8.0, device="rainshadow").view(2, 4)
    row = base[1]
    row.mul_(2).add_(1)
    assert base.tolist() == [[0, 1, 2, 3], [9, 11, 13, 15]]
    out = torch.empty(2, 4, device="rainshadow")
    assert torch.add(base, base, out=out) is out
    assert out.tolist() == (base.cpu() * 2).tolist()


def test_overlapping_in_place_reads_old_values(session):
    base = torch.arange(6.0, device="rainshadow")
    host = torch.arange(6.0)
    base[1:].add_(base[:-1].clone())
    host[1:].add_(host[:-1].clone())
    assert base.tolist() == host.tolist()
    base.mul_(base[2])
    host.mul_(host[2].clone())
    assert base.tolist() == host.tolist()


def test_out_of_the_wrong_shape_is_resized(session):
    a, b = torch.ones(3, device="rainshadow"), torch.ones(3, device="rainshadow")
    out = torch.empty(0, device="rainshadow")
    torch.add(a, b, out=out)
    assert out.tolist() == [2, 2, 2]


def test_copy_casts_and_broadcasts(session):
    target = torch.zeros(2, 3, device="rainshadow", dtype=torch.bfloat16)
    target.copy_(torch.tensor([1.0, 2.0, 3.0], device="rainshadow"))
    assert target.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_second_call_uses_the_same_program(session):
    x = torch.ones(5, device="rainshadow")
    first = x * 2.0
    second = x * 2.0
    assert torch.equal(first.cpu(), second.cpu())
    kernels = {launch.kernel.number for launch in session.launches}
    assert len(kernels) == 1


def test_a_changing_scalar_stops_making_programs(session):
    x = torch.ones(6, device="rainshadow")
    for i in range(12):
        assert (x * (i + 0.5)).tolist() == [i + 0.5] * 6
    assert len(session.kernels) <= 5


def test_data_dependent_shapes_run_on_the_host_and_are_listed(session):
    x = torch.tensor([1.0, -1.0, 2.0], device="rainshadow")
    assert x[x > 0].tolist() == [1, 2]
    (entry,) = [e for e in session.host_fallbacks if "nonzero" in e.op or "index" in e.op][:1]
    assert entry.count >= 1
    assert entry.source is not None
    assert entry.source.file == __file__
    assert "x[x > 0]" in entry.source.text


def test_no_host_refuses_with_operator_and_line():
    options = SessionOptions(precision="fp32", allow_host=False)
    with Session("trainium2", options), pytest.raises(NotModelled, match="nonzero") as caught:
        torch.nonzero(torch.ones(3, device="rainshadow"))
    assert "test_torch_eager.py" in str(caught.value)
    assert caught.value.exit_code == 2


def test_foreach_is_one_launch(session):
    tensors = [torch.full((n,), float(n), device="rainshadow") for n in (2, 3, 4)]
    before = len(session.launches)
    torch._foreach_mul_(tensors, 2.0)
    assert len(session.launches) == before + 1
    assert [t.tolist() for t in tensors] == [[4] * 2, [6] * 3, [8] * 4]
    norms = torch._foreach_norm(tensors)
    expected = [torch.full((n,), 2.0 * n).norm() for n in (2, 3, 4)]
    torch.testing.assert_close([n.cpu() for n in norms], expected)
    assert len(session.launches) == before + 2


def test_without_data_shapes_and_launches_only():
    with Session("trainium2", SessionOptions(data="none")) as session:
        x = torch.ones(64, 64, device="rainshadow", requires_grad=True)
        loss = (x @ x).sum()
        loss.backward()
        assert x.grad.shape == (64, 64)
        assert loss.item() == 0.0
        assert len(session.launches) >= 4


def test_module_namespaces_do_not_leak_torch_function_modes(session):
    with torch.device("rainshadow"):
        x = torch.ones(3)
        assert x.device.type == "rainshadow"
        assert (x + x).tolist() == [2, 2, 2]


def test_a_program_that_reads_what_it_overwrote_is_found(session, monkeypatch):
    """Outputs over inputs are tried once; a program that cannot stand it gets its own memory."""
    from rainshadow.compiler.frontends.torch import lowering

    class TwoPasses:
        """y = x + 1, then y = y + x: right only while y is not x."""

        name, source = "two_passes", ""

        def run(self, arrays, outs=None, *, chip, options):
            outs[0][...] = arrays[0] + 1
            outs[0][...] = outs[0] + arrays[0]
            return SimpleNamespace(outputs=outs, trace=None)

    monkeypatch.setattr(lowering, "compile_part", lambda part, name, phase: TwoPasses())
    x = torch.tensor([1.0, 2.0], device="rainshadow")
    x.tanh_()
    assert x.tolist() == [3, 5]
    monkeypatch.undo()
    x.tanh_()
    assert x.tolist() == [7, 11]


@pytest.mark.parametrize("compiled", [False, True])
def test_complex_numbers_stay_on_the_host_gradients_included(session, compiled):
    """The chip has none: every operator with a complex operand is listed, the rest is kernels."""

    def spectrum(x: torch.Tensor) -> torch.Tensor:
        return (torch.fft.rfft(2 * x).abs() + 1).sum()

    torch.manual_seed(0)
    values = torch.randn(4, 8)
    there = values.to("rainshadow").requires_grad_()
    here = values.clone().requires_grad_()
    function = torch.compile(spectrum, backend="rainshadow") if compiled else spectrum
    function(there).backward()
    spectrum(here).backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad)
    assert session.launches
    reasons = {entry.reason for entry in session.host_fallbacks}
    assert "the chip has no complex64" in reasons
