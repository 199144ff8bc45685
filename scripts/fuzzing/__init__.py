"""Fuzzing: what strangers can send, made up by libFuzzer (atheris), and what must hold whatever it is."""
