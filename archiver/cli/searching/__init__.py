"""What ``archiver search`` is made of: the search itself, and how its answers are shown."""
