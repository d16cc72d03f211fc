"""Knows how to print attention's backward pass as one NKI function.

The probabilities are computed again from the saved log-sum-exp. Keys are taken in spans whose
gradients gather in PSUM while all queries pass by; the queries' gradients gather in SBUF.
Loading and turning heads is left to `attention_heads`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rainshadow.compiler.operators.attention_heads import (
    AttentionSpec,
    HeadSets,
    choose_sets,
    emit_causal_mask,
    emit_docstring,
    emit_key_tiles,
    emit_load_rows,
    emit_mask,
    emit_padded,
    emit_row_window,
    emit_store_rows,
    emit_turn,
    fill_banks,
)
from rainshadow.compiler.operators.tiling import (
    Writer,
    allocate,
    call,
    inner,
    loop,
    pipelined,
    plus,
    power_of_two_at_least,
    store,
    times,
    tuple_text,
    window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackwardPlan:
    """sets: what is in SBUF together.  group: pairs whose scores share one PSUM bank, `slot`
    columns each.  span_tiles: key tiles whose gradients gather in PSUM together; spans: of all."""

    sets: HeadSets
    group: int
    slot: int
    span_tiles: int
    spans: int


def plan_attention_backward(spec: AttentionSpec) -> BackwardPlan:
    """Choose head sets, groups and spans.

    Errors: `InputError` if the operands and gradients of one head don't fit into SBUF.
    """
    limits, item, size = spec.limits, spec.item, spec.head_dim
    bank = limits.bank_floats
    per_head = bank // power_of_two_at_least(size)
    blocks = min(per_head, spec.bank_blocks)
    span_tiles = min(spec.kv_tiles, blocks, bank // spec.kv_tile)
    spans = -(-spec.kv_tiles // span_tiles)
    # Keys (and both their gradients, unless each span stores its own), queries and the output's
    # gradient, the queries' gradient.
    key_tiles = spec.kv_tiles * (3 if spans == 1 else 1)
    rows = (key_tiles + 2 * spec.q_tiles) * size * item + 4 * spec.q_tiles * size
    stages = 2 * size * (2 * item + 4) + 8 * spec.q_tiles
    turned = 2 * (spec.kv_len + spec.q_len) * item
    fixed = bank * (12 + 4 * item) + (0 if spans == 1 else 4 * span_tiles * size * item)
    sets = choose_sets(spec, rows + stages, turned, fixed_bytes=fixed)
    slot = power_of_two_at_least(spec.kv_len)
    if slot * 2 <= bank and spans == 1:
        most = min(bank // slot, max(1, blocks // spec.kv_tiles))
        group = fill_banks(sets.pairs, most, bank // slot)
        return BackwardPlan(sets=sets, group=group, slot=slot, span_tiles=span_tiles, spans=1)
    slot = span_tiles * spec.kv_tile
    return BackwardPlan(sets=sets, group=1, slot=slot, span_tiles=span_tiles, spans=spans)


def emit_attention_backward(spec: AttentionSpec, writer: Writer) -> BackwardPlan:
    """Write `spec.name(q, k, v, out, grad_out, lse, grad_q, grad_k, grad_v)`; returns the plan."""
    plan = plan_attention_backward(spec)
    sets = plan.sets
    writer.line(f"def {spec.name}(q, k, v, out, grad_out, lse, grad_q, grad_k, grad_v):")
    with writer.indent():
        emit_docstring(
            writer, spec, f"Gradients of out = softmax({spec.scale:.6g} * q @ k.T) @ v.",
            "p = exp(scale * scores - lse); grad_v = p.T @ grad_out;",
            "grad_scores = p * (grad_out @ v.T - delta), delta = sum(grad_out * out) per query;",
            "grad_q = scale * grad_scores @ k; grad_k = scale * grad_scores.T @ q.",
        )  # fmt: skip
        if spec.causal:
            emit_causal_mask(writer, spec)
        if not sets.double:
            _allocate(writer, spec, plan)
        with sets.loops(writer):
            if sets.double:
                _allocate(writer, spec, plan)
            _load_key_side(writer, spec, sets)
            with loop(writer, "i", spec.q_tiles) as i:
                _load_query_side(writer, spec, plan, i)
            if plan.spans == 1:
                _emit_whole_rows(writer, spec, plan)
            else:
                with loop(writer, "pair", sets.pairs) as pair, loop(writer, "j", plan.spans) as j:
                    _Span(writer, spec, plan, pair, j).emit()
            _store(writer, spec, plan)
    return plan


def _allocate(writer: Writer, spec: AttentionSpec, plan: BackwardPlan) -> None:
    sets, size = plan.sets, spec.head_dim
    keys = tuple_text(spec.kv_tile, spec.kv_tiles, sets.pairs, size)
    queries = tuple_text(spec.q_tile, spec.q_tiles, sets.pairs, size)
    state = tuple_text(spec.q_tile, spec.q_tiles, sets.pairs)
    dtype = spec.compute_dtype
    writer.line("# *_rows: [row, tile, head, head_dim]; *_t: [head_dim, block of heads, row].")
    if sets.stacked > 1:
        writer.line(f"# {sets.stacked} turned heads lie under each other in a block.")
    turned_keys = tuple_text(sets.block_rows, sets.blocks, spec.kv_len)
    turned_queries = tuple_text(sets.block_rows, sets.blocks, spec.q_len)
    gathered = "float32" if plan.spans > 1 else spec.dtype
    tiles = [
        ("k_rows", keys, dtype),
        ("k_t", turned_keys, dtype),
        ("v_t", turned_keys, dtype),
        ("q_rows", queries, dtype),
        ("q_t", turned_queries, dtype),
        ("grad_out_rows", queries, dtype),
        ("grad_out_t", turned_queries, dtype),
        ("lse_rows", state, "float32"),
        ("delta", state, "float32"),
        ("grad_q_rows", queries, gathered),
    ]
    if plan.spans == 1:
        tiles += [("grad_k_rows", keys, spec.dtype), ("grad_v_rows", keys, spec.dtype)]
    for name, shape, kind in tiles:
        allocate(writer, name, shape, kind, "sbuf")


def _load_key_side(writer: Writer, spec: AttentionSpec, sets: HeadSets) -> None:
    if spec.kv_ragged:
        writer.line("# The last tile has fewer keys; zeros make the others add nothing.")
        writer.line(f"nisa.memset(k_rows[:, {spec.kv_tiles - 1}, :, :], 0.0)")
    with loop(writer, "c", spec.kv_tiles) as c:
        rows, count = emit_row_window(writer, c, spec.kv_tile, spec.kv_len, "keys")
        kept = window("0", count, spec.kv_tile)
        columns = window(times(c, spec.kv_tile), count, spec.kv_len)
        emit_load_rows(writer, sets, "k", rows, f"k_rows[{kept}, {c}, :, :]")
        emit_turn(writer, sets, f"k_rows[{kept}, {c}", count, "k_t", columns)
        shape = tuple_text(count, sets.pairs, spec.head_dim)
        allocate(writer, "v_rows", shape, spec.compute_dtype, "sbuf")
        emit_load_rows(writer, sets, "v", rows, "v_rows")
        emit_turn(writer, sets, "v_rows[:", count, "v_t", columns)


def _load_query_side(writer: Writer, spec: AttentionSpec, plan: BackwardPlan, i: str) -> None:
    sets = plan.sets
    rows, count = emit_row_window(writer, i, spec.q_tile, spec.q_len, "queries")
    kept = window("0", count, spec.q_tile)
    columns = window(times(i, spec.q_tile), count, spec.q_len)
    for tensor in ("q", "grad_out"):
        tile = f"{tensor}_rows[{kept}, {i}"
        emit_load_rows(writer, sets, tensor, rows, f"{tile}, :, :]")
        emit_turn(writer, sets, tile, count, f"{tensor}_t", columns)
    shape = tuple_text(count, sets.pairs, spec.head_dim)
    allocate(writer, "out_rows", shape, spec.out_dtype, "sbuf")
    emit_load_rows(writer, sets, "out", rows, "out_rows")
    allocate(writer, "product", shape, "float32", "sbuf")
    call(
        writer, "nisa.tensor_tensor", "product", f"grad_out_rows[{kept}, {i}, :, :]", "out_rows",
        "op=nl.multiply",
    )  # fmt: skip
    state = f"[{kept}, {i}, :]"
    call(writer, "nisa.tensor_reduce", f"dst=delta{state}", "op=nl.add", "data=product", "axis=2")
    emit_load_rows(writer, sets, "lse", rows, f"lse_rows{state}")
    # One pair: exp(scale * scores + bias) with bias -lse. A group: scores - lse / scale first.
    factor = -1.0 if plan.group == 1 else 1.0 / spec.scale
    call(
        writer, "nisa.tensor_scalar", f"dst=lse_rows{state}", f"data=lse_rows{state}",
        "op0=nl.multiply", f"operand0={factor!r}",
    )  # fmt: skip


def _emit_whole_rows(writer: Writer, spec: AttentionSpec, plan: BackwardPlan) -> None:
    """All groups where one span holds all keys: steps run over groups and their query tiles."""
    groups, tiles = plan.sets.pairs // plan.group, spec.q_tiles
    g = "0" if groups == 1 else "g"
    i = "0" if tiles == 1 else "i"

    def place(step: str) -> _Span:
        if groups > 1 and tiles > 1:
            writer.line(f"g, i = divmod({step}, {tiles})")
        return _Span(writer, spec, plan, g, "0")

    def first(step: str) -> None:
        place(step).first_half(i)

    def second(step: str) -> None:
        span = place(step)
        if tiles == 1:
            span.allocate_sums()
            span.second_half(i)
            span.emit_key_gradients()
            return
        writer.line("if i == 0:")
        with writer.indent():
            span.allocate_sums()
        span.second_half(i)
        writer.line(f"if i == {tiles - 1}:")
        with writer.indent():
            span.emit_key_gradients()

    variable = "step_of" if groups > 1 and tiles > 1 else "g" if groups > 1 else "i"
    pipelined(writer, groups * tiles, variable, "p, grad_scores", first, second)


@dataclass(frozen=True, slots=True)
class _Span:
    """One span of keys of one group of pairs; g, j: their numbers, as text."""

    writer: Writer
    spec: AttentionSpec
    plan: BackwardPlan
    g: str
    j: str

    @property
    def _head_columns(self) -> str:
        size = self.spec.head_dim
        return window("0", size, power_of_two_at_least(size))

    @property
    def _pairs(self) -> str:
        """Text of the index that selects the group's pairs."""
        group = self.plan.group
        return self.g if group == 1 else window(times(self.g, group), group, self.plan.sets.pairs)

    def _at(self, tile: str, m: str, columns: str) -> str:
        """Columns of pair m of a [queries, pairs, keys] tile; a lone pair has no such axis."""
        return f"{tile}[:, {columns}]" if self.plan.group == 1 else f"{tile}[:, {m}, {columns}]"

    @property
    def _start(self) -> str:
        """Text of the span's first key."""
        return times(self.j, self.plan.span_tiles * self.spec.kv_tile)

    @property
    def _width(self) -> str:
        """Text of the span's number of keys."""
        full = min(self.plan.span_tiles * self.spec.kv_tile, self.spec.kv_len)
        return "width" if self.spec.kv_len % full else str(full)

    def emit(self) -> None:
        """One of several spans of one pair: all query tiles pass by."""
        writer, spec = self.writer, self.spec
        full = self.plan.span_tiles * spec.kv_tile
        if self._width == "width":
            writer.line(f"width = min({full}, {spec.kv_len} - {inner(self._start)})")
        self.allocate_sums()
        if not spec.causal:
            pipelined(
                writer, spec.q_tiles, "i", "p, grad_scores", self.first_half, self.second_half
            )
        else:
            writer.line("# Earlier queries see none of these keys.")
            first = times(self.j, self.plan.span_tiles)
            writer.line(f"before = {first}")

            def half(write: Callable[[str], None], step: str) -> None:
                writer.line(f"i = before + {step}")
                write("i")

            pipelined(
                writer, f"{spec.q_tiles} - before", "n", "p, grad_scores",
                partial(half, self.first_half), partial(half, self.second_half),
            )  # fmt: skip
        self.emit_key_gradients()

    def allocate_sums(self) -> None:
        """PSUM for the gradients of the span's keys and values."""
        slot = power_of_two_at_least(self.spec.head_dim)
        shape = tuple_text(self.spec.kv_tile, self.plan.span_tiles, self.plan.group, slot)
        for name in ("grad_k_sum", "grad_v_sum"):
            allocate(self.writer, name, shape, "float32", "psum")

    def emit_key_gradients(self) -> None:
        """The finished sums, scaled, into the set's tiles; of several spans, straight to HBM."""
        writer, spec, plan = self.writer, self.spec, self.plan
        tiles = emit_key_tiles(writer, spec, self._width)
        for name, scale in (("k", spec.scale), ("v", 1.0)):
            lone = "0" if plan.group == 1 else ":"
            source = f"grad_{name}_sum[:, {window('0', tiles, plan.span_tiles)}, {lone}, "
            target = f"grad_{name}_rows[:, :, {self._pairs}, :]"
            if plan.spans > 1:
                shape = tuple_text(spec.kv_tile, tiles, spec.head_dim)
                target = f"grad_{name}_rows"
                allocate(writer, target, shape, spec.dtype, "sbuf")
            call(
                writer, "nisa.activation", f"dst={target}", "op=nl.copy",
                f"data={source}{self._head_columns}]",
                *([f"scale={scale!r}"] if scale != 1.0 else []),
            )  # fmt: skip
            if plan.spans > 1:
                self._store_span(f"grad_{name}", tiles)

    def _store_span(self, tensor: str, tiles: int | str) -> None:
        """One pair's gradients for the keys of this span."""
        writer, spec, sets = self.writer, self.spec, self.plan.sets
        if not spec.kv_ragged:
            rows = sets.pair_rows(tensor, self.g, window(self._start, self._width))
            split = f"{rows}.reshape_dim(0, ({tiles}, {spec.kv_tile})).permute((1, 0, 2))"
            store(writer, spec.limits, split, f"{tensor}_rows")
            return
        with loop(writer, "c", tiles) as c:
            first = plus(self._start, times(c, spec.kv_tile))
            writer.line(f"keys = min({spec.kv_tile}, {spec.kv_len} - {inner(first)})")
            rows = sets.pair_rows(tensor, self.g, window(first, "keys"))
            store(writer, spec.limits, rows, f"{tensor}_rows[0:keys, {c}, :]")

    def _query_tile(self, i: str) -> _QueryTile:
        """Query tile i against this span; writes the lines that find varying sizes."""
        writer, spec = self.writer, self.spec
        count = str(spec.q_tile)
        if spec.q_ragged:
            first = times(i, spec.q_tile)
            writer.line(f"queries = min({spec.q_tile}, {spec.q_len} - {first})")
            count = "queries"
        seen = self._width
        if spec.causal and spec.q_tiles > 1:
            limit = f"({i} + 1) * {spec.q_tile}"
            limit = limit if self._start == "0" else f"{limit} - {self._start}"
            writer.line(f"seen = min({seen}, {limit})")
            seen = "seen"
        tiles = emit_key_tiles(writer, spec, seen)
        return _QueryTile(self, i, count, self._start, seen, tiles)

    def first_half(self, i: str) -> None:
        """p and grad_scores."""
        tile = self._query_tile(i)
        tile.probabilities()
        tile.score_gradients()

    def second_half(self, i: str) -> None:
        """What p and grad_scores add to the three gradients."""
        tile = self._query_tile(i)
        tile.key_gradients()
        tile.query_gradients()


