"""The agent: the warm process of a hospital that holds vault, policy, ledger and identity key.

It answers a closed set of requests (keys, train, audit, sign) on a Unix socket and has no network of its own.
"""
