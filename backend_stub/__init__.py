"""The smallest honest backend: server, proxies, authority with its group managers (command `spot-backend`)."""
