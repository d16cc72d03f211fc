"""Memory against published formulas: Korthikanti et al. 2022 (activations), ZeRO (state)."""

from __future__ import annotations

import dataclasses

import pytest

from rainshadow.cluster.assumptions import assumed
from rainshadow.cluster.layout import Workload, layout_of
from rainshadow.cluster.memory import MemoryUse, memory_use
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.software import load_software

#: With dropout and scores in memory, as the paper's formulas assume.
MEGATRON_2021 = load_software("megatron_2021")
NEMO = load_software("nemo_2026")
GPT_22B = load_model("gpt_22b")
SEQUENCE, BATCH = 2048, 4


def memory(model=GPT_22B, software=MEGATRON_2021, batch=BATCH, **choices) -> MemoryUse:
    choices = {"zero": 0, "micro_batch": BATCH, **choices}
    workload = Workload(sequence=SEQUENCE, global_batch=batch)
    return memory_use(model, layout_of(**choices), workload, software)


def layer_bytes(**choices) -> float:
    """A layer's activations, recomputation's transient copy of one layer left out."""
    one, two = (
        float(memory(dataclasses.replace(GPT_22B, layers=count), **choices).activations)
        for count in (1, 2)
    )
    return two - one


def sbh() -> float:
    return SEQUENCE * BATCH * GPT_22B.hidden


def scores(tensor: int = 1) -> float:
    return 5 * GPT_22B.heads * SEQUENCE / GPT_22B.hidden / tensor


@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_activations_of_a_layer_are_the_papers_formulas(tensor):
    """Equations 1, 2 and 4: s b h (34 + 5as/h); 10 + 24/t + 5as/ht; (34 + 5as/h)/t."""
    split = layer_bytes(tensor_parallel=tensor, sequence_parallel=False)
    assert split == pytest.approx(sbh() * (10 + 24 / tensor + scores(tensor)))
    spread = layer_bytes(tensor_parallel=tensor, sequence_parallel=True)
    assert spread == pytest.approx(sbh() * (34 / tensor + scores(tensor)))


def test_selective_and_full_recomputation_keep_what_the_paper_says():
    """Table 2: 34 s b h / t with selective recomputation; 2 s b h with full."""
    selective = layer_bytes(tensor_parallel=8, recompute="selective")
    assert selective == pytest.approx(sbh() * 34 / 8)
    full = layer_bytes(tensor_parallel=8, sequence_parallel=False, recompute="full")
    assert full == pytest.approx(2 * sbh())


@pytest.mark.parametrize(("virtual", "factor"), [(1, 1.0), (3, 1 + 7 / (8 * 3))])
def test_the_first_stage_of_a_pipeline_keeps_a_whole_models_layers(virtual, factor):
    """s b h L/t (34 + 5as/h), times 1 + (p-1)/(p v) where stages are interleaved."""
    choices = {"tensor_parallel": 8, "pipeline_parallel": 8, "micro_batch": 1, "batch": 64}
    kept = memory(virtual_stages=virtual, **choices).activations
    each = sbh() / BATCH * (34 / 8 + scores(8))
    assert float(kept) == pytest.approx(each * GPT_22B.layers * factor)


def test_zero_shares_out_sixteen_bytes_a_parameter():
    """Rajbhandari et al., figure 1: 7.5 G parameters on 64 ranks: 120, 31.4, 16.6 and 1.9 GB."""
    model = load_model("gpt_7_5b")
    for stage, published in enumerate((120e9, 31.4e9, 16.6e9, 1.9e9)):
        use = memory(model, NEMO, batch=64, micro_batch=1, data_parallel=64, zero=stage)
        state = float(use.weights + use.gradients + use.optimizer)
        parameters = model.num_parameters
        shared = {0: 16, 1: 4 + 12 / 64, 2: 2 + 14 / 64, 3: 16 / 64}[stage]
        assert state == pytest.approx(parameters * shared, rel=1e-3)
        assert state == pytest.approx(published * parameters / 7.5e9, rel=0.02)


def test_hybrid_shards_hold_what_their_ranks_share():
    """HSDP: a shard of 8 ranks keeps an eighth, however many replicas there are."""
    choices = {"batch": 64, "micro_batch": 1, "data_parallel": 64, "zero": 3}
    model = load_model("gpt_7_5b")
    hybrid = memory(model, NEMO, shard_size=8, **choices)
    eight = memory(model, NEMO, **{**choices, "data_parallel": 8})
    for part in ("weights", "gradients", "optimizer", "gathered"):
        assert float(getattr(hybrid, part)) == pytest.approx(float(getattr(eight, part)))
    assert memory(model, NEMO, **choices).weights < hybrid.weights


def test_context_parallelism_shares_out_tokens_whatever_the_method():
    one = memory(software=NEMO, data_parallel=1)
    for method in ("ring", "all_gather"):
        two = memory(software=NEMO, context_parallel=2, context_method=method)
        assert float(two.activations) == pytest.approx(float(one.activations) / 2)


def test_zero_bubble_keeps_no_more_than_1f1b():
    """ZB-H1 of Qi et al. 2023 has the memory of 1F1B."""
    choices = {"pipeline_parallel": 8, "micro_batch": 1, "batch": 64}
    plain, zero_bubble = (
        memory(schedule=name, **choices).activations for name in ("1f1b", "zero_bubble")
    )
    assert float(zero_bubble) == float(plain)


def test_offload_takes_state_off_the_chip_and_says_how_much_crosses():
    here, there = (memory(offload=where) for where in ("none", "optimizer"))
    assert float(there.optimizer) == 0
    assert float(there.state_crossing) == float(here.optimizer)
    both = memory(offload="optimizer_and_activations")
    assert float(both.activations) < float(here.activations)


def test_operands_are_kept_as_narrow_as_the_matmuls_take_them():
    """Bytes a value with their scales: fp8 1, MX 1 + 1/32, NVFP4 1/2 + 1/16; fp32 all at 4."""
    kept = {
        name: float(memory(software=NEMO, precision=name).activations)
        for name in ("float32", "bfloat16", "float8", "mxfp8", "nvfp4")
    }
    assert kept["float32"] == pytest.approx(2 * kept["bfloat16"])
    operands = SEQUENCE * BATCH * GPT_22B.layers * (2 * GPT_22B.hidden + GPT_22B.ffn)
    for name, width in (("float8", 1), ("mxfp8", 1 + 1 / 32), ("nvfp4", 1 / 2 + 1 / 16)):
        assert kept["bfloat16"] - kept[name] == pytest.approx((2 - width) * operands)


def test_the_total_is_its_parts():
    use = memory(software=NEMO, tensor_parallel=8, recompute="selective")
    parts = ("weights", "gradients", "optimizer", "activations", "logits", "gathered")
    total = sum(float(getattr(use, part)) for part in parts)
    assert float(use.total) == pytest.approx(total + assumed("reserved_memory"))
