"""One file per collective algorithm; `cluster.network` takes the fastest that fits.

Each file has `accepts(links)`, true or false or a mask over a table of groups, and `all_reduce_s`,
`gather_s` (all-gather or reduce-scatter) or `all_to_all_s` of (size_bytes, links), as far as the
algorithm can do them; the folder is the registry.
"""
