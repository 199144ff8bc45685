"""The device of a user: wires radio, protocol, storage and network together (command `spot`)."""
