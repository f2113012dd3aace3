"""A Flowdock to develop, demonstrate and test against; it shares no code with what it tests."""
