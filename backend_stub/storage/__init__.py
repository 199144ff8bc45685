"""The parts' databases: every table, and how they are reached and brought up to date."""
