"""DeepSeek-V4's compressed attention and residual streams, against what its maker states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.mixers import CompressedAttention
from rainshadow.cluster.model_files import load_model, model_from_config
from rainshadow.cluster.predict import predict_training
from rainshadow.cluster.serving.work import Work
from rainshadow.errors import MachineDataError, NotModelled
from rainshadow.machine import load_system
from rainshadow.report.exports import megatron, torchtitan

FLASH = {
    "model_type": "deepseek_v4",
    "hidden_size": 4096,
    "num_hidden_layers": 43,
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "vocab_size": 129280,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1024,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "sliding_window": 128,
    "index_topk": 512,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "hc_mult": 4,
    "compress_ratios": [0, 0, *([4, 128] * 20), 4, 0],
}
PLAN = {"layout": {"schedule": "1f1b", "offload": "none"}, "workload": {}}


def attention() -> CompressedAttention:
    part = load_model("deepseek_v4_flash").compressed
    assert part is not None
    return part


def test_parameters_are_those_of_the_model_card():
    model = load_model("deepseek_v4_flash")
    assert model.num_parameters == pytest.approx(284e9, rel=0.005)
    assert model.num_active_parameters == pytest.approx(13e9, rel=0.07)


def test_flops_of_a_token_are_those_that_nvidia_reports():
    # 748 TFLOP/s at 8,224 tokens/s and 706 at 7,776, of Megatron-Bridge's tables.
    flops = load_model("DeepSeekV4 Flash").train_flops(4096)
    assert flops == pytest.approx(748e12 / 8224, rel=0.005)
    assert flops == pytest.approx(706e12 / 7776, rel=0.005)


@pytest.mark.parametrize("form", ["ratios", "kinds"])
def test_a_hugging_face_config_gives_the_shipped_model(form):
    config = dict(FLASH)
    if form == "kinds":
        names = {4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
        ratios = config.pop("compress_ratios")[:43]
        config["layer_types"] = [names.get(ratio, "sliding_attention") for ratio in ratios]
        config["compress_rates"] = {name: ratio for ratio, name in names.items()}
    read = model_from_config(config, "flash", "config.json")
    shipped = load_model("DeepSeekV4 Flash")
    for part in ("layers", "hidden", "moe", "compressed", "kv_heads", "head_dim", "streams"):
        assert getattr(read, part) == getattr(shipped, part)
    assert read.num_parameters == shipped.num_parameters


def test_a_config_without_an_indexer_names_what_is_missing():
    config = {key: value for key, value in FLASH.items() if key != "index_topk"}
    with pytest.raises(MachineDataError, match="top_k"):
        model_from_config(config, "flash", "config.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"compress_ratios": [0, 0, *([4, 64] * 20), 4, 0]}, "compress_ratios: unknown 64; known"),
        ({"compress_ratios": [4]}, "compress_ratios: expected a list with one entry a layer"),
        ({"compress_ratios": 4}, "compress_ratios: expected a list"),
        ({"layer_types": ["full_attention"] * 43}, "layer_types: unknown full_attention"),
        ({"num_hidden_layers": None}, "expected a list with one entry a layer"),
    ],
)
def test_layers_of_an_unknown_kind_are_not_taken_for_windows(change, said):
    with pytest.raises(MachineDataError, match=said):
        model_from_config({**FLASH, **change}, "flash", "config.json")


@given(st.integers(1, 4096))
def test_keys_of_a_sequence_are_those_of_its_tokens_on_average(sequence):
    part = attention()
    each = np.mean(part.keys_of_last(np.arange(sequence) + 0.5, 43))
    assert part.keys_seen(sequence, 43) == pytest.approx(each, rel=0.02, abs=1)


@given(st.integers(0, 1 << 20))
def test_a_step_reads_no_more_than_is_kept(context):
    work = Work(load_model("deepseek_v4_flash"))
    assert work.read_values(context) <= work.cached_values(context)


def test_the_cache_of_a_long_context_is_a_tenth_of_deepseek_v3s():
    new, old = Work(load_model("deepseek_v4_flash")), Work(load_model("deepseek_v3"))
    assert new.cached_values(1 << 20) / old.cached_values(1 << 20) == pytest.approx(0.098, rel=0.01)


def test_more_streams_take_longer_and_more_memory():
    model, system = load_model("deepseek_v4_flash"), load_system("dgx_b200")
    layout = Layout(data_parallel=128, expert_parallel=64)
    workload = Workload(sequence=4096, global_batch=2048)
    plain = predict_training(replace(model, streams=1), system, layout, workload)
    streams = predict_training(model, system, layout, workload)
    assert streams.step_s > plain.step_s
    assert streams.memory.activations > plain.memory.activations


@pytest.mark.parametrize("exporter", [megatron, torchtitan])
def test_programs_without_it_are_told_apart(exporter):
    with pytest.raises(NotModelled, match="compressed attention"):
        exporter.export(PLAN, load_model("deepseek_v4_flash"))
