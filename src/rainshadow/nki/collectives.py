"""The `nki.collectives` names: what ranks exchange, executed by all ranks of a launch together.

`nki.simulate(kernel, ranks=4)` launches ranks; a plain launch is one rank. Source of the names,
signatures and rules: AWS Neuron docs 2.32, nki.collectives API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern as NkiTensor
from rainshadow.isa.collective import Gather
from rainshadow.isa.instructions.all_gather import AllGather
from rainshadow.isa.instructions.all_gather_v import AllGatherV
from rainshadow.isa.instructions.all_reduce import AllReduce
from rainshadow.isa.instructions.all_to_all import AllToAll
from rainshadow.isa.instructions.all_to_all_v import AllToAllV
from rainshadow.isa.instructions.collective_permute import CollectivePermute
from rainshadow.isa.instructions.collective_permute_implicit import CollectivePermuteImplicit
from rainshadow.isa.instructions.collective_permute_implicit_reduce import (
    CollectivePermuteImplicitReduce,
)
from rainshadow.isa.instructions.reduce_scatter import ReduceScatter
from rainshadow.isa.memory import Space
from rainshadow.isa.operators import alu_operator
from rainshadow.nki.isa._arguments import checked, is_whole
from rainshadow.nki.isa._issue import issue
from rainshadow.nki.registers import VirtualRegister
from rainshadow.sim.recorder import Recorder, active_recorder


class ReplicaGroup:
    """Groups of ranks that communicate: ReplicaGroup([[0, 1], [2, 3]]).

    Errors: `NkiValidationError` for anything but lists of ranks without overlap.
    """

    def __init__(self, replica_groups: Any) -> None:
        self.replica_groups = replica_groups
        self.groups = _groups(replica_groups)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplicaGroup) and self.groups == other.groups

    def __hash__(self) -> int:
        return hash(self.groups)

    def __repr__(self) -> str:
        return f"ReplicaGroup({[list(group) for group in self.groups]})"


def _groups(given: Any) -> tuple[tuple[int, ...], ...]:
    try:
        groups = tuple(tuple(int(rank) for rank in group) for group in given)
    except (TypeError, ValueError):
        groups = ()
    ranks = [rank for group in groups for rank in group]
    if not ranks or any(not group for group in groups) or min(ranks) < 0:
        raise NkiValidationError(
            f"ReplicaGroup({given!r})", allowed="lists of ranks, such as [[0, 1], [2, 3]]"
        )
    if len(set(ranks)) < len(ranks):
        twice = next(rank for rank in ranks if ranks.count(rank) > 1)
        raise NkiValidationError(
            f"ReplicaGroup({given!r}) names rank {twice} twice", allowed="groups without overlap"
        )
    return groups


@dataclass(frozen=True, slots=True)
class _Group:
    """The group of the rank that runs, and the rank's place in it."""

    ranks: tuple[int, ...]
    position: int


def _group_of(recorder: Recorder, replica_group: Any) -> _Group:
    """Errors: `NkiValidationError` where this rank is in no group, or one is not launched."""
    if not isinstance(replica_group, ReplicaGroup):
        raise NkiValidationError(
            f"replica_group is {type(replica_group).__name__}", allowed="an ncc.ReplicaGroup"
        )
    me = recorder.cores.rank
    found = next((group for group in replica_group.groups if me in group), None)
    if found is None:
        raise NkiValidationError(
            f"rank {me} is in no group of {replica_group}", allowed="every rank that calls it"
        )
    _require_launched(recorder, found)
    return _Group(found, found.index(me))


def _require_launched(recorder: Recorder, ranks: Iterable[int]) -> None:
    count = recorder.cores.ranks.count
    absent = [rank for rank in ranks if not 0 <= rank < count]
    if absent:
        raise NkiValidationError(
            f"rank {absent[0]} takes part, and the launch has "
            + ("one rank" if count == 1 else f"ranks 0 to {count - 1}"),
            allowed="ranks of the launch",
            fix=f"launch with nki.simulate(kernel, ranks={max(absent) + 1})",
        )


