"""Published training runs, each predicted by constants that were fitted without its source.

What the errors of a prediction for something new are like: the fit has seen neither the run nor
its neighbours in the same publication. The baseline's constants leave the source out as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from rainshadow.cluster.rates import starting_point
from rainshadow.errors import InputError, RainshadowError
from rainshadow.validation.constant_rate import left_out
from rainshadow.validation.families import training_runs
from rainshadow.validation.points import Point
from rainshadow.validation.predicted import Predicted
from rainshadow.validation.training_cases import Case
from rainshadow.validation.training_fit import Fit, fit_constants, leave_one_source_out
from rainshadow.validation.training_model import Points, points_of
from rainshadow.validation.validate import Outcome


def fit_to(cases: Sequence[Case]) -> tuple[Points, Fit]:
    """The runs, each with the layout that the fitted model finds fastest, and the fit."""
    constants = starting_point()
    for _ in range(2):
        points = points_of(cases, constants)
        fit = fit_constants(points)
        constants = fit.constants
    return points, fit


def validate_left_out(points: Sequence[Point]) -> list[Outcome]:
    """The outcome of every open training run; other points say that they are none.

    Errors: `InputError` where no point is an open training run.
    """
    outcomes: dict[int, Outcome] = {}
    cases: list[Case] = []
    places: list[int] = []
    for place, point in enumerate(points):
        try:
            cases.append(_open_case(point))
            places.append(place)
        except RainshadowError as error:
            outcomes[place] = Outcome(point, "training_runs", None, why=error.what)
    if not cases:
        raise InputError("no open training run to leave out", allowed="rows with split open")
    table, fit = fit_to(cases)
    seconds = leave_one_source_out(table, fit)
    simple = left_out(cases, [case.group for case in cases])
    for place, ours, theirs in zip(places, seconds.tolist(), simple, strict=True):
        point = points[place]
        outcomes[place] = Outcome(
            point,
            "training_runs",
            training_runs.target(point, seen="source left out"),
            training_runs.value(point, Predicted(ours)),
            baseline=training_runs.value(point, Predicted(theirs)),
        )
    return [outcomes[place] for place in range(len(points))]


def _open_case(point: Point) -> Case:
    if not training_runs.claims(point):
        raise InputError("no training run")
    case = training_runs.case(point)
    if case.held_out:
        raise InputError("kept from every fit")
    return case
