"""Intake: pictures of a hospital become de-identified images of its vault.

The parent (``ingest``, ``pool``, ``opening``) never parses a picture; killable children (``worker``) do, within
limits. Nothing is imported here, so that a child loads only what it needs.
"""
