"""What Flowdock says, and how to ask it: the wire, and nothing that is stored."""
