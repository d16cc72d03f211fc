"""Deployments within a promise: memory, latency, the best batch, why there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.serving.batching import Request, batches_up_to
from rainshadow.cluster.serving.plan import Job, Promise, best_of_way, deployments, ways
from rainshadow.cluster.serving.work import precision_of
from rainshadow.cost.serving_plans import serving_table
from rainshadow.errors import InputError, NotModelled
from rainshadow.machine import load_site, load_system
from rainshadow.sources import Picker


def job(name="llama_3_1_8b", **changes) -> Job:
    return Job(
        model=load_model(name), precision=precision_of("bf16"),
        request=Request(prompt=1024, output=128), **changes,
    )  # fmt: skip


def table(what: Job, *systems: str, objective="throughput", prices=None):
    return serving_table(
        what, [load_system(name) for name in systems], objective=objective,
        site=load_site("aws_fleet"), prices=prices or {},
    )  # fmt: skip


@pytest.mark.parametrize("system", ["trn2_48xlarge", "p5en_48xlarge", "tpu_v6e_pod"])
@pytest.mark.parametrize("name", ["llama_3_1_8b", "gpt_oss_20b"])
def test_every_deployment_keeps_the_promise_and_fits(system, name):
    promise = Promise(ttft_s=2.0, tpot_s=0.05)
    what = job(name, promise=promise, modes=("continuous", "chunked", "disaggregated"))
    found, refusal = deployments(what, load_system(system))
    assert refusal is None
    for entry in found:
        assert entry.ttft_s.value <= promise.ttft_s
        assert entry.tpot_s.value <= promise.tpot_s
        assert entry.memory_bytes <= entry.capacity_bytes * (1 + 1e-9)
        assert entry.batch <= entry.max_batch
        assert entry.tokens_per_s.low <= entry.tokens_per_s.value <= entry.tokens_per_s.high
    rates = [entry.tokens_per_s_per_chip.value for entry in found]
    assert rates == sorted(rates, reverse=True)


def test_the_best_batch_is_the_best_of_all_that_keep_the_promise():
    what = job(promise=Promise(tpot_s=0.03))
    for way in ways(what, load_system("p5_48xlarge")):
        best, served = best_of_way(what, way)
        if best is None or way.mode == "disaggregated":
            continue
        good = served.time_per_output_token_s <= 0.03
        assert best.tokens_per_s.value == pytest.approx(served.output_tokens_per_s[good].max())
        assert best.batch in batches_up_to(best.max_batch)


def test_a_stricter_promise_never_gives_more_tokens():
    rates = [
        table(job(promise=Promise(tpot_s=limit)), "p5_48xlarge").plans[0].value("throughput")
        for limit in (0.1, 0.03, 0.015, 0.01)
    ]
    assert rates == sorted(rates)


def test_what_binds_is_said_with_its_excess():
    with pytest.raises(InputError, match="--tpot") as caught:
        table(job("llama_3_1_405b", promise=Promise(tpot_s=0.001)), "p5en_48xlarge")
    assert "times as much" in str(caught.value)
    with pytest.raises(InputError, match="each chip of the largest replica lacks"):
        table(job("llama_3_1_405b"), "trn2_chip")
    with pytest.raises(NotModelled, match="no plan has a known cost"):
        table(job(), "gaudi3_node", objective="cost")


def test_speculation_needs_room_for_its_draft():
    draft = load_model("llama_3_1_8b")
    what = job("llama_3_1_70b", modes=("continuous",))
    with_draft = dataclasses.replace(what, modes=("speculative",), draft=draft)
    system = load_system("p5_48xlarge")
    room = {way.replica.chips: best_of_way(what, way)[0] for way in ways(what, system)}
    for way in ways(with_draft, system):
        best, _ = best_of_way(with_draft, way)
        plain = room[way.replica.chips]
        assert (best.max_batch if best else 0) <= (plain.max_batch if plain else 0)


def test_neurons_experts_compute_whole_blocks_and_all_experts():
    what = job("gpt_oss_120b")
    way = next(w for w in ways(what, load_system("trn2_48xlarge")) if w.replica.chips == 4)
    from rainshadow.cluster.serving.plan import _serving
    from rainshadow.sources import Ledger

    neuron = _serving(what, way, Picker(Ledger()))
    exact = dataclasses.replace(neuron, rates=dataclasses.replace(neuron.rates, expert_block=1))
    # 512 tokens to 4 of 128 experts each: ceil(2048 / 512) + 127 blocks of 512 tokens.
    assert neuron._padding(512) == pytest.approx(131 * 512 / 2048)
    assert neuron.prefill_work_s(512) > exact.prefill_work_s(512)
    few, many = np.array([8.0]), np.array([64.0])
    assert neuron._computed_by_experts(few) == few
    assert neuron._computed_by_experts(many) == many * 32
    assert exact._computed_by_experts(many) == many
