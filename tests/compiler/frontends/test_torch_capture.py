"""torch.compile on the device: gradients against eager CPU, graph breaks, names, updates."""

from __future__ import annotations

import pytest
import torch
import torch.nn as nn
from functorch.compile import make_boxed_func
from torch._decomp import core_aten_decompositions
from torch._dynamo.backends.common import aot_autograd
from torch_case import Case, gradients, worst_relative_error

from rainshadow.compiler.frontends.torch.decompositions import UNSAFE, decomposition_table

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_compiled_gradients_equal_cpu(session, case):
    model, tokens, targets = case.on_device()
    loss = torch.compile(model, backend="rainshadow")(tokens, targets)
    loss.backward()
    assert loss.item() == pytest.approx(case.loss, rel=TOLERANCE)
    assert worst_relative_error(gradients(model), case.gradients) < TOLERANCE
    assert session.host_fallbacks == []
    names = [launch.kernel.name for launch in session.launches]
    phases = [launch.phase for launch in session.launches]
    assert any("small_gpt" in name and "forward" in name for name in names)
    assert any("small_gpt" in name and "backward" in name for name in names)
    assert "forward" in phases
    assert "backward" in phases


def test_eager_gradients_equal_cpu(session, case):
    model, tokens, targets = case.on_device()
    loss = model(tokens, targets)
    loss.backward()
    assert loss.item() == pytest.approx(case.loss, rel=TOLERANCE)
    assert worst_relative_error(gradients(model), case.gradients) < TOLERANCE
    assert session.host_fallbacks == []


def _cpu_backend(table):
    def interpret(module, _):
        return make_boxed_func(module.forward)

    return aot_autograd(fw_compiler=interpret, bw_compiler=interpret, decompositions=table)


def test_the_stock_table_gives_wrong_attention_gradients(case: Case):
    """Why attention is an operator of ours; if this fails, torch has mended its table."""
    model = torch.compile(case.model, backend=_cpu_backend(dict(core_aten_decompositions())))
    loss = model(case.tokens, case.targets)
    loss.backward()
    assert loss.item() == pytest.approx(case.loss, rel=1e-5)  # nothing to see in the loss
    assert worst_relative_error(gradients(case.model), case.gradients) > 0.1


def test_our_table_has_no_attention_entry():
    assert not [op for op in decomposition_table() if UNSAFE in str(op)]


def test_graph_breaks(session):
    def function(x):
        y = torch.relu(x) * 2
        if y.sum().item() > 0:  # a break: the value decides
            y = y + 1
        return y.sum()

    x = torch.tensor([1.0, -2.0, 3.0], device="rainshadow", requires_grad=True)
    compiled = torch.compile(function, backend="rainshadow")(x)
    compiled.backward()
    assert compiled.item() == 11.0
    assert x.grad.tolist() == [2, 0, 2]


def test_mutated_inputs_and_buffers(session):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(3))

        def forward(self, x):
            self.seen.add_(x.detach())
            return x * self.seen

    model = Counting().to("rainshadow")
    compiled = torch.compile(model, backend="rainshadow")
    x = torch.tensor([1.0, 2.0, 3.0], device="rainshadow")
    compiled(x)
    assert compiled(x).tolist() == [2, 8, 18]
    assert model.seen.tolist() == [2, 4, 6]


def test_outputs_that_are_views_cost_nothing(session):
    def function(x):
        return x.t(), (x * 2).view(-1)

    x = torch.arange(6.0, device="rainshadow").view(2, 3)
    transposed, doubled = torch.compile(function, backend="rainshadow")(x)
    assert transposed.tolist() == x.cpu().t().tolist()
    assert doubled.tolist() == [0, 2, 4, 6, 8, 10]
    assert transposed.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert len(session.launches) == 1


def test_dropout_draws_from_the_cpu_generator(session):
    def function(x):
        return torch.nn.functional.dropout(x + 0, 0.5)

    x = torch.ones(64, device="rainshadow")
    torch.manual_seed(5)
    y = torch.compile(function, backend="rainshadow")(x)
    assert set(y.tolist()) == {0.0, 2.0}
    assert session.transfers["random"].count >= 1
    assert session.host_fallbacks == []
    assert len(session.launches) == 1


def test_alias_neuron(session):
    x = torch.ones(3, device="rainshadow")
    assert torch.compile(lambda t: t + 1, backend="neuron")(x).tolist() == [2, 2, 2]


def test_source_lines_and_modules_reach_the_nodes(case, monkeypatch, session):
    from rainshadow.compiler.frontends.torch import capture
    from rainshadow.compiler.frontends.torch.source_lines import node_line

    seen = []
    original = capture.DeviceGraph

    def spy(module, *args, **kwargs):
        seen.extend(n for n in module.graph.nodes if n.op == "call_function")
        return original(module, *args, **kwargs)

    monkeypatch.setattr(capture, "DeviceGraph", spy)
    model, tokens, targets = case.on_device()
    torch.compile(model, backend="rainshadow")(tokens, targets)
    lines = [node_line(node) for node in seen if "attention" in str(node.target)]
    assert any(line and "scaled_dot_product_attention" in line.text for line in lines)


def test_each_shape_is_compiled_anew(session):
    function = torch.compile(lambda t, scale: t * scale + 1, backend="rainshadow")
    for length, scale in ((4, 0.5), (3, 0.25), (7, 2.0)):
        assert function(torch.ones(length, device="rainshadow"), scale).tolist() == (
            [scale + 1] * length
        )
    assert len({launch.kernel for launch in session.launches}) == 3


def test_variable_sizes_are_refused(session):
    function = torch.compile(lambda t: t + 1, backend="rainshadow", dynamic=True)
    with pytest.raises(Exception, match="fixed shapes") as caught:
        function(torch.ones(4, device="rainshadow"))
    assert "dynamic=True" in str(caught.value)
