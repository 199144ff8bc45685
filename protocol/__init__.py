"""What SPOT is: pure functions and frozen records; no I/O, no asyncio, no clock, no settings."""
