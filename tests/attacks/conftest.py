"""What attacks on the backend share: one that runs, as its own tests have."""

from tests.backend_stub.conftest import clock, there

__all__ = ["clock", "there"]
