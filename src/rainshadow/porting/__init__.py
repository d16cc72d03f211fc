"""What ties code to CUDA, and how a script meets the simulated chip without being edited."""
