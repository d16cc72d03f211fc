"""Recording what a kernel executes, and timing what was recorded."""
