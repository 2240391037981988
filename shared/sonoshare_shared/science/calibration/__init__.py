"""Fitting the simulator to patients by private votes: the public ballot, and phantoms drawn by its outcome."""
