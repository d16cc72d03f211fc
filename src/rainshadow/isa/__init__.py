"""What one instruction of a NeuronCore is: engines, memories, access patterns, instructions."""
