"""The rules of chat as pure code: no I/O, no clock, no randomness."""
