"""One file per instruction; the folder is the registry (`isa.instruction.load_instructions`)."""
