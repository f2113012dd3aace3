"""What is true of chat, whoever asks: no I/O, no clock, no chance."""
