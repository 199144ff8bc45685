"""The health authority with its group managers."""
