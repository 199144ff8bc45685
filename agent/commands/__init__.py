"""The commands of `spot`, a module a subject; `cli.py` puts them together. `views` is what a person sees of them."""
