"""The one-machine consortium, provisioning, and the ``sonoshare`` command."""
