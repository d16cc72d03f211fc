"""Knows how a row of a table of published training runs becomes a case the planner can predict.

What a row leaves open (recomputation, often the layout) is left to the planner: it takes the
fastest layout that fits, as the submitters did. Rows that state no seconds and no throughput, and
models whose dimensions are not public, are left out, and the report says why.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rainshadow.cluster.feasibility import precision_known
from rainshadow.cluster.layout import OFFLOADS, PRECISIONS, RECOMPUTE, SCHEDULES, Layout, Workload
from rainshadow.cluster.model import TransformerModel
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.sizing import sized
from rainshadow.cluster.software import Software, load_software
from rainshadow.errors import InputError, RainshadowError, UnknownNameError
from rainshadow.machine import System, load_system

#: Chip of a row -> system.
_SYSTEMS = {
    "A100-80GB": "dgx_a100",
    "A100-40GB": "a100_40gb_roce",
    "H100": "dgx_h100_ib",
    "H100-500W": "grand_teton",
    "H800": "h800_ib",
    "H200": "dgx_h200_ib",
    "H200-NVL": "h200_nvl_node",
    "B200": "dgx_b200",
    "B300": "dgx_b300",
    "GB200": "gb200_nvl72",
    "GB300": "gb300_nvl72",
    "NVIDIA L40S": "l40s_node",
    "TPU-v4": "tpu_v4_pod",
    "TPU-v5e": "tpu_v5e_pod",
    "TPU-v5p": "tpu_v5p_pod",
    "TPU-v6e": "tpu_v6e_pod",
    "TPU-v7": "tpu_v7_pod",
    "MI300X": "mi300x_node",
    "MI325X": "mi325x_node",
    "MI350X": "mi350x_node",
    "MI355X": "mi355x_node",
    "Gaudi2": "gaudi2_node",
    "Trainium1": "trn1_32xlarge",
}
_THROUGHPUT = ("samples_per_s", "sequences_per_s")
#: Metrics that say how long a step took -> whether they are rates.
METRICS = {
    "step_time_s": False,
    "layer_fwd_bwd_ms": False,
    "samples_per_s": True,
    "sequences_per_s": True,
    "tokens_per_s_per_chip": True,
    "tokens_per_s_total": True,
    "tflops_per_chip": True,
    "time_to_train_min": False,
}
#: Where MaxText and others leave out sequence and batch per chip: from their configuration files.
_MAXTEXT_BATCH = {"MaxText-16B": 6, "MaxText-22B": 13, "MaxText-32B": 6, "MaxText-64B": 4}
_MAXTEXT_BATCH |= {"MaxText-512B": 2, "MaxText-128B": 1, "MaxText-52B": 12, "MaxText-256B": 2}
#: Their recomputation, from the same files; MaxText's "minimal" keeps the matmuls' outputs.
_MAXTEXT_KEEPS = {"MaxText-32B": "selective"}
_MAXTEXT_SEQUENCE, _DEFAULT_SEQUENCE = 2048, 8192
#: Recipes of tpu-recipes that multiply in 8 bits, by their README or name; the others in bf16.
_INT8_RECIPES = ("v5p/GPT3-175B-MaxText", "GPT3-175B-MaxText/fp8")
#: Tensor parallelism of every configuration for LoRA on H100 that MLPerf's submitters name.
_H100_LORA_TENSOR = 4
_CORES_PER_TRAINIUM1 = 2
#: Parameters from which GPU runs that state no layout may have had a pipeline.
_NEEDS_PIPELINE = 100e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One published run. layout: a table of the layouts it may have had.

    one_layer: only a layer's passes were timed, no step.  group: source without its file or run,
    so that rows of one publication stay together.
    """

    id: str
    source: str
    group: str
    chip: str
    model: TransformerModel
    system: System
    layout: Layout
    workload: Workload
    software: Software
    measured_s: float
    metric: str
    value: float
    one_layer: bool
    held_out: bool

    @property
    def is_moe(self) -> bool:
        return self.model.moe is not None

    @property
    def label(self) -> str:
        """What the baseline bins by: chip, precision, kind of model."""
        codes = np.atleast_1d(self.layout.precision)
        kind = "MoE" if self.is_moe else "LoRA" if self.workload.lora_rank else "dense"
        return f"{self.chip} {PRECISIONS[int(codes[0])]} {kind}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not scored, and why."""

    id: str
    why: str


