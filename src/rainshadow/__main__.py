"""`python -m rainshadow` is the `rainshadow` command."""

from rainshadow.cli import main

main()
