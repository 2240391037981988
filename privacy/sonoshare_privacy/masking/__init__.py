"""Sums without parts: hospitals add masks that cancel, and only the sum over all of them can be read.

- ``fixed_point``: numbers as integers, with a public unit, so that sums are exact.
- ``layout``: which numbers of an update stand where in the vector that is masked.
- ``agreement``: a key for every pair of hospitals, fresh for every set of every round.
- ``pair_masks``: masks from these keys, added modulo 2^64, and the sum.

The protocol around it, what each party learns and what is not promised: docs/masking.md. Proof:
docs/proofs/masked-sums.md.
"""
