"""The commands of `spot-backend`, a module a subject; `cli.py` puts them together."""
