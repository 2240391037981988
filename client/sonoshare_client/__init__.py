"""A hospital node: intake, vault, policy, agent, courier and auditor."""
