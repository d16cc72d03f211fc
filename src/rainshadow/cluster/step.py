"""One training step on a whole system, weakly scaled: every worker does what one core did.

Trainium: the simulated step of one NeuronCore plus the exposed part of the gradient sum. GPUs: a
roofline for the same work, because no simulated kernel exists for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow.cluster.network import links_of
from rainshadow.cluster.parallelism.data import exposed_s, gradient_sum_s, workers
from rainshadow.errors import NotModelled
from rainshadow.machine import Chip, System
from rainshadow.sources import GRADES, SCENARIOS, Estimate, Ledger, Picker

LEFT_OUT_TRAINIUM = (
    "weak scaling only: every core repeats the simulated step on its own part of a larger batch",
    "no contention of the chip's cores for HBM during compute",
    "the simulated time has no range of its own: its figures' ranges are not propagated through it",
    "no stragglers, failures, checkpoints or data loading",
    "no public table of Trainium 2 training exists to hold it against",
)
LEFT_OUT_GPU = (
    "a roofline: the best measured matmul rate and the HBM rate, no launch or kernel latency, so "
    "small models look far better here than they run",
)
#: AdamW reads weight, gradient and two moments and writes weight and moments, 4 bytes each.
_OPTIMIZER_BYTES_PER_PARAMETER = 7 * 4
_GRADIENT_BYTES_PER_PARAMETER = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProfile:
    """What one worker does in a step.

    step_s, backward_s: simulated time on one NeuronCore.  flops: model matmul work.
    tokens: loss targets.  num_parameters: trained.  dtype: of the matmuls.
    """

    name: str
    step_s: float
    backward_s: float
    flops: float
    tokens: int
    num_parameters: int
    dtype: str = "bfloat16"

    @property
    def gradient_bytes(self) -> float:
        return float(self.num_parameters * _GRADIENT_BYTES_PER_PARAMETER)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStep:
    """The step on a system. exposed_fraction: share of the step spent waiting for gradients."""

    system: System
    workers: int
    step_s: Estimate
    sum_s: float
    algorithm: str
    exposed_fraction: float
    tokens_per_s: Estimate
    ledger: Ledger
    left_out: tuple[str, ...]


def step_on(profile: StepProfile, system: System, seen_on: Chip) -> ClusterStep:
    """The profile's step on a system. seen_on: the chip it was simulated on.

    Errors: `NotModelled` for a Trainium system of another generation than the simulated chip, and
    for a chip without the figures a roofline needs.
    """
    if system.chip.core is not None and system.chip.name != seen_on.name:
        raise NotModelled(
            f"{system.name} has {system.chip.name}; the step was simulated on {seen_on.name}",
            fix=f"port with --chip {system.chip.name}",
        )
    ledger = Ledger()
    rows = [_scenario(profile, system, Picker(ledger, name)) for name in SCENARIOS]
    central = rows[0]
    # A simulated or roofline time is derived at best, whatever its figures are.
    grade = max("derived", ledger.grade, key=GRADES.index)
    times = [row[0] for row in rows]
    tokens = profile.tokens * central[3]
    is_gpu = system.chip.core is None
    return ClusterStep(
        system=system,
        workers=central[3],
        step_s=Estimate.over(times, grade),
        sum_s=central[1],
        algorithm=central[4],
        exposed_fraction=central[2] / times[0] if times[0] else 0.0,
        tokens_per_s=Estimate.over([tokens / time for time in times], grade),
        ledger=ledger,
        left_out=LEFT_OUT_GPU if is_gpu else LEFT_OUT_TRAINIUM,
    )


def _scenario(
    profile: StepProfile, system: System, pick: Picker
) -> tuple[float, float, float, int, str]:
    """(step s, gradient sum s, exposed s, workers, algorithm) in one scenario."""
    chip = system.chip
    links = links_of(system, pick)
    hbm = pick.higher_is_better(chip.hbm.bandwidth, f"{chip.name} HBM bandwidth")
    if chip.core is None:
        compute, backward, cores = *_roofline(profile, chip, pick, hbm), 1
    else:
        cores = int(pick.ledger.use(chip.core.count, f"{chip.name} cores"))
        compute, backward = profile.step_s, profile.backward_s
    total, algorithm = gradient_sum_s(profile.gradient_bytes, links, cores, hbm)
    exposed = exposed_s(total, backward, pick.scenario)
    return compute + exposed, total, exposed, workers(links.num_chips, cores), algorithm


def _roofline(profile: StepProfile, chip: Chip, pick: Picker, hbm: float) -> tuple[float, float]:
    """(step, backward) seconds: matmuls at the achievable rate, or the optimizer's bytes."""
    peak = chip.peak_flops.get(profile.dtype)
    fraction = chip.achievable_matmul_fraction
    if peak is None or fraction is None:
        raise NotModelled(
            f"{chip.name} has no {profile.dtype} peak or no achievable_matmul_fraction",
            fix=f"add it to data/machines/{chip.name}.toml with its source",
        )
    rate = pick.higher_is_better(peak, f"{chip.name} {profile.dtype} peak")
    rate *= pick.higher_is_better(fraction, f"{chip.name} achievable matmul fraction")
    matmuls = profile.flops / rate
    optimizer = profile.num_parameters * _OPTIMIZER_BYTES_PER_PARAMETER / hbm
    # Of a step's matmuls one part is forward and two are backward.
    return matmuls + optimizer, matmuls * 2 / 3
