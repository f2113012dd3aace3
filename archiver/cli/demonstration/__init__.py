"""The parts of ``archiver demo``: what it starts, what it shows, and how it is judged."""