def _gather(
    recorder: Recorder,
    group: _Group,
    what: str,
    views: Sequence[Any],
    detail: tuple[Any, ...] | None,
) -> Gather:
    """How the group meets: all cores of its ranks where a tensor is in HBM that cores share.

    Then both cores of a rank have done their part of the tensor when it is taken; tensors of a
    core's own go to the cores of the same number.  detail: what must be equal on all ranks, as the
    shapes must; None where every rank may have its own.
    """
    cores, ranks = recorder.cores, recorder.cores.ranks
    shared = any(isinstance(view, NkiTensor) and view.space is Space.shared_hbm for view in views)
    numbers = range(cores.count) if shared else (recorder.program_id,)
    members = [rank * cores.count + number for rank in group.ranks for number in numbers]
    me, where = cores.physical(recorder.program_id), recorder.line()
    equal: tuple[Any, ...] = ()
    if detail is not None:
        shapes = [(view.shape, view.dtype) for view in views if isinstance(view, NkiTensor)]
        equal = (*detail, *shapes)

    def gather(bring: Callable[[], Any]) -> list[Any]:
        brought = ranks.meet(me, members, what, equal, bring, where)
        mine = list(numbers).index(recorder.program_id)
        return brought[mine :: len(numbers)]

    return gather


def _common(
    recorder: Recorder,
    group: _Group,
    what: str,
    srcs: Any,
    dsts: Any,
    priority: int | None,
    detail: tuple[Any, ...] | None,
) -> dict[str, Any]:
    """Fields that all collective instructions have."""
    views = (*_listed(what, "srcs", srcs), *_listed(what, "dsts", dsts))
    return {
        "srcs": tuple(srcs),
        "dsts": tuple(dsts),
        "gather": _gather(recorder, group, what, views, detail),
        "position": group.position,
        "group_size": len(group.ranks),
        "lnc": recorder.cores.count,
        "priority": priority,
    }


def _listed(what: str, name: str, given: Any) -> Sequence[Any]:
    """Errors: `NkiValidationError` for anything but a list; a tensor with rows is none."""
    if not isinstance(given, list | tuple):
        raise NkiValidationError(
            f"{what}: {name} is of type {type(given).__name__}", allowed="a list of NKI tensors"
        )
    return given


def _by_channel(name: str, given: Any) -> list[Any]:
    """The tensor of each channel."""
    for channel, tensors in enumerate(_listed(name, "the channels", given)):
        if len(_listed(name, f"channel {channel}", tensors)) != 1:
            raise NkiValidationError(
                f"{name}: channel {channel} has {len(tensors)} tensors", allowed="exactly one"
            )
    return [tensors[0] for tensors in given]


