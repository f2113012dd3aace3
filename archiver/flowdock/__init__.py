"""The wire: how to request data from Flowdock, and how to read it; nothing about storage."""