def read_cases(path: Path) -> tuple[list[Case], list[LeftOut]]:
    """All rows of a table.

    Errors: `InputError` for a file without the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot read {str(path)!r}: {reason}") from None
    needed = {"id", "source", "model", "chip", "n_chips", "metric", "value"}
    if not rows or not needed <= rows[0].keys():
        raise InputError(
            f"{str(path)!r} is no table of training runs", allowed=", ".join(sorted(needed))
        )
    cases: list[Case] = []
    left_out: list[LeftOut] = []
    for row in rows:
        try:
            cases.append(case_of(row))
        except RainshadowError as error:
            left_out.append(LeftOut(row["id"], error.what))
    return cases, left_out


def case_of(row: Mapping[str, str]) -> Case:
    """One row; columns it has not count as empty.

    Errors: `InputError` saying why it cannot be scored.
    """
    filled = defaultdict(str, {key: text or "" for key, text in row.items() if key})
    try:
        return _case(filled)
    except ValueError as error:
        raise InputError(
            f"{filled['id']}: {error}", allowed="numbers in the number columns"
        ) from None
    except UnknownNameError as error:
        raise InputError(
            f"{error.what}: describe it in data/models, or name a TOML or config.json"
        ) from None


def _case(row: Mapping[str, str]) -> Case:
    if float(row["value"]) <= 0:
        raise InputError(f"value {row['value']}", allowed="more than 0")
    if row["metric"] == "time_to_train_min":
        raise InputError("time to train only: steps and their number are not stated")
    if row["chip"] not in _SYSTEMS:
        raise InputError(f"no system with {row['chip']}")
    model = load_model(re.sub(r" \((w/o MTP|tokendrop|dropless)\)", "", row["model"]))
    name = _SYSTEMS[row["chip"]]
    if "A3" in row["system"]:
        name = "a3_high"
    chips = int(row["n_chips"])
    slices = _slices(row)
    system = sized(load_system(name), chips // slices)
    system = dataclasses.replace(system, domains=system.domains * slices)
    workload = _workload(row, chips)
    layout = _layouts(row, chips, workload, model)
    if not np.all(precision_known(system, layout)):
        name = PRECISIONS[_precision(row)]
        raise InputError(f"{system.chip.name} has no peak in {name}")
    return Case(
        id=row["id"],
        source=row["source"],
        group=_group(row["source"]),
        chip=row["chip"],
        model=model,
        system=system,
        layout=layout,
        workload=workload,
        software=load_software(_software(row)),
        measured_s=_measured_s(row, chips, model, workload),
        metric=row["metric"],
        value=float(row["value"]),
        one_layer=row["metric"] == "layer_fwd_bwd_ms",
        held_out=row["split"] != "open",
    )


def _slices(row: Mapping[str, str]) -> int:
    """TPU slices joined by the data-centre network: "4x v5e-256"."""
    match = re.match(r"(\d+)x v", row["system"])
    return int(match[1]) if match else 1


def _group(source: str) -> str:
    """The publication: repository and page or round, without the single run."""
    head = source.split(", arXiv")[0]
    repository, _, path = head.partition(":")
    if repository.startswith("mlcommons/"):
        return f"{repository} {path.split('/')[0]}"
    if repository.endswith("tpu-recipes"):
        return f"{repository} {path.split('/')[1]}"
    return head


def _number(row: Mapping[str, str], key: str, default: int) -> int:
    text = row.get(key, "")
    return int(float(text)) if text else default


def _workload(row: Mapping[str, str], chips: int) -> Workload:
    """Sequence and global batch; where a row has none, of the configuration it names."""
    maxtext = row["model"].startswith("MaxText")
    sequence = _number(row, "seq", _MAXTEXT_SEQUENCE if maxtext else _DEFAULT_SEQUENCE)
    batch = _number(row, "global_batch", 0)
    tokens = re.search(r"tokens per step=(\d+)", row["notes"])
    if not batch and tokens:
        batch = int(tokens[1]) // sequence
    if not batch and maxtext:
        if row["model"] not in _MAXTEXT_BATCH:
            raise InputError(
                f"no batch of {row['model']} is known",
                fix="fill global_batch, or add it to _MAXTEXT_BATCH from MaxText's configuration",
            )
        batch = _MAXTEXT_BATCH[row["model"]] * chips
    if not batch and row["model"] == "Llama-2-7B":
        sequence, batch = 4096, 4 * chips
    if not batch:
        batch = _number(row, "dp", chips) * _number(row, "micro_batch", 1)
    lora = "LoRA" in row["notes"]
    return Workload(sequence=sequence, global_batch=max(batch, 1), lora_rank=16 if lora else 0)


def _measured_s(
    row: Mapping[str, str], chips: int, model: TransformerModel, workload: Workload
) -> float:
    """Seconds of a step."""
    value, metric = float(row["value"]), row["metric"]
    if metric == "tokens_per_s_per_chip":
        return workload.tokens / (value * chips)
    if metric == "tokens_per_s_total":
        return workload.tokens / value
    if metric in _THROUGHPUT:
        return workload.global_batch / value
    if metric == "layer_fwd_bwd_ms":
        return value / 1e3
    if metric == "tflops_per_chip":
        return _reported_flops(row, model, workload) / (value * 1e12 * chips)
    return value


def in_metric(case: Case, seconds: float) -> float:
    """A prediction in the unit of the case's figure."""
    ratio = seconds / case.measured_s
    return case.value / ratio if METRICS[case.metric] else case.value * ratio


