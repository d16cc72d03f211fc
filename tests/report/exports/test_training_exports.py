"""What other programs are told about a plan: only what they accept together."""

from __future__ import annotations

import pytest

from rainshadow.cluster.layout import Layout
from rainshadow.cluster.model_files import load_model
from rainshadow.errors import NotModelled
from rainshadow.report.exports import megatron, megatron_bridge, torchtitan

MODEL = load_model("llama_3_1_8b")


def _plan(**choices):
    layout = Layout(tensor_parallel=2, data_parallel=8, **choices).describe()
    return {"layout": layout, "workload": {"sequence": 8192, "global_batch": 128}}


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_sharding_rests_on_the_distributed_optimizer(zero):
    words = megatron.export(_plan(zero=zero), MODEL).split("\n")
    assert "--use-distributed-optimizer" in words
    fsdp = {
        "--use-megatron-fsdp",
        "--no-gradient-accumulation-fusion",
        "--ckpt-format fsdp_dtensor",
    }
    assert fsdp & set(words) == (fsdp if zero >= 2 else set())
    bridge = megatron_bridge.export(_plan(zero=zero), MODEL).split("\n")
    assert ("checkpoint.ckpt_format=fsdp_dtensor" in bridge) == (zero >= 2)


def test_without_shards_gradients_overlap_and_no_parameter_is_gathered():
    plan = _plan(zero=0, overlap_data=True)
    words = megatron.export(plan, MODEL).split("\n")
    assert "--overlap-grad-reduce" in words
    assert "--overlap-param-gather" not in words
    bridge = megatron_bridge.export(plan, MODEL).split("\n")
    assert "ddp.overlap_grad_reduce=true" in bridge
    assert "ddp.overlap_param_gather=false" in bridge


@pytest.mark.parametrize("program", [megatron, torchtitan])
def test_a_hybrid_goes_to_megatron_bridge_alone(program):
    hybrid = load_model("nemotron_3_nano")
    with pytest.raises(NotModelled, match=r"state-space layers[\s\S]*megatron_bridge_overrides"):
        program.export(_plan(), hybrid)
    assert "model.tensor_model_parallel_size=2" in megatron_bridge.export(_plan(), hybrid)
