"""Attacks, carried out: one module an attack, numbered and named as in docs/threat-model.md.

Each has an attacker with code of its own, who uses only what that attacker would have, and a function that carries the
attack out and returns what was gained. The same function is run against a mutant, with one defence taken out: there it
must succeed, or the test would prove nothing. What cannot be prevented is measured.
"""
