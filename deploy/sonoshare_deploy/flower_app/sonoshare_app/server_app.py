"""The ServerApp is the coordinator's installed code."""

from sonoshare_server.federation.server_app import app

__all__ = ["app"]
