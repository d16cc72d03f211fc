"""The building: what chips and hosts draw, and what the site adds."""
