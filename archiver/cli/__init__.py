"""One module for each command; settings are read here, and passed on as plain values."""
