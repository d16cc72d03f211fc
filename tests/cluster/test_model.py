"""Parameter and FLOP counts against the numbers that model cards and papers print."""

from __future__ import annotations

import json

import pytest

from rainshadow.cluster.model_files import list_models, load_model, model_from_config
from rainshadow.errors import MachineDataError, NotModelled, UnknownNameError
from rainshadow.machine import load_sources

#: Model -> billions of parameters as published: exact where the paper prints them so.
PUBLISHED = {
    "llama_3_1_8b": 8.03,
    "llama_3_1_70b": 70.55,
    "llama_3_1_405b": 405.85,
    "llama_2_7b": 6.738,
    "llama_2_70b": 68.98,
    "gpt3_175b": 174.6,
    "gpt_1_7b": 1.7,
    "gpt_529_6b": 529.6,
    "gpt_1t": 1008.0,
    "bloom_176b": 176.247,
    "bert_large": 0.334,
    "mpt_7b": 6.658,
    "mixtral_8x7b": 46.70,
    "qwen3_30b_a3b": 30.53,
    "qwen3_235b_a22b": 235.09,
    "gpt_oss_120b": 116.83,
    "deepseek_v3": 671.03,
    "kimi_k2": 1026.4,
}
ACTIVE = {"qwen3_235b_a22b": 22.2, "deepseek_v3": 37.5, "gpt_oss_120b": 5.7, "kimi_k2": 32.9}


@pytest.mark.parametrize("name", list_models())
def test_every_shipped_model_loads_and_names_its_sources(name):
    model = load_model(name)
    assert model.sources and set(model.sources) <= load_sources().keys()
    assert 0 < model.num_active_parameters <= model.num_parameters
    assert model.train_flops(2048) > 0


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_parameters_are_those_published(name):
    assert load_model(name).num_parameters / 1e9 == pytest.approx(
        PUBLISHED[name], rel=0.004 + 0.03 * (name == "gpt_1_7b")
    )


@pytest.mark.parametrize("name", sorted(ACTIVE))
def test_active_parameters_are_those_published(name):
    assert load_model(name).num_active_parameters / 1e9 == pytest.approx(ACTIVE[name], rel=0.01)


def test_flops_of_gpt3_follow_the_sc21_formula():
    """72 B s L h^2 (1 + s/6h + V/12Lh), with causal attention counted once instead of twice."""
    model = load_model("gpt3_175b")
    layers, hidden, vocab, sequence = 96, 12288, 51200, 2048
    whole = 72 * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocab / (12 * layers * hidden))
    masked = whole - 6 * layers * hidden * sequence
    assert model.train_flops(sequence) == pytest.approx(masked, rel=1e-9)


def test_a_window_cuts_the_attention_of_its_layers():
    model = load_model("gpt_oss_120b")
    full = 2 * 2 * 64 * 64 * 2048
    windowed = 2 * 2 * 64 * 64 * 128
    assert model.attention_flops(4096) == pytest.approx((full + windowed) / 2)


def test_a_hugging_face_config_is_the_shipped_model(tmp_path):
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "vocab_size": 129280,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "num_nextn_predict_layers": 1,
    }
    folder = tmp_path / "DeepSeek"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    read = load_model(str(folder))
    shipped = load_model("DeepSeek-V3")
    assert read.name == "DeepSeek"
    assert read.num_parameters == shipped.num_parameters
    assert read.train_flops(4096) == shipped.train_flops(4096)


def test_an_unknown_architecture_is_not_modelled():
    with pytest.raises(NotModelled, match="mamba2"):
        model_from_config({"model_type": "mamba2"}, "m", "config.json")


def test_a_misspelt_model_gets_the_nearest_names():
    with pytest.raises(UnknownNameError, match="llama"):
        load_model("lama-3.1-8b")


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("layers = 2\nhidden = 64\nheads = 3\nkv_heads = 2\nffn = -1\nspeed = 3\n")
    with pytest.raises(MachineDataError) as caught:
        load_model(str(path))
    text = str(caught.value)
    assert "speed" in text and "ffn" in text and "vocab: missing" in text
