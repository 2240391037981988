"""Preflight: what a machine, a hospital's node and a coordinator need before they can work, looked at in one go."""
