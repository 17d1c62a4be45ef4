"""Images as they come, in files or in memory: read right, or refused by name."""
