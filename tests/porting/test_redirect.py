"""A CUDA script runs on another device, and afterwards nothing has changed."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from rainshadow.errors import NotModelled  # noqa: E402
from rainshadow.porting.cuda_namespace import DeviceFacts  # noqa: E402
from rainshadow.porting.mixed_precision import PrecisionPolicy  # noqa: E402
from rainshadow.porting.redirect import Redirection  # noqa: E402
from rainshadow.porting.ties import TieLog  # noqa: E402

PATCHED = (
    torch,
    torch.cuda,
    torch.cuda.nvtx,
    torch.cuda.random,
    torch.cuda.memory,
    torch.Tensor,
    torch.nn.Module,
    torch.amp.autocast_mode.autocast,
    torch.amp.GradScaler,
    torch.backends.cuda,
    type(torch.backends.cuda.matmul),
    type(torch.backends.cudnn),
    torch.utils.data.DataLoader,
    torch.optim.Optimizer,
    torch.utils._device.DeviceContext,
    torch.nn.attention,
    torch.distributed,
)


def host_redirection(log: TieLog) -> Redirection:
    return Redirection(
        "cpu",
        facts=DeviceFacts(name="test device", memory_bytes=12 * 2**30),
        policy=PrecisionPolicy(autocast=False),
        backend=None,
        log=log,
    )


@pytest.fixture
def log() -> TieLog:
    return TieLog()


@pytest.fixture
def redirected(log: TieLog) -> Iterator[Redirection]:
    with host_redirection(log) as redirection:
        yield redirection


def snapshot() -> list[dict[str, Any]]:
    return [dict(vars(owner)) for owner in PATCHED]


def test_everything_is_restored() -> None:
    before = snapshot()
    with host_redirection(TieLog()):
        changed = snapshot()
    after = snapshot()
    assert changed != before
    for owner, old, new in zip(PATCHED, before, after, strict=True):
        assert old.keys() == new.keys(), owner
        assert all(old[name] is new[name] for name in old), owner
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(1, device="cuda")


def test_everything_is_restored_after_an_error() -> None:
    before = snapshot()
    with pytest.raises(ZeroDivisionError), host_redirection(TieLog()):
        raise ZeroDivisionError
    assert snapshot() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.zeros(2, device="cuda"),
        lambda: torch.tensor([1.0, 2.0], device="cuda:0"),
        lambda: torch.arange(2, device=torch.device("cuda")),
        lambda: torch.ones(2).cuda(),
        lambda: torch.ones(2).to("cuda"),
        lambda: torch.ones(2).to(device=torch.device("cuda", 0), dtype=torch.float64),
        lambda: torch.ones(2).new_zeros(2, device="cuda"),
        lambda: torch.zeros_like(torch.ones(2), device="cuda"),
        lambda: torch.randn(2, device="cuda", generator=torch.Generator("cuda").manual_seed(1)),
        lambda: torch.nn.Linear(2, 2, device="cuda").weight,
        lambda: torch.nn.Linear(2, 2).cuda().weight,
        lambda: torch.nn.Linear(2, 2).to("cuda").weight,
    ],
)
def test_every_spelling_of_the_device(redirected: Redirection, log: TieLog, make: Any) -> None:
    tensor = make()
    assert tensor.device.type == "cpu"
    assert tensor.is_cuda
    assert {tie.where.file for tie in log.ties()} == {__file__}
    assert {"device placement", "device query"} <= {tie.kind for tie in log.ties()}


def test_default_device_and_context(redirected: Redirection) -> None:
    with torch.device("cuda"):
        assert torch.zeros(2).device.type == "cpu"
    torch.set_default_device("cuda")
    try:
        assert torch.zeros(2).device.type == "cpu"
    finally:
        torch.set_default_device(None)


def test_tied_weights_stay_tied(redirected: Redirection) -> None:
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    second.weight = first.weight
    model = torch.nn.Sequential(first, second).cuda()
    assert model[0].weight is model[1].weight


def test_the_namespace_answers_like_one_gpu(redirected: Redirection) -> None:
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() == 1
    assert torch.cuda.get_device_name() == "test device"
    assert torch.cuda.get_device_properties(0).total_memory == 12 * 2**30
    assert torch.cuda.get_device_capability() >= (8, 0)
    assert torch.cuda.is_bf16_supported()
    assert torch.cuda.mem_get_info() == (12 * 2**30, 12 * 2**30)
    assert torch.cuda.memory_stats()["allocated_bytes.all.peak"] == 0
    with torch.cuda.stream(torch.cuda.Stream()), torch.cuda.device(0):
        torch.cuda.synchronize()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    end.record()
    assert begin.elapsed_time(end) >= 0.0
    torch.cuda.nvtx.range_push("x")
    torch.cuda.nvtx.range_pop()
    torch.cuda.set_rng_state(torch.cuda.get_rng_state())
    torch.cuda.manual_seed_all(1)


def test_every_answer_has_a_rule(log: TieLog) -> None:
    from rainshadow.porting.cuda_namespace import answers
    from rainshadow.porting.ties import rule_for

    facts = DeviceFacts(name="x", memory_bytes=1)
    for name in answers(facts):
        rule = rule_for(f"torch.cuda.{name}")
        assert rule.resolution and rule.source


def test_pytorch_itself_sees_no_gpu(redirected: Redirection, log: TieLog) -> None:
    torch.manual_seed(3)
    torch.nn.functional.dropout(torch.ones(4))
    assert not [t for t in log.ties() if t.api != "torch.manual_seed"]


def test_cuda_graphs_are_refused(redirected: Redirection) -> None:
    with pytest.raises(NotModelled, match=r"torch\.compile"):
        torch.cuda.CUDAGraph()


def test_several_processes_are_refused(
    redirected: Redirection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(NotModelled, match="single-process") as error:
        torch.distributed.init_process_group("nccl")
    assert Path(error.value.where.file).name == Path(__file__).name


@pytest.mark.parametrize("make", [torch.cuda.amp.GradScaler, torch.amp.GradScaler])
def test_grad_scaler_scales_and_unscales(redirected: Redirection, make: Any) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scaler = make(init_scale=1024.0)
    scaler.scale((weight * 2).sum()).backward()
    assert weight.grad is not None and weight.grad[0] == 2048
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(weight.detach(), torch.zeros(3))


@pytest.mark.parametrize("spelling", ["torch", "amp", "cuda"])
def test_autocast_is_off_in_the_exact_run(redirected: Redirection, spelling: str) -> None:
    context = {
        "torch": lambda: torch.autocast("cuda", dtype=torch.bfloat16),
        "amp": lambda: torch.amp.autocast(device_type="cuda", dtype=torch.float16),
        "cuda": lambda: torch.cuda.amp.autocast(),
    }[spelling]()
    with context:
        assert not torch.is_autocast_enabled("cuda")
        product = torch.ones(2, 2, device="cuda") @ torch.ones(2, 2, device="cuda")
    assert product.dtype is torch.float32


def test_checkpoints_of_cuda_tensors_load(redirected: Redirection, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"w": torch.ones(3)}, path)
    assert torch.load(path, map_location="cuda")["w"].device.type == "cpu"
    assert torch.load(path, map_location=torch.device("cuda"))["w"].sum() == 3


def test_flags_and_compile_are_accepted(redirected: Redirection, log: TieLog) -> None:
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = kept
    torch.set_float32_matmul_precision("high")
    with torch.backends.cuda.sdp_kernel(enable_flash=True):
        pass

    @torch.compile(mode="max-autotune", fullgraph=True)
    def double(x: Any) -> Any:
        return x * 2

    assert double(torch.ones(1)).item() == 2
    apis = {tie.api for tie in log.ties()}
    assert {"torch.compile(*)", "torch.backends.cudnn.benchmark"} <= apis


def test_ties_name_the_users_line_and_count(redirected: Redirection, log: TieLog) -> None:
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
    for _ in range(3):
        torch.ones(1).cuda()
    (tie,) = log.ties()
    assert (tie.where.line, tie.count, tie.where.text) == (line, 3, "torch.ones(1).cuda()")
    assert copy.deepcopy(tie.from_json(tie.to_json())) == tie


def test_moved_slices_are_dense_as_a_copy_is(redirected: Redirection) -> None:
    whole = torch.arange(12.0).view(3, 4)
    for moved in (whole[:, 1:].to("cuda"), whole[:, 1:].cuda(), whole[:, 1:].to(device="cuda:0")):
        assert moved.view(-1).tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert whole.t().cuda().stride() == (1, 4)
    assert whole.cuda() is whole
