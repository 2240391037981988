"""What both sides sign, hash, log and verify: a researcher's trust base.

It imports no torch, no numpy and nothing of ``sonoshare_shared.science``, so that a release is verified by a small
program that anybody can read (import-linter holds it).
"""
