"""One module a command; settings are read here, and handed down as plain values."""
