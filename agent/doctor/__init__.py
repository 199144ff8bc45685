"""`spot doctor`: what keeps a machine from working, and what to do about it."""
