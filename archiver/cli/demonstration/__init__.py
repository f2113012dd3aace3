"""What ``archiver demo`` is made of: what it starts, what is seen of that, and how it is judged."""
