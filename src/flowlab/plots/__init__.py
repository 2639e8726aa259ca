"""Pictures: arrays in, matplotlib figures out; a file for what they are of."""
