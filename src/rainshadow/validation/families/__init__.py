"""Families of published points: one file each; the folder is the registry.

A family has four functions. claims(point): whether it can compute this point again.
launch(point, checkouts): what must run for it, an object with `key`, equal for points that share
one run, and `measure(traces)`; `CannotRun` says why not. value(point, measured): the point's
metric, in its dimension. target(point): the group it is judged in.
"""
