"""Observes a daemon: whether it captures, what it has done, and how that is reported."""
