"""One front end per source language; each turns what users write into a `compiler.graph.Graph`."""
