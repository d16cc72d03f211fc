"""One file per way to divide a training step over chips; `cluster.training` puts them together."""