@dataclass(frozen=True, slots=True)
class _QueryTile:
    """One query tile against one span; start, seen, tiles: first key, keys, key tiles it sees."""

    span: _Span
    i: str
    rows: str
    start: str
    seen: str
    tiles: int | str

    @property
    def _lead(self) -> str:
        group = self.span.plan.group
        return self.rows if group == 1 else f"{self.rows}, {group}"

    @property
    def _kept(self) -> str:
        return window("0", self.rows, self.span.spec.q_tile)

    def _state(self, name: str) -> str:
        return f"{name}[{self._kept}, {self.i}, {self.span._pairs}]"

    def _spread(self, name: str) -> str:
        """Per-query values of the group, repeated along the keys."""
        return f"{self._state(name)}.expand_dim(2).broadcast(2, {self.seen})"

    def _pair(self, m: str) -> str:
        group = self.span.plan.group
        return self.span.g if group == 1 else plus(times(self.span.g, group), m)

    def _products(self, name: str, left: str, right: str) -> str:
        """PSUM tile [queries, pairs, keys] = left @ right.T per pair; text of its seen part."""
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer = span.writer
        lead = f"{self._lead}, {plan.slot}" if plan.group > 1 else f"{self.rows}, {self.seen}"
        allocate(writer, name, f"({lead})", "float32", "psum")
        seen = window("0", self.seen, plan.slot) if plan.group > 1 else ":"
        queries = window(times(self.i, spec.q_tile), self.rows, spec.q_len)
        keys = window(self.start, self.seen, spec.kv_len)
        with loop(writer, "m", plan.group) as m:
            pair = self._pair(m)
            if " + " in pair:
                writer.line(f"pair = {pair}")
                pair = "pair"
            partitions, block, place = plan.sets.head(writer, pair)
            call(
                writer, "nisa.nc_matmul", span._at(name, m, seen),
                f"{left}[{partitions}, {block}, {queries}]",
                f"{right}[{partitions}, {block}, {keys}]", "accumulate=False", *place,
            )  # fmt: skip
        return f"{name}[:, :, {seen}]" if plan.group > 1 else name

    def probabilities(self) -> None:
        """p = exp(scale * scores - lse)."""
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer = span.writer
        scores = self._products("scores", "q_t", "k_t")
        if spec.causal:
            first = times(self.i, spec.q_tile)
            if self.start == "0" and plan.spans == 1:
                self._mask(window(first, self.rows))
            else:
                writer.line(f"if {first} < {plus(self.start, self.seen)}:  # on the diagonal")
                with writer.indent():
                    self._mask(window(f"{first} - {self.start}", self.rows))
        data, extra = scores, [f"bias={self._state('lse_rows')}"]
        if plan.group > 1:
            allocate(writer, "shifted", f"({self._lead}, {self.seen})", "float32", "sbuf")
            call(
                writer, "nisa.tensor_tensor", "shifted", scores, self._spread("lse_rows"),
                "op=nl.subtract",
            )  # fmt: skip
            data, extra = "shifted", []
        real = emit_padded(writer, spec, "p", self._lead, self.seen, self.tiles)
        call(
            writer, "nisa.activation", f"dst={real}", "op=nl.exp", f"data={data}", *extra,
            f"scale={spec.scale!r}",
        )  # fmt: skip

    def _mask(self, columns: str) -> None:
        span, group = self.span, self.span.plan.group
        tile = "scores[:" if group == 1 else "scores[:, :"
        emit_mask(span.writer, tile, group, self.rows, columns, span.spec)

    def score_gradients(self) -> None:
        """grad_scores = p * (grad_out @ v.T - delta)."""
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer = span.writer
        grad_p = self._products("grad_p", "grad_out_t", "v_t")
        real = emit_padded(writer, spec, "grad_scores", self._lead, self.seen, self.tiles)
        p = real.replace("grad_scores", "p")
        if plan.group == 1:
            call(
                writer, "nisa.scalar_tensor_tensor", f"dst={real}", f"data={grad_p}",
                "op0=nl.subtract", f"operand0={self._state('delta')}", "op1=nl.multiply",
                f"operand1={p}",
            )  # fmt: skip
            return
        allocate(writer, "centred", f"({self._lead}, {self.seen})", "float32", "sbuf")
        call(
            writer, "nisa.tensor_tensor", "centred", grad_p, self._spread("delta"),
            "op=nl.subtract",
        )  # fmt: skip
        call(writer, "nisa.tensor_tensor", real, "centred", p, "op=nl.multiply")

    def key_gradients(self) -> None:
        """grad_v += p.T @ grad_out and grad_k += grad_scores.T @ q: queries are on partitions."""
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer = span.writer
        with loop(writer, "c", self.tiles) as c, loop(writer, "m", plan.group) as m:
            start = "0"
            if spec.causal:
                start = plus(times(span.j, plan.span_tiles), c)
            accumulate = "False" if self.i == "0" else f"{self.i} > {start}"
            keys = window(times(c, spec.kv_tile), spec.kv_tile)
            pair = self._pair(m)
            for name, left, right in (
                ("grad_v_sum", "p", "grad_out_rows"),
                ("grad_k_sum", "grad_scores", "q_rows"),
            ):
                call(
                    writer, "nisa.nc_matmul", f"{name}[:, {c}, {m}, {span._head_columns}]",
                    span._at(left, m, keys), f"{right}[{self._kept}, {self.i}, {pair}, :]",
                    f"accumulate={accumulate}",
                )  # fmt: skip

    def query_gradients(self) -> None:
        """grad_q += grad_scores @ k: grad_scores is turned, keys must lie on partitions."""
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer, group, dtype = span.writer, plan.group, spec.compute_dtype
        tiles = self.tiles
        width = spec.limits.partitions
        shape = tuple_text(spec.kv_tile, plan.span_tiles, group, width)
        allocate(writer, "turned", shape, dtype, "psum")
        kept = window("0", self.rows, width)
        with loop(writer, "c", tiles) as c, loop(writer, "m", group) as m:
            keys = window(times(c, spec.kv_tile), spec.kv_tile)
            call(
                writer, "nisa.nc_transpose", f"dst=turned[:, {c}, {m}, {kept}]",
                f"data={span._at('grad_scores', m, keys)}",
            )  # fmt: skip
        shape = tuple_text(spec.kv_tile, tiles, group, self.rows)
        allocate(writer, "grad_scores_t", shape, dtype, "sbuf")
        source = f"turned[:, {window('0', tiles, plan.span_tiles)}, :, {kept}]"
        call(writer, "nisa.tensor_copy", "dst=grad_scores_t", f"src={source}")
        slot = power_of_two_at_least(spec.head_dim)
        allocate(writer, "grad_q_sum", f"({self.rows}, {group}, {slot})", "float32", "psum")
        with loop(writer, "c", tiles) as c, loop(writer, "m", group) as m:
            tile = plus(times(span.j, plan.span_tiles), c)
            call(
                writer, "nisa.nc_matmul", f"grad_q_sum[:, {m}, {span._head_columns}]",
                f"grad_scores_t[:, {c}, {m}, :]", f"k_rows[:, {tile}, {self._pair(m)}, :]",
                f"accumulate={'False' if c == '0' else f'{c} > 0'}",
            )  # fmt: skip
        self._gather_query_gradients()

    def _gather_query_gradients(self) -> None:
        span, spec, plan = self.span, self.span.spec, self.span.plan
        writer = span.writer
        target = f"grad_q_rows[{self._kept}, {self.i}, {span._pairs}, :]"
        lone = "0" if plan.group == 1 else ":"
        source = f"grad_q_sum[:, {lone}, {span._head_columns}]"
        scale = f"scale={spec.scale!r}"
        if span.j == "0":
            call(writer, "nisa.activation", f"dst={target}", "op=nl.copy", f"data={source}", scale)
            return
        writer.line(f"if {span.j} == 0:")
        with writer.indent():
            call(writer, "nisa.activation", f"dst={target}", "op=nl.copy", f"data={source}", scale)
        writer.line("else:")
        with writer.indent():
            call(
                writer, "nisa.scalar_tensor_tensor", f"dst={target}", f"data={source}",
                "op0=nl.multiply", f"operand0={spec.scale!r}", "op1=nl.add", f"operand1={target}",
            )  # fmt: skip


def _store(writer: Writer, spec: AttentionSpec, plan: BackwardPlan) -> None:
    """The set's gradients to HBM; several spans have stored the keys' and values' already."""
    sets = plan.sets
    if plan.spans == 1:
        with loop(writer, "c", spec.kv_tiles) as c:
            rows, count = emit_row_window(writer, c, spec.kv_tile, spec.kv_len, "keys")
            for tensor in ("grad_k", "grad_v"):
                tile = f"{tensor}_rows[{window('0', count, spec.kv_tile)}, {c}, :, :]"
                emit_store_rows(writer, sets, tensor, rows, tile)
    with loop(writer, "i", spec.q_tiles) as i:
        rows, count = emit_row_window(writer, i, spec.q_tile, spec.q_len, "queries")
        tile = f"grad_q_rows[{window('0', count, spec.q_tile)}, {i}, :, :]"
        emit_store_rows(writer, sets, "grad_q", rows, tile)
