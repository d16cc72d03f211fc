"""From a captured graph to NKI kernels: front ends, passes, operators, the source they print."""
