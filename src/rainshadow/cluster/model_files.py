"""Knows where models are described: data/models/*.toml, a user's TOML, a Hugging Face config.json.

Both are checked whole: every missing or unknown key is named at once.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from rainshadow.cluster.mixers import CompressedAttention, LatentAttention, StateSpace
from rainshadow.cluster.model import Encoder, MixtureOfExperts, TransformerModel
from rainshadow.errors import InputError, MachineDataError, NotModelled, UnknownNameError

_PARTS: dict[str, type] = {
    "moe": MixtureOfExperts,
    "mla": LatentAttention,
    "ssm": StateSpace,
    "compressed": CompressedAttention,
    "encoder": Encoder,
}


@cache
def _shipped() -> Mapping[str, dict[str, Any]]:
    folder = resources.files("rainshadow") / "data" / "models"
    entries = sorted((entry for entry in folder.iterdir()), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text("utf-8"))
        for entry in entries
        if entry.name.endswith(".toml")
    }


def list_models() -> list[str]:
    """Names of the shipped models."""
    return list(_shipped())


def _key(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_").replace(" ", "_")


@cache
def load_model(name: str) -> TransformerModel:
    """A model by name or alias, a TOML path, the path of a config.json or its folder, or
    "FILE.py:FUNCTION" that makes a PyTorch module.

    Errors: `UnknownNameError`; `MachineDataError` with every fault of the file; `NotModelled` for
    an architecture that is no transformer we know; `ScriptError` where the user's function raises.
    """
    path = Path(name)
    if ".py:" in name:
        return _from_module(name)
    if path.is_dir() and (path / "config.json").is_file():
        path = path / "config.json"
    if name.endswith((".toml", ".json")) or path.suffix == ".json":
        return _from_path(path)
    by_key = {_key(stem): stem for stem in _shipped()}
    for stem, raw in _shipped().items():
        by_key.update({_key(alias): stem for alias in raw.get("aliases", ())})
    if _key(name) not in by_key:
        raise UnknownNameError("model", name, [*_shipped(), *_aliases()])
    stem = by_key[_key(name)]
    return model_from_table({"name": stem, **_shipped()[stem]}, f"models/{stem}.toml")


def _from_module(name: str) -> TransformerModel:
    """A model captured from "FILE.py:FUNCTION", which makes a PyTorch module."""
    from rainshadow.compiler.frontends.torch.transformer import describe_transformer

    stem = name.rpartition(":")[2]
    return model_from_table({"name": stem, "title": name, **describe_transformer(name)}, name)


def _aliases() -> list[str]:
    return [alias for raw in _shipped().values() for alias in raw.get("aliases", ())]


def _from_path(path: Path) -> TransformerModel:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"cannot read {str(path)!r}: {reason}", fix="name a model, a TOML or a config.json"
        ) from None
    try:
        if path.suffix == ".toml":
            return model_from_table({"name": path.stem, **tomllib.loads(text)}, str(path))
        config = json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise MachineDataError([f"{path}: not {path.suffix[1:].upper()}: {error}"]) from None
    if not isinstance(config, dict):
        raise MachineDataError([f"{path}: expected an object"])
    name = path.parent.name if path.name == "config.json" else path.stem
    return model_from_config(config, name or "model", str(path))


def model_from_table(raw: Mapping[str, Any], file: str) -> TransformerModel:
    """A model from a TOML's table.

    Errors: `MachineDataError` with every fault.
    """
    faults: list[str] = []
    table = dict(raw)
    table.setdefault("title", table["name"])
    table.setdefault("kv_heads", table.get("heads"))
    if "head_dim" not in table and isinstance(table.get("heads"), int):
        table["head_dim"] = table.get("hidden", 0) // max(1, table["heads"])
    for key, part in _PARTS.items():
        if key in table:
            table[key] = _build(part, table[key], f"{file}: {key}", faults)
    model = _build(TransformerModel, table, file, faults)
    if not faults:
        faults += _contradictions(model, file)
    if faults:
        raise MachineDataError(faults)
    return typing.cast(TransformerModel, model)


def _build(cls: type, raw: Any, where: str, faults: list[str]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = dict(raw) if isinstance(raw, dict) else {}
    if not isinstance(raw, dict):
        faults.append(f"{where}: expected a table, got {raw!r}")
    for key in sorted(values.keys() - fields.keys()):
        faults.append(f"{where}: {key}: unknown key; known: {', '.join(fields)}")
    for key, field in fields.items():
        value = values.get(key)
        if key not in values:
            if field.default is dataclasses.MISSING:
                faults.append(f"{where}: {key}: missing")
        elif hints[key] is int and (type(value) is not int or value < 0):
            faults.append(f"{where}: {key}: expected a whole number of 0 or more, got {value!r}")
        elif hints[key] in (bool, str) and type(value) is not hints[key]:
            faults.append(f"{where}: {key}: expected {hints[key].__name__}, got {value!r}")
        elif isinstance(value, list):
            values[key] = tuple(value)
    return None if faults else cls(**values)


def _contradictions(model: TransformerModel, file: str) -> list[str]:
    faults = []
    for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "vocab"):
        if getattr(model, key) < 1:
            faults.append(f"{file}: {key}: expected 1 or more")
    if model.kv_heads and model.heads % model.kv_heads:
        faults.append(f"{file}: heads {model.heads} is no multiple of kv_heads {model.kv_heads}")
    moe = model.moe
    if moe is not None and moe.top_k > moe.experts:
        faults.append(f"{file}: moe.top_k {moe.top_k} is more than moe.experts {moe.experts}")
    if moe is not None and moe.dense_layers > model.layers:
        faults.append(f"{file}: moe.dense_layers {moe.dense_layers} is more than layers")
    if model.ssm is not None and model.ssm.layers >= model.layers:
        faults.append(f"{file}: ssm.layers {model.ssm.layers}: at least one layer has attention")
    compressed = model.compressed
    if compressed is not None and compressed.sparse_layers + compressed.block_layers > model.layers:
        faults.append(f"{file}: compressed.sparse_layers and block_layers are more than layers")
    if compressed is not None and min(compressed.sparse_ratio, compressed.block_ratio) < 1:
        faults.append(f"{file}: compressed.sparse_ratio and block_ratio: expected 1 or more")
    if model.streams < 1:
        faults.append(f"{file}: streams: expected 1 or more")
    if model.dense_layers and model.ffn < 1 and model.ssm is None:
        faults.append(f"{file}: ffn: expected 1 or more for layers with a dense MLP")
    if model.global_layers > model.layers:
        faults.append(f"{file}: global_layers {model.global_layers} is more than layers")
    return faults


#: Hugging Face model types whose MLP has two matrices; every other one we know is gated.
_TWO_MATRICES = {"gpt2", "gpt_neox", "mpt", "bloom", "opt", "bert", "falcon", "nemotron", "phi"}
_KNOWN_TYPES = _TWO_MATRICES | {
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "gemma", "gemma2"),
    *("gemma3", "gemma3_text", "deepseek_v2", "deepseek_v3", "kimi_k2", "gpt_oss", "phi3", "olmo2"),
    *("llama4_text", "llama4", "granite", "internlm2", "yi", "glm4_moe", "glm4", "nemotron_h"),
    "deepseek_v4",
}


def _first(config: Mapping[str, Any], *keys: str, default: Any = None) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), default)


def model_from_config(config: Mapping[str, Any], name: str, file: str) -> TransformerModel:
    """A model from a Hugging Face config.json.

    Errors: `MachineDataError` naming the missing keys; `NotModelled` for an unknown model_type.
    """
    if isinstance(config.get("text_config"), dict):
        inner = {"model_type": config.get("model_type"), **config["text_config"]}
        vision = config.get("vision_config")
        config = inner if vision is None else {**inner, "vision_config": vision}
    kind = config.get("model_type")
    if kind not in _KNOWN_TYPES:
        raise NotModelled(
            f"{file}: model_type {kind!r} is not a transformer that Rainshadow can read",
            allowed=", ".join(sorted(_KNOWN_TYPES)),
            fix="describe the model in a TOML like those of data/models",
        )
    hidden = _first(config, "hidden_size", "n_embd", "d_model")
    heads = _first(config, "num_attention_heads", "n_head", "n_heads")
    table: dict[str, Any] = {
        "name": name,
        "title": name,
        "layers": _first(config, "num_hidden_layers", "n_layer", "n_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": _first(config, "num_key_value_heads", default=heads),
        "ffn": _dense_width(config, hidden),
        "vocab": config.get("vocab_size"),
        "gated": kind not in _TWO_MATRICES and kind != "nemotron_h",
        "tied_embeddings": bool(config.get("tie_word_embeddings", kind in ("gpt2", "gemma"))),
        "bias": bool(_first(config, "attention_bias", default=kind in ("gpt2", "bloom", "opt"))),
        "layer_norm": kind in _TWO_MATRICES,
        "window": _window(config),
        "global_layers": _global_layers(config),
    }
    if config.get("head_dim"):
        table["head_dim"] = config["head_dim"]
    if kind in ("gpt2", "opt", "bert"):
        table["max_positions"] = _first(config, "max_position_embeddings", "n_positions", default=0)
    if kind == "bert":
        table["causal"] = False
    table.update(_config_parts(config, file))
    if kind == "nemotron_h":
        _as_hybrid(table, config, file)
    missing = [key for key in ("layers", "hidden", "heads", "vocab") if table[key] is None]
    if missing:
        raise MachineDataError([f"{file}: no key for {key}" for key in missing])
    return model_from_table(table, file)


def _as_hybrid(table: dict[str, Any], config: Mapping[str, Any], file: str) -> None:
    """A stack of mixers and MLPs, each a layer of its own to the config, as our pairs of them.

    Attention layers have no MLP of their own, nor experts.
    Errors: `MachineDataError` where the config has no pattern.
    """
    kinds = _block_kinds(config)
    if not kinds:
        raise MachineDataError([f"{file}: no key hybrid_override_pattern or layers_block_type"])
    count = {kind: kinds.count(kind) for kind in ("mamba", "attention", "moe", "mlp")}
    mixers = count["mamba"] + count["attention"]
    table["layers"] = mixers
    table["ssm"] = {
        "layers": count["mamba"],
        "heads": config.get("mamba_num_heads"),
        "head_dim": config.get("mamba_head_dim"),
        "state": _first(config, "ssm_state_size", default=128),
        "groups": _first(config, "n_groups", default=8),
        "conv": _first(config, "conv_kernel", default=4),
        "chunk": _first(config, "chunk_size", default=128),
    }
    if count["moe"]:
        table["moe"] |= {
            "dense_layers": mixers - count["moe"],
            "latent": _first(config, "moe_latent_size", default=0),
            "shared_ffn": _first(config, "moe_shared_expert_intermediate_size", default=0),
        }
        table["ffn"] = 0
    else:  # every mixer has a part of the MLPs there are
        table.pop("moe", None)
        table["ffn"] = round(table["ffn"] * count["mlp"] / mixers)


def _block_kinds(config: Mapping[str, Any]) -> list[str]:
    """What each layer of a nemotron_h config is."""
    kinds = config.get("layers_block_type")
    if isinstance(kinds, list):
        return [str(kind) for kind in kinds]
    letters = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
    pattern = str(config.get("hybrid_override_pattern") or "")
    return [letters[letter] for letter in pattern if letter in letters]


def _dense_width(config: Mapping[str, Any], hidden: int | None) -> Any:
    width = _first(config, "intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim")
    if width is None and hidden is not None:
        width = int(hidden * _first(config, "expansion_ratio", default=4))
    return width


def _window(config: Mapping[str, Any]) -> int:
    if config.get("use_sliding_window") is False:
        return 0
    return int(_first(config, "sliding_window", default=0))


def _global_layers(config: Mapping[str, Any]) -> int:
    """Layers with full attention among windowed ones."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return sum(1 for kind in kinds if kind == "full_attention")
    pattern = config.get("sliding_window_pattern")
    layers = _first(config, "num_hidden_layers", default=0)
    if isinstance(pattern, int) and pattern > 0:
        return int(layers // pattern)
    return 0


#: Kinds of layers of a deepseek_v4 config, and the tokens of a key of each where it says nothing.
_SPARSE, _BLOCK = "compressed_sparse_attention", "heavily_compressed_attention"
_WINDOW = "sliding_attention"
_TOKENS_OF_A_KEY = {_SPARSE: 4, _BLOCK: 128, _WINDOW: 0}


def _compressed_parts(config: Mapping[str, Any], file: str) -> dict[str, Any]:
    """What a deepseek_v4 config says of its attention and its residual streams.

    Errors: `MachineDataError` for layers of a kind that is not known, or of none.
    """
    stated = config.get("compress_rates")
    rates = _TOKENS_OF_A_KEY | (stated if isinstance(stated, dict) else {})
    kinds = _attention_kinds(config, rates, file)
    compressed = {
        "q_rank": config.get("q_lora_rank"),
        "out_groups": config.get("o_groups"),
        "out_rank": config.get("o_lora_rank"),
        "window": config.get("sliding_window"),
        "sparse_layers": kinds.count(_SPARSE),
        "sparse_ratio": rates[_SPARSE],
        "top_k": config.get("index_topk"),
        "index_heads": config.get("index_n_heads"),
        "index_dim": config.get("index_head_dim"),
        "block_layers": kinds.count(_BLOCK),
        "block_ratio": rates[_BLOCK],
    }
    streams = _first(config, "hc_mult", default=1)
    return {"compressed": compressed, "streams": streams, "window": 0, "global_layers": 0}


def _attention_kinds(config: Mapping[str, Any], rates: Mapping[str, int], file: str) -> list[str]:
    """The kind of each layer, in either of the two forms of the config."""
    layers, key = config.get("num_hidden_layers"), "layer_types"
    kinds = config.get(key)
    if kinds is None:
        key = "compress_ratios"
        names = {tokens: name for name, tokens in rates.items()}
        ratios = config.get(key)
        if isinstance(ratios, list) and isinstance(layers, int):
            kinds = [names.get(ratio, ratio) for ratio in ratios[:layers]]
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise MachineDataError([f"{file}: {key}: expected a list with one entry a layer"])
    unknown = sorted({str(kind) for kind in kinds if kind not in rates})
    if unknown:
        known = ", ".join(f"{name} ({tokens})" for name, tokens in rates.items())
        raise MachineDataError([f"{file}: {key}: unknown {', '.join(unknown)}; known: {known}"])
    return kinds


def _config_parts(config: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The moe, mla, encoder tables of a config.json."""
    parts: dict[str, Any] = {}
    experts = _first(config, "n_routed_experts", "num_local_experts", "num_experts")
    if experts and experts > 1:
        width = _first(config, "moe_intermediate_size", "intermediate_size")
        shared = _first(config, "n_shared_experts", default=0) * width
        layers = _first(config, "num_hidden_layers", default=0)
        step = _first(config, "interleave_moe_layer_step", "decoder_sparse_step", default=1)
        parts["moe"] = {
            "experts": experts,
            "top_k": _first(config, "num_experts_per_tok", "num_experts_per_token", default=1),
            "expert_ffn": width,
            "shared_ffn": _first(config, "shared_expert_intermediate_size", default=shared),
            "dense_layers": _first(
                config, "first_k_dense_replace", default=layers - layers // max(1, step)
            ),
        }
    if config.get("kv_lora_rank"):
        parts["mla"] = {
            "q_rank": _first(config, "q_lora_rank", default=0),
            "kv_rank": config["kv_lora_rank"],
            "nope_dim": config["qk_nope_head_dim"],
            "rope_dim": config["qk_rope_head_dim"],
            "value_dim": config["v_head_dim"],
        }
    if config.get("model_type") == "deepseek_v4":
        parts |= _compressed_parts(config, file)
    if config.get("num_nextn_predict_layers"):
        parts["prediction_layers"] = config["num_nextn_predict_layers"]
    vision = config.get("vision_config")
    if isinstance(vision, dict) and vision.get("image_size") and vision.get("patch_size"):
        parts["encoder"] = {
            "layers": _first(vision, "num_hidden_layers", "depth", default=1),
            "hidden": _first(vision, "hidden_size", default=1),
            "heads": _first(vision, "num_attention_heads", "num_heads", default=1),
            "ffn": _first(vision, "intermediate_size", default=1),
            "tokens": (vision["image_size"] // vision["patch_size"]) ** 2,
        }
    return parts