def _reported_flops(row: Mapping[str, str], model: TransformerModel, workload: Workload) -> float:
    """FLOPs of a step as the source counts them."""
    per_token = model.train_flops(workload.sequence)
    attention = 3 * model.layers * model.attention_flops(workload.sequence)
    whole = per_token + attention * model.causal
    if "SC21" in row["unit"] or row["recompute"] == "full":
        logits = 3 * model.logits_flops
        return workload.tokens * ((whole - logits) * 4 / 3 + logits)
    if "maxtext" in row["source"]:
        return workload.tokens * whole
    return workload.tokens * per_token


def _software(row: Mapping[str, str]) -> str:
    """The stack a source ran."""
    source, chip = row["source"], row["chip"]
    if chip.startswith("TPU"):
        return "maxtext"
    if chip == "Trainium1":
        release = re.search(r"Neuron 2\.(\d+)", row["notes"])
        return "neuronx" if release and int(release[1]) > 20 else "neuronx_2023"
    if chip.startswith("MI3"):
        return "rocm_2025"
    if chip.startswith("Gaudi"):
        return "synapse"
    for words, stack in (
        (("SC21",), "deepspeed_2021" if row["zero"] == "3" else "megatron_2021"),
        (("MT-NLG", "BLOOM"), "megatron_deepspeed"),
        (("SC21", "OPT"), "megatron_2021"),
        (("Korthikanti",), "megatron_2022"),
        (("asyncTP", "torchtitan"), "torchtitan"),
        (("llm-foundry",), "llm_foundry_hopper" if chip == "H100" else "llm_foundry"),
        (("maxtext",), "maxtext_gpu"),
        (("MegaScale",), "megascale" if "MegaScale;" in row["notes"] else "megatron_2023"),
        (("Llama 3 Herd", "DeepSeek"), "in_house_2024"),
        (("Nemotron-4",), "nemo_2024"),
        (("results_v4.0",), "nemo_2024"),
        (("results_v4.1", "results_v5"), "nemo_2025"),
    ):
        if any(word in source for word in words):
            if stack == "torchtitan" and "rowwise" in row["precision"]:
                return "torchtitan_rowwise"
            return "torchtitan_eager" if "eager" in row["notes"] else stack
    container = re.search(r"container (\d\d)\.(\d\d)", row["notes"])
    if not container or container[1] < "26":
        return "nemo_2025"
    return "nemo_2026" if container[2] < "06" else "nemo_2026_06"


