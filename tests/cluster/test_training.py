"""The step model: tables agree with single layouts, times add up, memory by hand, known shapes."""

from __future__ import annotations

import numpy as np
import pytest

from rainshadow.cluster.feasibility import broken_rules
from rainshadow.cluster.layout import Layout, Workload, layout_of
from rainshadow.cluster.model_files import load_model
from rainshadow.cluster.predict import NO_TRAINIUM2_TABLE, machine_of, predict_training, step_times
from rainshadow.cluster.sizing import sized
from rainshadow.errors import InputError, NotModelled
from rainshadow.machine import load_system

GPT3 = load_model("gpt3_175b")
H100 = sized(load_system("dgx_h100_ib"), 1024)
WORKLOAD = Workload(sequence=2048, global_batch=2048)


def layout(**choices):
    return layout_of(
        **{"tensor_parallel": 8, "pipeline_parallel": 8, "data_parallel": 16, **choices}
    )


def seconds(model, system, chosen, workload=WORKLOAD):
    return float(predict_training(model, system, chosen, workload).step_s)


def test_a_table_of_layouts_is_its_rows():
    table = Layout(
        tensor_parallel=np.array([1, 2, 4, 8, 8]),
        pipeline_parallel=np.array([8, 8, 8, 8, 4]),
        data_parallel=np.array([128, 64, 32, 16, 32]),
        recompute=np.array([0, 1, 2, 2, 1]),
        zero=np.array([0, 1, 2, 1, 0]),
        micro_batch=np.array([1, 2, 1, 4, 1]),
    )
    machine = machine_of(H100)
    times, memory = step_times(GPT3, machine, table, WORKLOAD)
    for index in range(table.size):
        row_times, row_memory = step_times(GPT3, machine, table.row(index), WORKLOAD)
        assert float(row_times.total) == pytest.approx(times.total[index])
        assert float(row_memory.total) == pytest.approx(memory.total[index])


@pytest.mark.parametrize("model", ["gpt3_175b", "deepseek_v3", "gpt_oss_120b", "llama_2_70b"])
def test_the_parts_add_up_and_none_is_negative(model):
    answer = predict_training(load_model(model), H100, layout(), WORKLOAD)
    parts = {name: float(value) for name, value in answer.times.parts().items()}
    assert sum(parts.values()) == pytest.approx(float(answer.step_s))
    assert min(parts.values()) >= 0
    assert answer.low_s < answer.step_s < answer.high_s


def test_no_step_is_faster_than_the_peak():
    answer = predict_training(GPT3, H100, layout(), WORKLOAD)
    assert 0 < float(answer.mfu) < 1


def test_the_bubble_of_1f1b_and_of_interleaving():
    """(p - 1) / m of the busy time; virtual stages divide it."""
    count = 2048 / 16
    plain = predict_training(GPT3, H100, layout(), WORKLOAD).times
    busy = float(plain.bubble) / 7 * count
    assert busy < float(plain.total)
    interleaved = predict_training(GPT3, H100, layout(virtual_stages=4), WORKLOAD).times
    assert float(interleaved.bubble) == pytest.approx(float(plain.bubble) / 4, rel=0.05)


def test_recomputation_trades_time_for_memory():
    kept, some, full = (
        predict_training(GPT3, H100, layout(recompute=mode), WORKLOAD)
        for mode in ("none", "selective", "full")
    )
    assert kept.step_s < some.step_s < full.step_s
    assert kept.memory.activations > some.memory.activations > full.memory.activations


def test_state_of_a_dense_model_by_hand():
    """Llama 3.1 8B on one GPU, nothing shared: 2 + 2 + 12 bytes a parameter in bf16 NeMo."""
    model = load_model("llama_3_1_8b")
    one = sized(load_system("dgx_h100_ib"), 1)
    answer = predict_training(model, one, Layout(zero=0), Workload(sequence=2048, global_batch=8))
    memory = answer.memory
    state = memory.weights + memory.gradients + memory.optimizer
    assert float(state) == pytest.approx(model.num_parameters * 16, rel=1e-3)
    assert not answer.fits


def test_zero_stages_share_out_state_gradients_and_weights():
    model = load_model("llama_3_1_8b")
    system = sized(load_system("dgx_h100_ib"), 64)
    workload = Workload(sequence=8192, global_batch=64)
    parts = [
        predict_training(model, system, Layout(data_parallel=64, zero=stage), workload).memory
        for stage in range(4)
    ]
    assert parts[0].optimizer == pytest.approx(64 * parts[1].optimizer)
    assert parts[1].gradients == pytest.approx(64 * parts[2].gradients)
    assert parts[2].weights == pytest.approx(64 * parts[3].weights)


def test_ultraserver_predictions_say_that_no_public_table_exists():
    system = sized(load_system("trn2_ultraserver"), 64)
    answer = predict_training(
        load_model("llama_3_1_8b"),
        system,
        layout_of(tensor_parallel=4, data_parallel=16),
        Workload(sequence=8192, global_batch=128),
    )
    assert NO_TRAINIUM2_TABLE in answer.notes


def test_a_host_processor_is_never_planned_on():
    from dataclasses import replace

    from rainshadow.machine import load_chip

    with pytest.raises(NotModelled, match="host processor"):
        machine_of(replace(H100, chip=load_chip("rhea1")), machine_of(H100).software)


def test_impossible_layouts_say_what_they_break():
    wrong = layout_of(tensor_parallel=7, pipeline_parallel=8, data_parallel=16)
    broken = broken_rules(GPT3, H100, wrong, WORKLOAD)
    assert any("96 heads" in rule for rule in broken)
    assert any("1024 chips" in rule for rule in broken)
    assert broken_rules(GPT3, H100, layout(), WORKLOAD) == []


@pytest.mark.parametrize(
    ("name", "chips", "shape", "domains"),
    [
        ("gb200_nvl72", 64, [64], 1),
        ("gb200_nvl72", 2560, [64], 40),
        ("tpu_v5p_pod", 512, [8, 8, 8], 1),
        ("tpu_v5e_pod", 512, [16, 16], 2),
        ("trn2_ultraserver", 128, [4, 4, 4], 2),
    ],
)
def test_a_part_of_a_system_is_wired_as_it_would_be(name, chips, shape, domains):
    system = sized(load_system(name), chips)
    assert [axis.size for axis in system.axes] == shape
    assert system.domains == domains
    assert system.num_chips == chips


def test_a_count_that_no_part_has_is_refused():
    with pytest.raises(InputError, match="whole domains"):
        sized(load_system("trn2_ultraserver"), 100)
    with pytest.raises(InputError, match="a box inside"):
        sized(load_system("tpu_v5e_pod"), 34)
