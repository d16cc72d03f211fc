"""Knows what the cores of one launch have in common: memory, messages, barriers, collectives.

A launch has ranks, each a logical core of one or two physical cores with shared HBM. Every physical
core executes the kernel's Python; `sim.turns` lets them take turns.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rainshadow.errors import NkiValidationError, SourceLine
from rainshadow.sim.host_threads import one_thread
from rainshadow.sim.turns import Turns


@dataclass(frozen=True, slots=True)
class _Message:
    """What sendrecv has sent. kind: shape and dtype."""

    data: Any
    kind: Any
    where: SourceLine | None


@dataclass(slots=True)
class _Meeting:
    """A barrier or collective that cores come to. arrived: what each brings, by physical core."""

    what: str
    detail: Any
    first: int
    where: SourceLine | None
    arrived: dict[int, Callable[[], Any]] = field(default_factory=dict)
    brought: dict[int, Any] | None = None
    left: int = 0


class Ranks:
    """`count` ranks of `lnc` physical cores each."""

    def __init__(self, count: int, lnc: int = 1) -> None:
        self.count = count
        self.lnc = lnc
        self.turns = Turns(
            [self._label(rank, core) for rank in range(count) for core in range(lnc)]
        )
        self.logical_cores = [Cores(self, rank) for rank in range(count)]
        self._meetings: dict[Any, _Meeting] = {}
        self._numbers: dict[Any, int] = defaultdict(int)

    def _label(self, rank: int, core: int) -> str:
        if self.count == 1:
            return f"core {core}"
        return f"rank {rank}" if self.lnc == 1 else f"rank {rank} core {core}"

    def run(self, bodies: Sequence[Callable[[], Any]]) -> list[Any]:
        """Results of the bodies, one a physical core, ranks outermost.

        Errors: as of `Turns.run`; `NkiValidationError` for a message that nobody received.
        """
        with one_thread():
            results = self.turns.run(bodies)
        for cores in self.logical_cores:
            cores.check_all_received()
        return results

    def meet(
        self,
        who: int,
        members: Sequence[int],
        what: str,
        detail: Any,
        bring: Callable[[], Any],
        where: SourceLine | None,
    ) -> list[Any]:
        """Wait until all members have come; what each brings then, in their order.

        who, members: physical cores.  The n-th meeting of the same members is one for all of them.
        detail: what must be equal on all.
        Errors: `NkiValidationError` where they come to different things.
        """
        group = tuple(members)
        number = self._numbers[who, group]
        self._numbers[who, group] += 1
        meeting = self._meetings.get((group, number))
        if meeting is None:
            meeting = self._meetings[group, number] = _Meeting(what, detail, who, where)
        elif (meeting.what, meeting.detail) != (what, detail):
            raise self._mismatch(meeting, who, what, detail, where)
        meeting.arrived[who] = bring

        def missing() -> str:
            absent = [self.turns.label(other) for other in group if other not in meeting.arrived]
            shown = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" * (len(absent) > 8))
            return f"{shown} to come to {what} {number + 1}"

        self.turns.wait(who, lambda: len(meeting.arrived) == len(group), missing, where)
        if meeting.brought is None:
            # All are here and none has gone on: what they bring is what they hold now.
            meeting.brought = {other: bring() for other, bring in meeting.arrived.items()}
        meeting.left += 1
        if meeting.left == len(group):
            del self._meetings[group, number]
        return [meeting.brought[other] for other in group]

    def _mismatch(
        self, meeting: _Meeting, who: int, what: str, detail: Any, where: SourceLine | None
    ) -> NkiValidationError:
        first, other = self.turns.label(meeting.first), self.turns.label(who)
        return NkiValidationError(
            f"{other} comes to {what} {detail} where {first} came to {meeting.what} "
            f"{meeting.detail}" + (f" at {meeting.where}" if meeting.where else ""),
            allowed="the same barriers and collectives in the same order on all that take part",
            where=where,
        )


class Cores:
    """The physical cores of one logical core: a rank of `ranks`."""

    def __init__(self, ranks: Ranks | None = None, rank: int = 0) -> None:
        self.ranks = ranks or Ranks(1)
        self.rank = rank
        self.count = self.ranks.lnc
        self._messages: dict[Any, deque[_Message]] = defaultdict(deque)
        self._shared: dict[Any, Any] = {}
        self._num_hbm = 0

    def physical(self, core: int) -> int:
        """The number among all physical cores of this logical core's `core`."""
        return self.rank * self.count + core

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        """What the first core to ask for `key` has made."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def new_hbm_ordinal(self) -> int:
        """A number for an HBM tensor that no other tensor of any core has: -2, -3, ..."""
        self._num_hbm += 1
        return -1 - self._num_hbm

    def exchange(
        self,
        core: int,
        pair: tuple[int, int],
        pipe: Any,
        kind: Any,
        data: Any,
        where: SourceLine | None,
    ) -> Any:
        """Send `data`, and wait for what the other core sends by the same pipe.

        pair: the core that this one sends to, and the one it receives from.  kind: shape and dtype
        of what is sent and of what can be received.
        Errors: `NkiValidationError` where the message is of another kind.
        """
        send_to, receive_from = pair
        self._messages[pipe, core, send_to].append(_Message(data, kind, where))
        inbox = self._messages[pipe, receive_from, core]
        label = self.ranks.turns.label
        self.ranks.turns.wait(
            self.physical(core),
            lambda: bool(inbox),
            lambda: f"{label(self.physical(receive_from))} to send by sendrecv, pipe {pipe!r}",
            where,
        )
        message = inbox.popleft()
        if message.kind != kind:
            raise NkiValidationError(
                f"sendrecv, pipe {pipe!r}: {label(self.physical(receive_from))} sends "
                f"{_shown(message.kind)}, {label(self.physical(core))} receives {_shown(kind)}"
                + (f"; sent at {message.where}" if message.where else ""),
                allowed="one shape and dtype on both cores",
                where=where,
            )
        return message.data

    def check_all_received(self) -> None:
        """Errors: `NkiValidationError` for a message that was sent and never received."""
        for (pipe, sender, receiver), inbox in self._messages.items():
            if inbox:
                label = self.ranks.turns.label
                raise NkiValidationError(
                    f"sendrecv, pipe {pipe!r}: what {label(self.physical(sender))} sent to "
                    f"{label(self.physical(receiver))} was never received",
                    where=inbox[0].where,
                    fix="let the other core call sendrecv with recv_from_rank naming this one",
                )

    def give_way(self, core: int) -> None:
        """Before a write to shared HBM: without barriers, the cores' writes go in turns."""
        if self.count > 1:
            self.ranks.turns.give_way(self.physical(core))

    def barrier(self, core: int, cores: Sequence[int], data: Any, where: SourceLine | None) -> None:
        """Wait until all of `cores` have come. data: which tensor, the same on all of them."""
        members = [self.physical(other) for other in cores]
        self.ranks.meet(self.physical(core), members, "core_barrier", data, _nothing, where)


def _nothing() -> None:
    """What is brought to a barrier."""


def _shown(kind: Any) -> str:
    shape, dtype = kind
    return f"{dtype}{list(shape)}"
