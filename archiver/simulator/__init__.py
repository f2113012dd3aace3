"""A Flowdock to develop, demonstrate and judge against; it shares no code with what it judges."""
