"""On the path of a process that trains beside a test's agent: every patient's draws come from one key, in every run."""

import secrets

secrets.randbits = lambda count: 7  # type: ignore[assignment]
secrets.token_bytes = lambda count=None: bytes([7]) * (count or 32)  # type: ignore[assignment]
