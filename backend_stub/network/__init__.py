"""How parts listen, ask each other, and prove who they are; nothing of what is said."""
