"""The only writer: what the wire said becomes journal, rows and coverage."""
