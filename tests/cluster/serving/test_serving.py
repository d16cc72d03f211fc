"""Serving formulas: what must hold on any chip, and a few numbers by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.serving.batching import (
    Request,
    batches_up_to,
    chunked,
    continuous,
    disaggregated,
    speculative,
    static_batches,
    tokens_per_verification,
)
from rainshadow.cluster.serving.latency import Replica, Serving, rates_of
from rainshadow.cluster.serving.stack import serving_stacks, stack_for
from rainshadow.cluster.serving.work import Work, precision_of
from rainshadow.errors import InputError, UnknownNameError
from rainshadow.machine import list_chips, load_chip, load_system
from rainshadow.sources import Ledger, Picker


def served_on(
    model: str = "llama_3_1_70b",
    system: str = "trn2_48xlarge",
    chips: int = 16,
    precision: str = "bf16",
    attention: str = "tensor",
) -> Serving:
    machine = load_system(system)
    wide = precision_of(precision)
    rates = rates_of(machine, stack_for(machine.chip), wide, chips, Picker(Ledger()))
    return Serving(
        work=Work(load_model(model)),
        precision=wide,
        rates=rates,
        replica=Replica(chips=chips, attention=attention),
    )


def test_shared_and_expert_parameters_are_the_whole_model_without_the_input_table():
    for name in ("llama_3_1_8b", "qwen3_235b_a22b", "deepseek_v3", "gpt_oss_120b"):
        model = load_model(name)
        work = Work(model)
        counted = work.shared_parameters + work.expert_parameters + work.input_table_parameters
        # The last norm is left out.
        assert counted == pytest.approx(model.num_parameters, rel=1e-6)


def test_one_token_touches_its_own_experts_and_many_touch_all():
    work = Work(load_model("qwen3_235b_a22b"))
    assert work.touched_expert_parameters(1) == pytest.approx(work.active_expert_parameters)
    assert work.touched_expert_parameters(10_000) == pytest.approx(work.expert_parameters)


def test_a_windowed_layer_caches_no_more_than_its_window():
    work = Work(load_model("gpt_oss_120b"))
    model = work.model
    at_8k = float(work.cached_values(8192))
    assert at_8k == model.kv_values_per_token * (18 * 8192 + 18 * 128)


def test_a_decode_step_is_no_faster_than_streaming_the_weights():
    serving = served_on()
    size = serving.work.shared_parameters * 2
    bound = size / 16 / load_chip("trainium2").hbm.bandwidth.value
    assert serving.decode_step_s(1, 1.0) > bound


@pytest.mark.parametrize("attention", ["tensor", "data"])
def test_steps_grow_with_batch_and_context(attention):
    serving = served_on("deepseek_v3", "dgx_b200", 8, "fp8", attention)
    batch = batches_up_to(512)
    assert (np.diff(serving.decode_step_s(batch, 1000.0)) > 0).all()
    contexts = np.array([100.0, 1000.0, 10_000.0])
    assert (np.diff(serving.decode_step_s(64, contexts)) > 0).all()


def test_max_batch_fits_and_one_more_does_not():
    serving = served_on(chips=4)
    batch = serving.max_batch(2000)
    room = serving.rates.memory_bytes * 4
    weights = serving.weight_bytes_per_chip() * 4
    assert weights + batch * serving.cache_bytes(2000) <= room
    assert batch == serving.rates.max_sequences or (
        weights + (batch + 1) * serving.cache_bytes(2000) > room
    )
    assert served_on("llama_3_1_405b", "p5_48xlarge", 1).max_batch(2000) == 0


def test_continuous_batches_deliver_at_least_what_static_ones_do():
    serving = served_on("llama_3_1_70b", "p5en_48xlarge", 4, "fp8")
    request = Request(prompt=1000, output=500)
    batch = batches_up_to(256)
    fixed, flowing = static_batches(serving, batch, request), continuous(serving, batch, request)
    assert (flowing.output_tokens_per_s >= fixed.output_tokens_per_s).all()
    # A reader of a continuous server sees other prompts interrupt.
    assert (flowing.time_per_output_token_s > fixed.time_per_output_token_s).all()
    # Little's law: sequences in flight = rate x residence.
    residence = flowing.time_per_output_token_s * request.output
    assert flowing.output_tokens_per_s / request.output * residence == pytest.approx(batch)


def test_chunks_hide_prompts_behind_weight_reads_where_decode_is_bound_by_memory():
    serving = served_on("llama_3_1_70b", "p5en_48xlarge", 4, "fp8")
    request = Request(prompt=1000, output=1000)
    batch = np.array([16.0])
    whole = continuous(serving, batch, request)
    cut = chunked(serving, batch, request, 256)
    assert cut.time_per_output_token_s < whole.time_per_output_token_s
    assert cut.time_to_first_token_s > whole.time_to_first_token_s
    # Where prompts set the pace, throughput stops growing.
    heavy = Request(prompt=20_000, output=10)
    few, many = (chunked(serving, np.array([b]), heavy, 512) for b in (64.0, 128.0))
    assert many.output_tokens_per_s <= few.output_tokens_per_s * 1.05
    with pytest.raises(InputError, match="chunk of 0"):
        chunked(serving, batch, request, 0)


def test_disaggregated_decode_is_not_interrupted():
    prefill = served_on("llama_3_1_70b", "p5en_48xlarge", 4, "fp8")
    decode = served_on("llama_3_1_70b", "p5en_48xlarge", 4, "fp8")
    request = Request(prompt=4000, output=200)
    batch = np.array([32.0])
    split = disaggregated(prefill, decode, batch, request, 4 * 50e9)
    together = continuous(decode, batch, request)
    assert split.served.time_per_output_token_s < together.time_per_output_token_s
    assert split.prefill_per_decode[0] > 0
    slow = disaggregated(prefill, decode, batch, request, 1e9)
    assert slow.served.time_to_first_token_s > split.served.time_to_first_token_s
    with pytest.raises(InputError, match="without a network"):
        disaggregated(prefill, decode, batch, request, 0.0)


def test_speculation_pays_when_drafts_are_accepted_and_costs_when_not():
    target = served_on()
    draft = served_on("llama_3_1_8b")
    request = Request(prompt=1000, output=500)
    batch = np.array([1.0])
    plain = static_batches(target, batch, request).time_per_output_token_s
    good = speculative(target, draft, batch, request, 4, 0.9).time_per_output_token_s
    bad = speculative(target, draft, batch, request, 4, 0.0).time_per_output_token_s
    assert bad > plain and good < bad / 3
    assert tokens_per_verification(4, 1.0) == 5
    assert tokens_per_verification(3, 0.5) == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    with pytest.raises(InputError, match=r"acceptance 1\.5"):
        tokens_per_verification(4, 1.5)


def test_a_cached_prefix_shortens_prefill_only():
    serving = served_on()
    batch = np.array([4.0])
    cold = continuous(serving, batch, Request(prompt=8000, output=100))
    warm = continuous(serving, batch, Request(prompt=8000, output=100, cached_prompt=6000))
    assert warm.time_to_first_token_s < cold.time_to_first_token_s / 2
    assert warm.time_per_output_token_s < cold.time_per_output_token_s


def test_every_shipped_stack_names_chips_that_exist_once():
    names = [chip for stack in serving_stacks() for chip in stack.chips]
    assert len(names) == len(set(names)) and set(names) <= set(list_chips())


def test_a_chip_that_nobody_measured_gets_the_spread_of_all():
    stack = stack_for(load_chip("tpu_v6e"))
    assert stack.name == "transferred"
    for field in dataclasses.fields(stack):
        if "dimension" in field.metadata:
            figure = getattr(stack, field.name)
            assert figure.grade == "assumed" and figure.low <= figure.value <= figure.high


def test_an_unknown_precision_lists_those_that_exist():
    with pytest.raises(UnknownNameError, match="did you mean fp8"):
        precision_of("fp9")
