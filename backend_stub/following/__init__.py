"""What server and proxies have in common: they follow the authority's parameters, and check by them."""