def all_reduce(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    op: Any,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = srcs reduced by op over the ranks of the group."""
    recorder, reducer = active_recorder(), alu_operator(op)
    group = _group_of(recorder, replica_group)
    fields = _common(recorder, group, "all_reduce", srcs, dsts, priority, (reducer.name,))
    issue(AllReduce(**fields, op=reducer))


def all_gather(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = the srcs of all ranks of the group, joined along collective_dim."""
    recorder, dim = active_recorder(), int(collective_dim)
    group = _group_of(recorder, replica_group)
    fields = _common(recorder, group, "all_gather", srcs, dsts, priority, (dim,))
    issue(AllGather(**fields, collective_dim=dim))


def all_gather_v(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = slots with one chunk of every rank; the metadata tensor says how long each is."""
    recorder = active_recorder()
    group = _group_of(recorder, replica_group)
    fields = _common(recorder, group, "all_gather_v", srcs, dsts, priority, None)
    issue(
        AllGatherV(
            **fields,
            metadata=metadata_tensor,
            recv_counts_known=bool(recv_counts_known),
            has_rdispls=bool(has_rdispls),
        )
    )


def reduce_scatter(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    op: Any,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = this rank's part of srcs reduced by op over the ranks of the group."""
    recorder, reducer, dim = active_recorder(), alu_operator(op), int(collective_dim)
    group = _group_of(recorder, replica_group)
    detail = (reducer.name, dim)
    fields = _common(recorder, group, "reduce_scatter", srcs, dsts, priority, detail)
    issue(ReduceScatter(**fields, op=reducer, collective_dim=dim))


def all_to_all(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    collective_dim: int,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = this rank's part of the srcs of every rank of the group, in their order."""
    recorder, dim = active_recorder(), int(collective_dim)
    group = _group_of(recorder, replica_group)
    fields = _common(recorder, group, "all_to_all", srcs, dsts, priority, (dim,))
    issue(AllToAll(**fields, collective_dim=dim))


def all_to_all_v(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    replica_group: ReplicaGroup,
    metadata_tensor: NkiTensor,
    recv_counts_known: bool = False,
    has_rdispls: bool = False,
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """dsts = slots with the chunk that each rank has for this one; sizes in the metadata tensor."""
    recorder = active_recorder()
    group = _group_of(recorder, replica_group)
    fields = _common(recorder, group, "all_to_all_v", srcs, dsts, priority, None)
    issue(
        AllToAllV(
            **fields,
            metadata=metadata_tensor,
            recv_counts_known=bool(recv_counts_known),
            has_rdispls=bool(has_rdispls),
        )
    )


def collective_permute(
    srcs: list[NkiTensor],
    dsts: list[NkiTensor],
    source_target_pairs: list[tuple[int, int]],
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """Send srcs from the first to the second rank of each pair."""
    recorder = active_recorder()
    pairs = _pairs(source_target_pairs)
    ranks = tuple(sorted({rank for pair in pairs for rank in pair}))
    me = recorder.cores.rank
    if me not in ranks:
        return  # this rank neither sends nor receives
    _require_launched(recorder, ranks)
    group = _Group(ranks, ranks.index(me))
    sources = [source for source, target in pairs if target == me]
    fields = _common(recorder, group, "collective_permute", srcs, dsts, priority, pairs)
    source = ranks.index(sources[0]) if sources else -1
    issue(CollectivePermute(**fields, source=source, receives=bool(sources)))


def _pairs(given: Any) -> tuple[tuple[int, int], ...]:
    """Errors: `NkiValidationError` where a rank sends or receives more than once."""
    pairs = tuple((int(source), int(target)) for source, target in given)
    for index, role in enumerate(("source", "target")):
        ranks = [pair[index] for pair in pairs]
        if len(set(ranks)) < len(ranks) or not ranks:
            raise NkiValidationError(
                f"collective_permute: source_target_pairs {list(given)}",
                allowed=f"one pair or more, each rank at most once as {role}",
            )
    return pairs


def collective_permute_implicit(
    srcs_by_channel: list[list[NkiTensor]],
    dsts_by_channel: list[list[NkiTensor]],
    replica_group: ReplicaGroup,
    channel_ids: Sequence[int] = (0,),
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """Send each channel's tensor to the next rank of the ring, and receive the previous one's."""
    recorder, what = active_recorder(), "collective_permute_implicit"
    group = _group_of(recorder, replica_group)
    channels = tuple(int(channel) for channel in channel_ids)
    srcs, dsts = _by_channel(what, srcs_by_channel), _by_channel(what, dsts_by_channel)
    fields = _common(recorder, group, what, srcs, dsts, priority, channels)
    issue(CollectivePermuteImplicit(**fields, channel_ids=channels))


def collective_permute_implicit_reduce(
    srcs0_by_channel: list[list[NkiTensor]],
    srcs1_by_channel: list[list[NkiTensor]],
    dsts_by_channel: list[list[NkiTensor]],
    replica_group: ReplicaGroup,
    op: Any,
    channel_ids: Sequence[int] = (0,),
    priority: int | None = None,
    name: str | None = None,
) -> None:
    """Send op(srcs0, srcs1) to the next rank of the ring, and receive the previous one's."""
    recorder, what = active_recorder(), "collective_permute_implicit_reduce"
    group, reducer = _group_of(recorder, replica_group), alu_operator(op)
    channels = tuple(int(channel) for channel in channel_ids)
    srcs, dsts = _by_channel(what, srcs0_by_channel), _by_channel(what, dsts_by_channel)
    detail = (reducer.name, *channels)
    fields = _common(recorder, group, what, srcs, dsts, priority, detail)
    others = tuple(_by_channel(what, srcs1_by_channel))
    issue(CollectivePermuteImplicitReduce(**fields, srcs1=others, op=reducer, channel_ids=channels))


def collective_permute_implicit_current_processing_rank_id(
    iteration_id: int,
    replica_group: ReplicaGroup,
    channel_id: int = 0,
    name: str | None = None,
    num_channels: int | None = None,
) -> VirtualRegister:
    """The rank whose data have arrived after iteration_id steps round the ring.

    num_channels: of NKI 0.2, without effect.
    """
    recorder = active_recorder()
    group = _group_of(recorder, replica_group)
    if not is_whole(iteration_id) or int(iteration_id) < 0:
        raise NkiValidationError(f"iteration_id {iteration_id!r}", allowed="0 or more")
    return VirtualRegister(group.ranks[(group.position - int(iteration_id)) % len(group.ranks)])


def rank_id(name: str | None = None) -> VirtualRegister:
    """The number of the rank that runs."""
    return VirtualRegister(active_recorder().cores.rank)


for _name, _function in list(globals().items()):
    is_public = not _name.startswith("_") and getattr(_function, "__module__", "") == __name__
    if is_public and not isinstance(_function, type):
        globals()[_name] = checked(_function)
