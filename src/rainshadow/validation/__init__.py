"""Published measurements, and how far Rainshadow is from each."""
