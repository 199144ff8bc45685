"""Secret keys at rest: files, seals and passphrases."""
