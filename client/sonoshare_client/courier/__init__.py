"""The courier: the process that talks to the network and has no vault key.

It is Flower's SuperNode with a ClientApp of the hospital's own installation, which passes frames between Flower
and the agent's Unix socket. It reads nothing of what it carries, and may run as another operating-system user.
"""
