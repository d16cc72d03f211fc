"""Knows how to print attention's forward pass as one NKI function that never stores the scores.

Queries lie on partitions; a row of scores stays in PSUM (up to 1024 keys, more by rescaling the
running sums). Loading and turning heads is left to `attention_heads`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rainshadow import dtypes
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
    loop,
    pipelined,
    plus,
    power_of_two_at_least,
    times,
    tuple_text,
    window,
)

#: PSUM banks of one tile of scores; two tiles, two turned tiles and two outputs fill PSUM.
SCORE_BANKS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionPlan:
    """sets: what is in SBUF together.  group: pairs whose scores share one PSUM tile, `slot`
    columns each.  chunk: keys scored at once; chunks: of a whole row."""

    sets: HeadSets
    group: int
    slot: int
    chunk: int
    chunks: int


def plan_attention(spec: AttentionSpec) -> AttentionPlan:
    """Choose head sets and groups.

    Errors: `InputError` if the keys and values of one head don't fit into SBUF.
    """
    limits, item = spec.limits, spec.item
    turned = spec.kv_len * item
    natural = spec.kv_tiles * spec.head_dim * item
    stages = 2 * 3 * spec.head_dim * max(item, dtypes.itemsize(spec.out_dtype))
    state = 3 * 4 * spec.q_tiles
    capacity = SCORE_BANKS * limits.bank_floats
    rows = capacity * (4 + 2 * item) * 2
    sets = choose_sets(spec, natural + stages + state, turned, fixed_bytes=rows)
    if power_of_two_at_least(spec.kv_len) > limits.bank_floats:
        chunk = min(capacity, spec.kv_len)
        return AttentionPlan(
            sets=sets, group=1, slot=chunk, chunk=chunk, chunks=-(-spec.kv_len // chunk)
        )
    slot = power_of_two_at_least(spec.kv_len)
    most = min(
        capacity // slot,
        limits.bank_floats // power_of_two_at_least(spec.head_dim),
        spec.bank_blocks,
    )
    return AttentionPlan(
        sets=sets,
        group=fill_banks(sets.pairs, most, limits.bank_floats // slot),
        slot=slot,
        chunk=spec.kv_len,
        chunks=1,
    )


def emit_attention(spec: AttentionSpec, writer: Writer) -> AttentionPlan:
    """Write the function `spec.name(q, k, v, out, lse)`; returns the plan used."""
    plan = plan_attention(spec)
    sets = plan.sets
    writer.line(f"def {spec.name}(q, k, v, out, lse):")
    with writer.indent():
        seen = "q @ k.T, keys after the query hidden" if spec.causal else "q @ k.T"
        emit_docstring(
            writer, spec, f"out = softmax({spec.scale:.6g} * ({seen})) @ v.",
            "lse is the logarithm of each row's sum of exponentials; the backward pass needs it.",
        )  # fmt: skip
        if spec.causal:
            emit_causal_mask(writer, spec)
        if not sets.double:
            _allocate(writer, spec, plan)
        with sets.loops(writer):
            if sets.double:
                _allocate(writer, spec, plan)
            _load_keys_and_values(writer, spec, sets)
            with loop(writer, "i", spec.q_tiles) as i:
                _emit_query_tile(writer, spec, plan, i)
            _emit_lse(writer, spec, sets)
    return plan


def _allocate(writer: Writer, spec: AttentionSpec, plan: AttentionPlan) -> None:
    sets, dtype = plan.sets, spec.compute_dtype
    turned = tuple_text(sets.block_rows, sets.blocks, spec.kv_len)
    natural = tuple_text(spec.kv_tile, spec.kv_tiles, sets.pairs, spec.head_dim)
    state = tuple_text(spec.q_tile, spec.q_tiles, sets.pairs)
    writer.line("# k_t: [head_dim, block of heads, key]; *_rows, row_*: [row, tile, head, ...].")
    if sets.stacked > 1:
        writer.line(f"# {sets.stacked} turned heads lie under each other in a block.")
    allocate(writer, "k_t", turned, dtype, "sbuf")
    allocate(writer, "v_rows", natural, dtype, "sbuf")
    allocate(writer, "row_max", state, "float32", "sbuf")
    allocate(writer, "row_sum", state, "float32", "sbuf")
    if spec.q_ragged:
        writer.line("# The last tile has fewer queries; its other rows must still be numbers.")
        writer.line(f"nisa.memset(row_max[:, {spec.q_tiles - 1}, :], 0.0)")
        writer.line(f"nisa.memset(row_sum[:, {spec.q_tiles - 1}, :], 1.0)")


def _load_keys_and_values(writer: Writer, spec: AttentionSpec, sets: HeadSets) -> None:
    if spec.kv_ragged:
        writer.line("# The last tile has fewer keys; zeros make the others add nothing.")
        writer.line(f"nisa.memset(v_rows[:, {spec.kv_tiles - 1}, :, :], 0.0)")
    with loop(writer, "c", spec.kv_tiles) as c:
        rows, count = emit_row_window(writer, c, spec.kv_tile, spec.kv_len, "keys")
        kept = window("0", count, spec.kv_tile)
        emit_load_rows(writer, sets, "v", rows, f"v_rows[{kept}, {c}, :, :]")
        shape = tuple_text(count, sets.pairs, spec.head_dim)
        allocate(writer, "k_rows", shape, spec.compute_dtype, "sbuf")
        emit_load_rows(writer, sets, "k", rows, "k_rows")
        columns = window(times(c, spec.kv_tile), count, spec.kv_len)
        emit_turn(writer, sets, "k_rows[:", count, "k_t", columns)


def _emit_query_tile(writer: Writer, spec: AttentionSpec, plan: AttentionPlan, i: str) -> None:
    """All pairs of the set for one tile of queries."""
    sets = plan.sets
    rows, count = emit_row_window(writer, i, spec.q_tile, spec.q_len, "queries")
    shape = tuple_text(count, sets.pairs, spec.head_dim)
    allocate(writer, "q_rows", shape, spec.compute_dtype, "sbuf")
    emit_load_rows(writer, sets, "q", rows, "q_rows")
    turned = tuple_text(sets.block_rows, sets.blocks, count)
    allocate(writer, "q_t", turned, spec.compute_dtype, "sbuf")
    emit_turn(writer, sets, "q_rows[:", count, "q_t", ":")
    allocate(writer, "out_rows", shape, spec.out_dtype, "sbuf")
    visible = str(spec.kv_len)
    if spec.causal and spec.q_tiles > 1:
        limit = f"({i} + 1) * {spec.q_tile}"
        writer.line(f"visible = min({spec.kv_len}, {limit})" if spec.q_ragged
                    else f"visible = {limit}")  # fmt: skip
        visible = "visible"
    tile = _QueryTile(writer, spec, plan, i, count, visible)
    if plan.group > 1:
        groups = sets.pairs // plan.group
        pipelined(writer, groups, "g", "p", tile.group_softmax, tile.group_weigh)
    elif plan.chunks == 1:
        pipelined(writer, sets.pairs, "pair", "p", tile.pair_softmax, tile.pair_weigh)
    else:
        count = f"-(-visible // {plan.chunk})" if visible == "visible" else str(plan.chunks)
        writer.line(f"chunks = {count}")
        carried = "p, tiles, correction, chunk_sum"
        steps = "chunks" if sets.pairs == 1 else f"{sets.pairs} * chunks"
        pipelined(writer, steps, "s", carried, tile.chunk_softmax, tile.chunk_weigh)
    emit_store_rows(writer, sets, "out", rows, "out_rows")


@dataclass(frozen=True, slots=True)
class _QueryTile:
    """The softmax and products of one query tile; rows, visible: queries and keys, as text."""

    writer: Writer
    spec: AttentionSpec
    plan: AttentionPlan
    i: str
    rows: str
    visible: str

    def _state(self, name: str, pairs: str) -> str:
        return f"{name}[{window('0', self.rows, self.spec.q_tile)}, {self.i}, {pairs}]"

    def _score(self, target: str, pair: str, columns: str) -> None:
        partitions, block, place = self.plan.sets.head(self.writer, pair)
        call(
            self.writer, "nisa.nc_matmul", target, f"q_t[{partitions}, {block}, :]",
            f"k_t[{partitions}, {block}, {columns}]", "accumulate=False", *place,
        )  # fmt: skip

    def _pairs(self, g: str) -> str:
        """Text of the index that selects group g's pairs."""
        return window(times(g, self.plan.group), self.plan.group, self.plan.sets.pairs)

    def _visible_tiles(self) -> int | str:
        visible = self.visible
        return -(-int(visible) // self.spec.kv_tile) if visible.isdigit() else "tiles"

    def group_softmax(self, g: str) -> None:
        """p of `group` pairs at once: every vector instruction takes all of them."""
        writer, spec, plan = self.writer, self.spec, self.plan
        group = plan.group
        first, pairs = times(g, group), self._pairs(g)
        seen = window("0", self.visible, plan.slot)
        shape = f"({self.rows}, {group}, {plan.slot})"
        allocate(writer, "scores", shape, "float32", "psum")
        with loop(writer, "m", group) as m:
            pair = self._pair(first, m)
            self._score(f"scores[:, {m}, {seen}]", pair, window("0", self.visible, spec.kv_len))
        if spec.causal:
            per_bank = min(group, spec.limits.bank_floats // plan.slot)
            diagonal = window(times(self.i, spec.q_tile), self.rows)
            with loop(writer, "m", group // per_bank) as m:
                heads = window(times(m, per_bank), per_bank, group)
                emit_mask(writer, f"scores[:, {heads}", per_bank, self.rows, diagonal, spec)
        row_max, row_sum = self._state("row_max", pairs), self._state("row_sum", pairs)
        call(writer, "nisa.tensor_reduce", f"dst={row_max}", "op=nl.maximum",
             f"data=scores[:, :, {seen}]", "axis=2")  # fmt: skip
        shape = f"({self.rows}, {group}, {self.visible})"
        allocate(writer, "shifted", shape, "float32", "sbuf")
        largest = f"{row_max}.expand_dim(2).broadcast(2, {self.visible})"
        call(writer, "nisa.tensor_tensor", "shifted", f"scores[:, :, {seen}]", largest,
             "op=nl.subtract")  # fmt: skip
        tiles = emit_key_tiles(writer, spec, self.visible)
        real = emit_padded(writer, spec, "p", f"{self.rows}, {group}", self.visible, tiles)
        call(writer, "nisa.activation", f"dst={real}", "op=nl.exp", "data=shifted",
             f"scale={spec.scale!r}")  # fmt: skip
        call(writer, "nisa.tensor_reduce", f"dst={row_sum}", "op=nl.add", f"data={real}", "axis=2")

    def _head_columns(self) -> str:
        size = self.spec.head_dim
        return window("0", size, power_of_two_at_least(size))

    def _pair(self, first: str, m: str) -> str:
        pair = plus(first, m)
        if " + " not in pair:
            return pair
        self.writer.line(f"pair = {pair}")
        return "pair"

    def group_weigh(self, g: str) -> None:
        """out = p @ v / sum of every pair; p is turned because keys must lie on partitions."""
        writer, spec, group = self.writer, self.spec, self.plan.group
        first, pairs = times(g, group), self._pairs(g)
        slot = power_of_two_at_least(spec.head_dim)
        allocate(writer, "acc", f"({self.rows}, {group}, {slot})", "float32", "psum")
        kept = window("0", self.rows, spec.limits.partitions)
        with loop(writer, "c", self._visible_tiles()) as c:
            shape = tuple_text(spec.kv_tile, group, spec.limits.partitions)
            allocate(writer, "turned", shape, spec.compute_dtype, "psum")
            keys = window(times(c, spec.kv_tile), spec.kv_tile, spec.kv_len)
            with loop(writer, "m", group) as m:
                call(writer, "nisa.nc_transpose", f"dst=turned[:, {m}, {kept}]",
                     f"data=p[:, {m}, {keys}]")  # fmt: skip
            shape = f"({spec.kv_tile}, {group}, {self.rows})"
            allocate(writer, "p_t", shape, spec.compute_dtype, "sbuf")
            writer.line(f"nisa.tensor_copy(dst=p_t, src=turned[:, :, {kept}])")
            with loop(writer, "m", group) as m:
                pair = plus(first, m)
                start = "False" if c == "0" else f"{c} > 0"
                call(writer, "nisa.nc_matmul", f"acc[:, {m}, {self._head_columns()}]",
                     f"p_t[:, {m}, :]", f"v_rows[:, {c}, {pair}, :]",
                     f"accumulate={start}")  # fmt: skip
        allocate(writer, "inverse", f"({self.rows}, {group})", "float32", "sbuf")
        writer.line(f"nisa.reciprocal(dst=inverse, data={self._state('row_sum', pairs)})")
        call(writer, "nisa.tensor_tensor", f"out_rows[:, {pairs}, :]",
             f"acc[:, :, {self._head_columns()}]",
             f"inverse.expand_dim(2).broadcast(2, {spec.head_dim})", "op=nl.multiply")  # fmt: skip

    def pair_softmax(self, pair: str) -> None:
        """p of one pair whose row of scores fits into PSUM."""
        largest = self._state("row_max", pair)
        self._score_chunk(pair, "0", self.visible)
        call(self.writer, "nisa.tensor_reduce", f"dst={largest}", "op=nl.maximum", "data=scores",
             "axis=1")  # fmt: skip
        self._negate(largest)
        self._exponentials("scores", self.visible, self._state("row_sum", pair))

    def pair_weigh(self, pair: str) -> None:
        """out = p @ v / sum of one pair."""
        self._weigh_chunk(pair, "0", self._visible_tiles())
        self._divide(pair, "acc")

    def _divide(self, pair: str, weighted: str) -> None:
        """The output row: `weighted` over the row's sum, on ScalarE to spare VectorE."""
        writer = self.writer
        allocate(writer, "inverse", f"({self.rows}, 1)", "float32", "sbuf")
        writer.line(f"nisa.reciprocal(dst=inverse, data={self._state('row_sum', pair)})")
        call(writer, "nisa.activation", f"dst=out_rows[:, {pair}, :]", "op=nl.copy",
             f"data={weighted}", "scale=inverse")  # fmt: skip

    def _score_chunk(self, pair: str, first: str, width: str) -> None:
        """scores = q @ k.T for keys first..first + width, the hidden ones masked."""
        writer, spec = self.writer, self.spec
        moving = spec.limits.moving_max
        allocate(writer, "scores", f"({self.rows}, {width})", "float32", "psum")
        if width.isdigit() and int(width) <= moving:
            self._score("scores", pair, window(first, width, spec.kv_len))
        else:
            count = -(-int(width) // moving) if width.isdigit() else f"-(-{width} // {moving})"
            with loop(writer, "part", count) as part:
                columns = str(moving)
                if not width.isdigit() or int(width) % moving:
                    writer.line(f"columns = min({moving}, {width} - {times(part, moving)})")
                    columns = "columns"
                start = times(part, moving)
                keys = window(plus(first, start), columns)
                self._score(f"scores[:, {window(start, columns)}]", pair, keys)
        if not spec.causal:
            return
        start = times(self.i, spec.q_tile)
        if first == "0":
            emit_mask(writer, "scores[:", 1, self.rows, window(start, self.rows), spec)
            return
        writer.line("if first + width == visible:  # the diagonal is in this chunk")
        with writer.indent():
            columns = window(f"{start} - {first}", self.rows)
            emit_mask(writer, "scores[:", 1, self.rows, columns, spec)

    def _negate(self, largest: str) -> None:
        shape = f"({self.rows}, 1)"
        allocate(self.writer, "minus_max", shape, "float32", "sbuf")
        call(self.writer, "nisa.tensor_scalar", "dst=minus_max", f"data={largest}",
             "op0=nl.multiply", f"operand0={-self.spec.scale!r}")  # fmt: skip

    def _exponentials(self, scores: str, width: str, sums: str) -> None:
        """p = exp(scale * (scores - maximum)), with its sum along the keys."""
        tiles = emit_key_tiles(self.writer, self.spec, width)
        real = emit_padded(self.writer, self.spec, "p", self.rows, width, tiles)
        call(self.writer, "nisa.activation", f"dst={real}", "op=nl.exp", f"data={scores}",
             "bias=minus_max", f"scale={self.spec.scale!r}", "reduce_op=nl.add",
             f"reduce_res={sums}", "reduce_cmd=nisa.reduce_cmd.reset_reduce")  # fmt: skip

    def _pair_and_chunk(self, s: str) -> str:
        """Write which pair and which chunk of its keys step s is about; returns the pair."""
        if self.plan.sets.pairs == 1:
            self.writer.line(f"n = {s}")
        else:
            self.writer.line(f"pair, n = divmod({s}, chunks)")
        self.writer.line(f"first = n * {self.plan.chunk}")
        return "0" if self.plan.sets.pairs == 1 else "pair"

    def chunk_softmax(self, s: str) -> None:
        """p of one chunk of one pair's keys, relative to the largest score so far."""
        writer, spec, chunk = self.writer, self.spec, self.plan.chunk
        pair = self._pair_and_chunk(s)
        writer.line(f"width = min({chunk}, {self.visible} - first)")
        self._score_chunk(pair, "first", "width")
        column = f"nl.ndarray(({self.rows}, 1), nl.float32, buffer=nl.sbuf)"
        writer.line(f"largest = {self._state('row_max', pair)}")
        writer.line(f"chunk_max = {column}")
        call(writer, "nisa.tensor_reduce", "dst=chunk_max", "op=nl.maximum", "data=scores",
             "axis=1")  # fmt: skip
        writer.line("if n > 0:")
        with writer.indent():
            writer.line("nisa.tensor_tensor(chunk_max, chunk_max, largest, op=nl.maximum)")
        self._negate("chunk_max")
        writer.line(f"correction = {column}")
        writer.line("if n > 0:")
        with writer.indent():
            writer.line("# What was summed so far was relative to the old maximum.")
            call(writer, "nisa.activation", "dst=correction", "op=nl.exp", "data=largest",
                 "bias=minus_max", f"scale={spec.scale!r}")  # fmt: skip
        writer.line("nisa.tensor_copy(dst=largest, src=chunk_max)")
        writer.line(f"chunk_sum = {column}")
        self._exponentials("scores", "width", "chunk_sum")

    def chunk_weigh(self, s: str) -> None:
        """Add one chunk to a pair's output and sum; divide after the last."""
        writer = self.writer
        pair = self._pair_and_chunk(s)
        self._weigh_chunk(pair, "first", "tiles")
        writer.line(f"total = {self._state('row_sum', pair)}")
        writer.line("if n == 0:")
        with writer.indent():
            shape = f"({self.rows}, {self.spec.head_dim})"
            allocate(writer, "weighted", shape, "float32", "sbuf")
            writer.line("nisa.tensor_copy(dst=total, src=chunk_sum)")
            writer.line("nisa.tensor_copy(dst=weighted, src=acc)")
        writer.line("else:")
        with writer.indent():
            for target, addend in (("total", "chunk_sum"), ("weighted", "acc")):
                call(writer, "nisa.scalar_tensor_tensor", f"dst={target}", f"data={target}",
                     "op0=nl.multiply", "operand0=correction", "op1=nl.add",
                     f"operand1={addend}")  # fmt: skip
        writer.line("if n == chunks - 1:")
        with writer.indent():
            self._divide(pair, "weighted")

    def _weigh_chunk(self, pair: str, first: str, tiles: int | str) -> None:
        """acc = p @ v for the keys of one chunk."""
        writer, spec = self.writer, self.spec
        allocate(writer, "acc", f"({self.rows}, {spec.head_dim})", "float32", "psum")
        blocks = spec.bank_blocks
        kept = window("0", self.rows, spec.limits.partitions)
        writer.line(f"for t in range(0, {tiles}, {blocks}):")
        with writer.indent():
            writer.line(f"taken = min({blocks}, {tiles} - t)")
            shape = tuple_text(spec.kv_tile, blocks, spec.limits.partitions)
            allocate(writer, "turned", shape, spec.compute_dtype, "psum")
            writer.line("for u in range(taken):")
            with writer.indent():
                call(writer, "nisa.nc_transpose", f"dst=turned[:, u, {kept}]",
                     f"data=p[:, nl.ds((t + u) * {spec.kv_tile}, {spec.kv_tile})]")  # fmt: skip
            shape = f"({spec.kv_tile}, taken, {self.rows})"
            allocate(writer, "p_t", shape, spec.compute_dtype, "sbuf")
            writer.line(f"nisa.tensor_copy(dst=p_t, src=turned[:, 0:taken, {kept}])")
            writer.line("for u in range(taken):")
            with writer.indent():
                tile = "t + u" if first == "0" else f"{first} // {spec.kv_tile} + t + u"
                call(writer, "nisa.nc_matmul", "acc", "p_t[:, u, :]",
                     f"v_rows[:, {tile}, {pair}, :]", "accumulate=t + u > 0")  # fmt: skip


def _emit_lse(writer: Writer, spec: AttentionSpec, sets: HeadSets) -> None:
    """lse = scale * maximum + log(sum), for all tiles at once: one load of each function table."""
    writer.line("# After all exponentials, so that ScalarE changes its function table once.")
    state = tuple_text(spec.q_tile, spec.q_tiles, sets.pairs)
    allocate(writer, "lse_rows", state, "float32", "sbuf")
    writer.line("nisa.activation(dst=lse_rows, op=nl.log, data=row_sum)")
    call(writer, "nisa.scalar_tensor_tensor", "dst=lse_rows", "data=row_max", "op0=nl.multiply",
         f"operand0={spec.scale!r}", "op1=nl.add", "operand1=lse_rows")  # fmt: skip
    with loop(writer, "i", spec.q_tiles) as i:
        rows, count = emit_row_window(writer, i, spec.q_tile, spec.q_len, "queries")
        kept = window("0", count, spec.q_tile)
        emit_store_rows(writer, sets, "lse", rows, f"lse_rows[{kept}, {i}, :]")
