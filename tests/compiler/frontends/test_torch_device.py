"""Device tensors are ordinary tensors: memory, views, movement, copies, files."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn as nn

from rainshadow.compiler.session import Session, SessionOptions
from rainshadow.errors import CapacityError


def test_round_trip_and_type(session):
    host = torch.randn(3, 4)
    there = host.to("rainshadow")
    assert type(there) is torch.Tensor
    assert there.device == torch.device("rainshadow", 0)
    assert torch.equal(there.cpu(), host)
    assert session.launches == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_dtypes_travel(session, dtype):
    host = torch.tensor([0, 1, 2, 3]).to(dtype)
    assert torch.equal(host.to("rainshadow").cpu(), host)


def test_same_seed_same_numbers_as_cpu(session):
    makers = [
        lambda d: torch.randn(40, device=d),
        lambda d: torch.rand(7, 3, device=d),
        lambda d: torch.randint(0, 9, (11,), device=d),
        lambda d: torch.randperm(13, device=d),
        lambda d: torch.empty(5, 5, device=d).normal_(std=0.02),
        lambda d: torch.empty(9, device=d).bernoulli_(0.3),
    ]
    for make in makers:
        torch.manual_seed(3)
        on_cpu = make("cpu")
        torch.manual_seed(3)
        assert torch.equal(make("rainshadow").cpu(), on_cpu)
    assert session.host_fallbacks == []
    assert session.launches == []


def test_factories(session):
    for make in (torch.zeros, torch.ones, torch.empty):
        assert make(2, 3, device="rainshadow").shape == (2, 3)
    assert torch.arange(5, device="rainshadow").tolist() == [0, 1, 2, 3, 4]
    assert torch.full((2,), 7.0, device="rainshadow").tolist() == [7.0, 7.0]
    assert torch.tensor([1.5, 2.5], device="rainshadow").tolist() == [1.5, 2.5]
    assert torch.eye(2, device="rainshadow").tolist() == [[1, 0], [0, 1]]
    assert session.host_fallbacks == []


def test_views_share_memory_and_launch_nothing(session):
    base = torch.arange(12.0, device="rainshadow").view(3, 4)
    views = [base.t(), base[1], base[:, 1:3], base.permute(1, 0)[2], base.flatten(), base[None]]
    base.zero_()
    assert all(view.cpu().abs().sum() == 0 for view in views)
    base[1, 2:].fill_(5.0)
    assert base.cpu()[1].tolist() == [0, 0, 5, 5]
    assert views[2].cpu()[1].tolist() == [0, 5]
    assert session.launches == []


def test_printing_launches_nothing(session):
    text = repr(torch.arange(3.0, device="rainshadow"))
    assert text == "tensor([0., 1., 2.], device='rainshadow:0')"
    assert session.launches == []


def test_module_to_keeps_parameters_and_ties(session):
    model = nn.ModuleDict({"a": nn.Linear(3, 3, bias=False), "b": nn.Linear(3, 3, bias=False)})
    model["b"].weight = model["a"].weight
    weight = model["a"].weight
    model.to("rainshadow")
    assert model["a"].weight is weight is model["b"].weight
    assert weight.device.type == "rainshadow"
    assert type(weight) is nn.Parameter
    model.cpu()
    assert model["a"].weight is weight
    assert weight.device.type == "cpu"


def test_deepcopy_is_separate_memory(session):
    model = nn.Linear(2, 2).to("rainshadow")
    other = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.zero_()
    assert other.weight.cpu().abs().sum() > 0
    pair = copy.deepcopy([t := torch.ones(4, device="rainshadow"), t[1:]])
    pair[0].zero_()
    assert pair[1].cpu().sum() == 0
    assert t.cpu().sum() == 4


def test_save_and_load(session):
    tensor = torch.arange(6.0, device="rainshadow")
    file = io.BytesIO()
    torch.save({"whole": tensor, "part": tensor[2:4]}, file)
    file.seek(0)
    loaded = torch.load(file)
    assert loaded["part"].device.type == "rainshadow"
    assert loaded["part"].tolist() == [2.0, 3.0]
    loaded["whole"].zero_()
    assert loaded["part"].cpu().sum() == 0
    file.seek(0)
    assert torch.load(file, map_location="cpu")["whole"].device.type == "cpu"


def test_load_of_a_cpu_checkpoint_to_the_device(session):
    file = io.BytesIO()
    torch.save(torch.arange(3.0), file)
    file.seek(0)
    assert torch.load(file, map_location="rainshadow").tolist() == [0, 1, 2]


def test_pickle(session):
    tensor = torch.arange(3.0, device="rainshadow")
    assert torch.equal(pickle.loads(pickle.dumps(tensor)), tensor)


def test_resize_and_set(session):
    tensor = torch.arange(4.0, device="rainshadow")
    tensor.resize_(2)
    assert tensor.tolist() == [0, 1]
    tensor.resize_(6)
    assert tensor.shape == (6,)
    assert tensor.cpu()[:2].tolist() == [0, 1]
    other = torch.ones(3, device="rainshadow")
    tensor.set_(other)
    other.zero_()
    assert tensor.tolist() == [0, 0, 0]


def test_hbm_is_counted_and_released(session):
    before = session.hbm.live_bytes
    tensor = torch.empty(1000, device="rainshadow")
    view = tensor[10:]
    del tensor
    assert session.hbm.live_bytes - before == 4000
    del view
    assert session.hbm.live_bytes == before
    assert session.hbm.peak_bytes >= before + 4000
    assert torch.rainshadow.max_memory_allocated() == session.hbm.peak_bytes


def test_hbm_is_finite():
    with (
        Session("trainium2", SessionOptions(data="none")),
        pytest.raises(CapacityError, match="HBM"),
    ):
        torch.empty(2**38, device="rainshadow")


def test_state_dict_and_requires_grad(session):
    model = nn.Linear(2, 2).to("rainshadow")
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    fresh = nn.Linear(2, 2).to("rainshadow")
    fresh.load_state_dict(state)
    assert torch.equal(fresh.weight.cpu(), model.weight.cpu())
    tensor = torch.ones(2, device="rainshadow").requires_grad_()
    (tensor * 3).sum().backward()
    assert tensor.grad.tolist() == [3, 3]


@pytest.mark.parametrize("data", ["full", "none"])
def test_copies_keep_the_strides_of_dense_tensors(data):
    with Session("trainium2", SessionOptions(data=data)):
        assert torch.ones(4, 6).t().to("rainshadow").stride() == (1, 6)
        assert torch.ones(4, 6)[:, ::2].to("rainshadow").stride() == (3, 1)
        image = torch.ones(2, 3, 4, 4).to("rainshadow", memory_format=torch.channels_last)
        assert image.is_contiguous(memory_format=torch.channels_last)


def test_transpose_in_place(session):
    x = torch.arange(6.0, device="rainshadow").view(2, 3)
    storage = x.data_ptr()
    x.t_()
    assert x.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert x.data_ptr() == storage
    assert session.host_fallbacks == []
