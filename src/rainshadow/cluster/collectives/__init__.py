"""One file per all-reduce algorithm; `cluster.network` takes the fastest that fits.

Each file has `accepts(links)` and `all_reduce_s(size_bytes, links)`; the folder is the registry.
"""
