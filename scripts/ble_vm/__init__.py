"""Virtual machines with real BlueZ and an adapter each, joined by air that a test owns."""
