"""Models whose mixers are state spaces in most layers, against what their makers state."""

from __future__ import annotations

import pytest

from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.model_files import load_model, model_from_config
from rainshadow.cluster.predict import predict_training
from rainshadow.cluster.serving.work import Work
from rainshadow.errors import MachineDataError
from rainshadow.machine import load_system

NANO = {
    "model_type": "nemotron_h",
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "num_hidden_layers": 52,
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "n_groups": 8,
    "ssm_state_size": 128,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 131072,
}


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [("nemotron_3_nano", 31.6e9, 3.6e9), ("nemotron_3_super", 120e9, 12e9)],
)
def test_parameters_are_those_of_the_model_card(name, total, active):
    model = load_model(name)
    assert model.num_parameters == pytest.approx(total, rel=0.01)
    assert model.num_active_parameters == pytest.approx(active, rel=0.07)


def test_flops_of_a_token_are_near_those_that_nvidia_reports():
    # 776 TFLOP/s at 34,816 tokens/s and 667 at 7,867, of Megatron-Bridge's tables.
    assert load_model("nemotron_3_nano").train_flops(8192) == pytest.approx(776e12 / 34816, rel=0.1)
    assert load_model("nemotron_3_super").train_flops(8192) == pytest.approx(667e12 / 7867, rel=0.1)


def test_a_hugging_face_config_gives_the_shipped_model():
    read, shipped = model_from_config(NANO, "nano", "config.json"), load_model("nemotron_3_nano")
    for part in ("layers", "hidden", "moe", "ssm", "kv_heads", "head_dim", "gated", "ffn"):
        assert getattr(read, part) == getattr(shipped, part)
    listed = {"M": "mamba", "E": "moe", "*": "attention"}
    kinds = [listed[letter] for letter in NANO["hybrid_override_pattern"]]
    assert model_from_config({**NANO, "layers_block_type": kinds}, "nano", "config.json") == read


def test_a_config_without_a_pattern_is_refused():
    config = {key: value for key, value in NANO.items() if key != "hybrid_override_pattern"}
    with pytest.raises(MachineDataError, match="hybrid_override_pattern"):
        model_from_config(config, "nano", "config.json")


def test_only_attention_layers_have_a_cache_that_grows():
    model = load_model("nemotron_3_nano")
    work = Work(model)
    states = 2 * 23 * 64 * 64 * 128
    assert work.cached_values(0) == states
    assert work.cached_values(1000) - states == 6 * 1000 * 2 * 2 * 128
    assert work.decode_attention_flops(1000) > work.decode_attention_flops(0) > 0


def test_latent_experts_move_less():
    model, layout = load_model("nemotron_3_super"), Layout(data_parallel=64, expert_parallel=64)
    system, workload = load_system("dgx_b200"), Workload(sequence=8192, global_batch=512)
    step = predict_training(model, system, layout, workload)
    assert model.expert_width == 1024 and float(step.step_s) > 0
