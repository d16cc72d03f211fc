"""Money: what an hour of a system costs, and what work on it costs."""