def _precision(row: Mapping[str, str]) -> int:
    """The precision of a row; MLPerf v5.1 rows and those without one are read by chip."""
    text = row["precision"].upper()
    if any(recipe in row["source"] for recipe in _INT8_RECIPES):
        return PRECISIONS.index("float8")
    if "NVFP4" in text:
        return PRECISIONS.index("nvfp4")
    if "MX" in text and "CS" not in text:
        return PRECISIONS.index("mxfp8")
    if "FP8" in text:
        return PRECISIONS.index("float8")
    if text == "FP32":
        return PRECISIONS.index("float32")
    by_round = "mlcommons" in row["source"] or "Bridge" in row["source"]
    if not text and by_round and not row["chip"].startswith(("TPU", "NVIDIA L40S", "Gaudi")):
        return PRECISIONS.index(_precision_of_submission(row))
    return PRECISIONS.index("bfloat16")


def _precision_of_submission(row: Mapping[str, str]) -> str:
    """MLPerf logs do not name it: NVFP4 for Llama 3.1 on Blackwell in v5.1, else FP8."""
    blackwell = row["chip"] in ("B200", "B300", "GB200", "GB300")
    if "v5.1" in row["source"] and blackwell and row["model"].startswith("Llama-3.1"):
        return "nvfp4"
    return "float8"


def _layouts(
    row: Mapping[str, str], chips: int, workload: Workload, model: TransformerModel
) -> Layout:
    """Every layout the row allows, as a table."""
    given = bool(row["tp"])
    tensors, pipes, contexts = _degrees(row, chips, workload, model)
    mode_name = row["recompute"]
    if row["model"].startswith("MaxText"):
        mode_name = _MAXTEXT_KEEPS.get(row["model"], "full")
    # MaxText recomputes by default; its recipes for large batches keep a part.
    open_modes = [2] if row["chip"].startswith("TPU") else [0, 1, 2]
    modes = [RECOMPUTE.index(_mode(mode_name))] if mode_name else open_modes
    virtuals = _virtual_stages(row, pipes[0], given)
    leaves = row["chip"].startswith("TPU") or row["chip"] in ("GB200", "GB300")
    keeps = [0, OFFLOADS.index("activations")] if leaves else [0]
    sizes = [_number(row, "micro_batch", 0)] if row["micro_batch"] else [1, 2, 4, 8, 16]
    stages = _zero_stages(row, given)
    axes = (tensors, pipes, contexts, modes, sizes, stages, virtuals, keeps)
    grid = np.array(np.meshgrid(*axes)).reshape(len(axes), -1)
    t, p, c, mode, size, stage, virtual, keep = grid
    fits = (chips % (t * p * c) == 0) & (model.kv_heads % np.minimum(t, model.kv_heads) == 0)
    d = chips // np.maximum(t * p * c, 1)
    if row["chip"] == "Trainium1" and row["micro_batch"] and tensors == [1]:
        size = size * _CORES_PER_TRAINIUM1
    exact = workload.global_batch % np.maximum(d * size, 1) == 0
    fits &= exact | (d * size <= workload.global_batch) | (given & bool(row["micro_batch"]))
    if not fits.any():
        raise InputError("no layout divides the batch over the chips")
    columns = (t, p, c, mode, size, stage, virtual, keep, d)
    t, p, c, mode, size, stage, virtual, keep, d = (part[fits] for part in columns)
    return Layout(
        tensor_parallel=t,
        sequence_parallel=row["sequence_parallel"] != "no",
        pipeline_parallel=p,
        virtual_stages=virtual,
        schedule=SCHEDULES.index("dual_pipe" if row["source"].startswith("DeepSeek") else "1f1b"),
        offload=keep,
        data_parallel=d,
        zero=stage,
        shard_size=_shard_size(row, chips),
        context_parallel=c,
        expert_parallel=_number(row, "ep", 1),
        micro_batch=size,
        recompute=mode,
        precision=_precision(row),
        overlap_tensor=_overlaps(row),
        overlap_data=not _is_old(row) or row["zero"] == "3",
        overlap_pipeline=not _is_old(row),
    )


