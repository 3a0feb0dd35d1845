"""Where a workspace lies, who holds what in it, and what may be freed."""
