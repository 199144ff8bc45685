"""The server, which sees both sides of a contact and signs partially."""
