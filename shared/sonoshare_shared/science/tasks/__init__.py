"""Clinical questions as files: those that ship, how one is read, and which phantoms stand for its classes."""
