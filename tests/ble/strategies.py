"""What Hypothesis makes for these tests."""

from __future__ import annotations

from hypothesis import strategies as st

from ble.frame import EBID_SIZE, SLICE_SIZE, SLICES, TX_POWER_MAX, TX_POWER_MIN, Block, Frame


def blocks() -> st.SearchStrategy[Block]:
    """Every block there can be."""
    return st.builds(Block, st.binary(min_size=EBID_SIZE, max_size=EBID_SIZE), st.integers(TX_POWER_MIN, TX_POWER_MAX))


def frames(key_ids: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Frame]:
    """Every frame there can be, of these key ids."""
    return st.builds(
        Frame,
        st.integers(0, SLICES - 1),
        st.integers(0, 2**30 - 1) if key_ids is None else key_ids,
        st.binary(min_size=SLICE_SIZE, max_size=SLICE_SIZE),
    )
