"""What researchers and hospitals check of a release: its layout, its candidate, its proofs, download and verification.

Everything here works in the base install: no torch, no numpy.
"""
