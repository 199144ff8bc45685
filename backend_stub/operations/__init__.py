"""What an operator does to a whole backend: found it, run it, back it up, describe it."""
