"""Watching over a daemon: is it capturing, what has it done, and whom that is told."""
