"""What people read: text for a terminal, a timeline for Perfetto, a page for a browser."""
