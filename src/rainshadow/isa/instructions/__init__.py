"""One file per instruction; the folder is the registry (see `isa.instruction.load_instructions`)."""
