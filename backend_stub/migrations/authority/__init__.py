"""The authority's."""
