"""The server's."""
