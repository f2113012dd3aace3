"""The parts of ``archiver search``: the search itself, and how its results are shown."""
