"""Laws of the search: no bound is beaten, pruning loses nothing, members are counted once."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rainshadow.cluster.feasibility import fits, possible
from rainshadow.cluster.layout import Layout, Workload
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.planner.bound import lower_bounds
from rainshadow.cluster.planner.search import fastest_member, search
from rainshadow.cluster.planner.space import Choices, Space
from rainshadow.cluster.predict import machine_of, step_times
from rainshadow.cluster.sizing import sized
from rainshadow.machine import load_system

SYSTEMS = ("dgx_a100", "trn2_ultraserver", "tpu_v5p_pod", "mi300x_node", "gb200_nvl72")


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces: shrunken models on few chips, with a random part of the choices."""
    model = load_model(draw(st.sampled_from(["llama_3_1_8b", "mixtral_8x7b", "gpt_1_7b"])))
    layers = draw(st.sampled_from([2, 3, 6, 8]))
    moe = model.moe
    if moe is not None:
        moe = dataclasses.replace(moe, experts=8, dense_layers=min(moe.dense_layers, layers))
    scale = draw(st.sampled_from([1, 4]))
    model = dataclasses.replace(
        model, layers=layers, hidden=model.hidden * scale, ffn=model.ffn * scale, moe=moe
    )
    system = sized(load_system(draw(st.sampled_from(SYSTEMS))), draw(st.sampled_from([4, 8, 16])))
    workload = Workload(
        sequence=draw(st.sampled_from([512, 8192])), global_batch=draw(st.sampled_from([8, 48]))
    )
    subset = st.sets(st.integers(0, 3), min_size=1).map(sorted)
    return Space(
        model,
        system,
        workload,
        Choices(
            schedules=draw(subset),
            zero=draw(subset),
            hsdp=draw(st.booleans()),
            recompute=draw(st.sets(st.integers(0, 2), min_size=1).map(sorted)),
            offload=draw(st.sets(st.integers(0, 2), min_size=1).map(sorted)),
            sequence_parallel=draw(st.sampled_from([(False,), (True,), (False, True)])),
        ),
    )


@settings(max_examples=25, deadline=None)
@given(spaces())
def test_the_pruned_search_finds_what_brute_force_finds(space):
    quick, slow = search(space, top=3), search(space, top=3, prune=False)
    assert [entry.step_s for entry in quick.found] == [entry.step_s for entry in slow.found]
    proof = quick.proof
    assert proof.complete
    assert proof.evaluated + proof.ruled_out + proof.without_memory == proof.members
    assert slow.proof.evaluated == slow.proof.members == proof.members


@settings(max_examples=25, deadline=None)
@given(spaces())
def test_no_member_beats_its_familys_bound(space):
    machine = machine_of(space.system)
    bounds = lower_bounds(space, machine, space.families)
    for family, bound in zip(space.families, bounds, strict=True):
        seconds, _ = fastest_member(space, machine, family)
        assert bound <= seconds


def _small(name: str, system: str, chips: int, workload: Workload, **choices) -> Space:
    model = dataclasses.replace(load_model(name), layers=8)
    if model.moe is not None:
        model = dataclasses.replace(model, moe=dataclasses.replace(model.moe, experts=8))
    return Space(model, sized(load_system(system), chips), workload, Choices(**choices))


@pytest.mark.parametrize(
    "space",
    [
        # One stage a chip leaves no replica to share weights with, whatever stage is asked for.
        _small("gpt_1_7b", "dgx_a100", 8, Workload(sequence=512, global_batch=8), zero=[3]),
        # Dual pipe hides the experts' traffic that other schedules show.
        _small(
            "mixtral_8x7b",
            "mi300x_node",
            16,
            Workload(sequence=4096, global_batch=64),
            schedules=[2],
            pipeline=[2],
            zero=[1],
            expert=[8],
        ),
    ],
    ids=["no replicas", "dual pipe"],
)
def test_the_bound_knows_choices_that_mean_something_else_in_some_families(space):
    machine = machine_of(space.system)
    bounds = lower_bounds(space, machine, space.families)
    for family, bound in zip(space.families, bounds, strict=True):
        assert bound <= fastest_member(space, machine, family)[0]


@settings(max_examples=10, deadline=None)
@given(spaces())
def test_members_are_distinct_possible_and_fit_one_by_one(space):
    machine = machine_of(space.system)
    for family in space.families[:3]:
        axes = space.axes(family)
        count = int(np.prod([len(values) for values in axes.values()]))
        step = max(1, count // 40)
        picked = [space.member(family, index) for index in range(0, count, step)]
        assert len(set(picked)) == len(picked)
        table = space.table(family)
        allowed = np.broadcast_to(
            space.allowed(table), [len(values) for values in axes.values()]
        ).ravel()
        assert space.size(family) == allowed.sum()
        times, _ = step_times(space.model, machine, table, space.workload)
        whole = np.broadcast_to(times.total, [len(values) for values in axes.values()]).ravel()
        for index, layout in zip(range(0, count, step), picked, strict=True):
            alone = possible(space.model, space.system, layout, space.workload)
            assert bool(alone) == allowed[index]
            single, _ = step_times(space.model, machine, layout, space.workload)
            assert float(single.total) == pytest.approx(whole[index], rel=1e-12)
        best, index = fastest_member(space, machine, family)
        if np.isfinite(best):
            _, used = step_times(space.model, machine, space.member(family, index), space.workload)
            assert fits(used, space.system)


def test_families_are_all_choices_of_degrees_that_the_rules_allow():
    space = Space(
        load_model("mixtral_8x7b"),
        sized(load_system("dgx_a100"), 16),
        Workload(sequence=4096, global_batch=32),
    )
    found = {(f.tensor, f.pipeline, f.context, f.expert, f.data) for f in space.families}
    powers = [1, 2, 4, 8, 16]
    expected = set()
    for tensor, pipe, con, expert, data in itertools.product(powers, repeat=5):
        layout = Layout(
            tensor_parallel=tensor,
            pipeline_parallel=pipe,
            context_parallel=con,
            expert_parallel=expert,
            data_parallel=data,
        )
        if possible(space.model, space.system, layout, space.workload):
            expected.add((tensor, pipe, con, expert, data))
    assert found == expected
