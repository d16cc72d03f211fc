"""The page of a profile: every tile is drawn once, at its address and time; nothing is fetched."""

from __future__ import annotations

import re

from rainshadow.machine import load_chip
from rainshadow.report.advice import advise
from rainshadow.report.occupancy import Occupancy
from rainshadow.report.profile import summarize_profile
from rainshadow.report.profile_page import memory_map, profile_page

CHIP = load_chip("trainium2")


def test_the_page_is_one_file_with_both_memories(matmul):
    summary = {
        "launches": [{**summarize_profile(matmul, CHIP), "advice": advise([matmul], 0, CHIP)}]
    }
    page = profile_page(summary, [matmul])
    assert "SBUF over time" in page and "PSUM over time" in page
    assert "nisa.nc_matmul(dst=total" in page and "What a change can save" in page
    assert not re.search(r"<(script|img|link|iframe)|http://(?!www.w3.org)|https://", page)


def test_a_tile_is_drawn_from_its_first_to_its_last_use(matmul):
    occupancy = Occupancy.of(matmul, "psum")
    (tensor,) = occupancy.tensor.tolist()
    trace = matmul.trace
    rows = trace.access_row[trace.uses[trace.use, 0] == tensor]
    assert occupancy.start_ps[0] == matmul.start_ps[rows].min()
    assert occupancy.end_ps[0] == matmul.end_ps[rows].max()
    picture = memory_map(occupancy, matmul, 16384)
    assert picture.count("<rect") == 1 and "2,048 B per partition" in picture
