"""Each way to divide a step, against the formula or the figure it was published with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rainshadow.cluster.layout import CONTEXT_METHODS, OFFLOADS, SCHEDULES, Workload, layout_of
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.network import Links, links_of, place
from rainshadow.cluster.parallelism import context, expert, offload, pipeline, tensor, zero
from rainshadow.cluster.predict import machine_of, step_times
from rainshadow.cluster.sizing import sized
from rainshadow.machine import load_system
from rainshadow.sources import Ledger, Picker

LLAMA = load_model("llama_3_1_8b")


def links(name: str, chips: int) -> Links:
    return links_of(sized(load_system(name), chips), Picker(Ledger()), achieved=True)


def schedule(name: str) -> int:
    return SCHEDULES.index(name)


@pytest.mark.parametrize("stages", [2, 4, 16])
def test_bubbles_are_the_papers(stages):
    """Narayanan et al.: (p-1)/v. Qi et al., ZB-H1: a third. DeepSeek-V3: (p/2-1)(FB + B - 3W)."""
    bubble = pipeline.bubble_micro_batches
    assert bubble(stages, 1, schedule("1f1b")) == stages - 1
    assert bubble(stages, 4, schedule("1f1b")) == (stages - 1) / 4
    assert bubble(stages, 1, schedule("zero_bubble")) == pytest.approx((stages - 1) / 3)
    forward, backward, weights = 1, 2, 1
    dual = (stages / 2 - 1) * (forward + backward + backward - 3 * weights)
    found = bubble(stages, 1, schedule("dual_pipe"))
    assert found == pytest.approx(dual / (forward + backward))


def test_gpipe_keeps_every_micro_batch_and_1f1b_one_a_stage():
    assert pipeline.in_flight(8, 1, 64, schedule("gpipe")) == 64
    assert pipeline.in_flight(8, 1, 64, schedule("1f1b")) == 8
    assert pipeline.in_flight(8, 1, 4, schedule("1f1b")) == 4
    # DeepSeek-V3, table 2: one micro-batch's activations more than 1F1B.
    assert pipeline.in_flight(8, 1, 64, schedule("dual_pipe")) == 9


def test_a_ring_hides_behind_attention_and_a_gather_does_not():
    ring, gather = (CONTEXT_METHODS.index(name) for name in ("ring", "all_gather"))
    assert context.exposed_s(2.0, 3.0, ring, 4) == 0
    assert context.exposed_s(2.0, 0.5, ring, 4) == 1.5
    assert context.exposed_s(2.0, 3.0, gather, 4) == 2
    assert context.exposed_s(2.0, 3.0, gather, 1) == 0


def test_context_parallel_ranks_receive_all_others_keys_and_values():
    """(c-1)/c of 2 x kv heads x head width values of the whole sequence, in 16 bits."""
    net = dataclasses.replace(links("dgx_h100_ib", 8), message_s=0.0, ramp_s=0.0)
    degree, rows = 8, 4096
    width = 2 * LLAMA.kv_heads * LLAMA.head_dim
    found = context.layer_s(net, rows, width, degree, 1)
    rate = net.axes[0].injection_bytes_per_s
    moved = (degree - 1) * rows * width * 2 / rate
    assert found == pytest.approx(moved + 7 * net.axes[0].latency_s, rel=1e-6)


def test_sequence_parallelism_moves_the_bytes_of_the_two_sums():
    """Korthikanti et al.: reduce-scatter and all-gather are an all-reduce's two halves."""
    net = links("dgx_a100", 8)
    sums, pairs = (tensor.layer_s(net, 8192, 12288, 8, spread) for spread in (False, True))
    assert pairs == pytest.approx(sums, rel=1e-6)


def test_hybrid_shards_gather_inside_and_sum_their_eighth_between():
    net = links("dgx_h100_ib", 64)
    gradients = 16e9
    hybrid = zero.gather_s(net, gradients, 64, 1, 8)
    assert hybrid == pytest.approx(zero.gather_s(net, gradients, 8, 1, 0))
    assert hybrid <= zero.gather_s(net, gradients, 64, 1, 0)
    scattered = zero.scatter_s(net, gradients, 64, 1, 8) - zero.scatter_s(net, gradients, 8, 1, 0)
    eighth = gradients / 8 / net.outer_bandwidth_bytes_per_s
    assert scattered == pytest.approx(2 * 7 / 8 * eighth, rel=0.05)


def test_zero_three_moves_half_as_much_again():
    """Rajbhandari et al., section 7: stages 1 and 2 send 2 parameters' worth, stage 3 sends 3."""
    system = sized(load_system("dgx_h100_ib"), 64)
    machine = machine_of(system)
    one_batch = Workload(sequence=8192, global_batch=64)
    wanted = []
    for stage in (2, 3):
        layout = layout_of(data_parallel=64, zero=stage, overlap_data=False)
        wanted.append(float(step_times(LLAMA, machine, layout, one_batch)[0].data))
    assert machine.software.bf16_gradients
    assert wanted[1] == pytest.approx(1.5 * wanted[0], rel=1e-6)


def test_a_token_crosses_once_to_a_domain_that_holds_several_of_its_experts():
    """d (1 - (1 - 1/d)^k) domains are reached by k experts drawn evenly over d."""
    net = links("dgx_h100_ib", 64)
    rng = np.random.default_rng(0)
    top_k, domains, home = 8, 8, 0
    drawn = rng.integers(0, domains, (20000, top_k))
    crossed = np.mean([len(set(row.tolist()) - {home}) for row in drawn])
    plain = np.mean((drawn != home).sum(axis=1))
    rows, hidden = 8192, 7168
    inside = expert.layer_s(net, rows, hidden, top_k, 8, 1)
    outside = expert.layer_s(net, rows, hidden, top_k, 64, 1)
    assert outside > inside
    leaving = rows * top_k * hidden * 2 * plain / top_k * crossed / plain
    assert outside == pytest.approx(2 * leaving / net.outer_bandwidth_bytes_per_s, rel=0.03)
    assert place(net, 64, 1).domains == domains


def test_offloaded_state_crosses_twice_and_half_of_the_activations():
    codes = {name: OFFLOADS.index(name) for name in OFFLOADS}
    crossing = {
        name: float(offload.crossing_s(code, 6e9, 4e9, 1e9)) for name, code in codes.items()
    }
    assert crossing["none"] == 0
    assert crossing["optimizer"] == 12
    assert crossing["activations"] == 4
    assert crossing["optimizer_and_activations"] == 16


@pytest.mark.parametrize("name", ["b200", "gb300"])
def test_narrower_matmuls_are_faster_by_less_than_their_peaks(name):
    system = sized(load_system({"b200": "dgx_b200", "gb300": "gb300_nvl72"}[name]), 8)
    machine = machine_of(system)
    seconds = {}
    for precision in ("bfloat16", "float8", "mxfp8", "nvfp4"):
        layout = layout_of(data_parallel=8, zero=3, micro_batch=2, precision=precision)
        workload = Workload(sequence=8192, global_batch=128)
        seconds[precision] = float(step_times(LLAMA, machine, layout, workload)[0].total)
    assert seconds["nvfp4"] < seconds["mxfp8"] < seconds["bfloat16"]
    assert seconds["float8"] < seconds["bfloat16"] < 2 * seconds["float8"]
    assert seconds["bfloat16"] < 4 * seconds["nvfp4"]