def _degrees(
    row: Mapping[str, str], chips: int, workload: Workload, model: TransformerModel
) -> tuple[list[int], list[int], list[int]]:
    """(tensor, pipeline, context) degrees that the row allows: its own, or the usual ones."""
    if row["tp"]:
        tensor = _number(row, "tp", 1)
        if row["chip"] == "Trainium1":
            tensor = max(1, tensor // _CORES_PER_TRAINIUM1)
        return [tensor], [_number(row, "pp", 1)], [_number(row, "cp", 1)]
    tensors = [1, 2, 4, 8]
    if workload.lora_rank and row["chip"] == "H100":
        tensors = [_H100_LORA_TENSOR]
    large = model.num_parameters > _NEEDS_PIPELINE and not row["chip"].startswith("TPU")
    split = bool(workload.lora_rank) or workload.global_batch < chips
    return tensors, [1, 2, 4, 8, 16] if large else [1], [1, 2, 4, 8] if split else [1]


def _virtual_stages(row: Mapping[str, str], pipe: int, given: bool) -> list[int]:
    """Interleaving; open where a table of recent runs leaves it out, none in the older papers."""
    recent = "mlcommons" in row["source"] or "Bridge" in row["source"]
    if row.get("vp") or not recent or (given and pipe == 1):
        return [_number(row, "vp", 1)]
    return [1, 2, 4] if given else [1, 2, 4, 8]


def _mode(text: str) -> str:
    if text.startswith("full"):
        return "full"
    return "selective" if text.startswith("selective") else "none"


def _zero_stages(row: Mapping[str, str], given: bool) -> list[int]:
    text = row["zero"]
    if text == "FSDP":
        return [3]
    if text.startswith("FSDP"):
        return [2]
    if text:
        return [int(text)]
    if "SC21" in row["source"] or "Korthikanti" in row["source"] or "MT-NLG" in row["source"]:
        return [0]
    if row["chip"].startswith("TPU") or "a3/" in row["source"]:
        return [3]
    if "LoRA" in row["notes"]:
        return [1, 3] if given else [1]
    return [1] if given or "mlcommons" in row["source"] else [1, 3]


def _shard_size(row: Mapping[str, str], chips: int) -> int:
    """MaxText shards weights inside a slice or node and replicates over the slower network."""
    if "maxtext" not in row["source"]:
        return 0
    return min(chips, 8) if "a3/" in row["source"] else chips // _slices(row)


def _overlaps(row: Mapping[str, str]) -> bool:
    """Whether tensor-parallel collectives ran beside compute: NeMo, async TP, MegaScale, XLA."""
    if "torchtitan" in row["source"]:
        return "async" in row["notes"]
    if _is_old(row):
        return False
    if "results_v4.0" in row["source"] and "LoRA" in row["notes"]:
        return False
    return "Megatron-LM;" not in row["notes"]


def _is_old(row: Mapping[str, str]) -> bool:
    """Megatron of 2021 and 2022, whose collectives and hand-overs kept compute waiting."""
    return any(word in row["source"] for word in ("SC21", "Korthikanti", "MT-NLG", "BLOOM"))
