"""The only writer: turns what Flowdock sent into journal, rows and coverage."""
