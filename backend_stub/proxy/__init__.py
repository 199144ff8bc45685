"""The proxies, each of which signs for its group."""
