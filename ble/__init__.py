"""The radio: bytes out, sightings in; knows frames, not cryptography."""
