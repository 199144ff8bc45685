"""The test vectors of docs/protocol.md: how each is computed, and how all of them are made."""
