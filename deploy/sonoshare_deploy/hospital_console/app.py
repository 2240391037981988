"""The console's application: its pages in the order of work, and their routes."""

from typing import Final

import torch
from starlette.types import ASGIApp

from sonoshare_client.node.home import NodeHome
from sonoshare_deploy.cli.typed import typed
from sonoshare_deploy.hospital_console.audit_pages import audit_routes
from sonoshare_deploy.hospital_console.node_pages import node_routes
from sonoshare_deploy.hospital_console.picture_pages import picture_routes
from sonoshare_deploy.hospital_console.set_aside_pages import set_aside_routes
from sonoshare_deploy.hospital_console.study_pages import study_routes
from sonoshare_shared.local_pages.door import Door
from sonoshare_shared.local_pages.pages import LocalPages, local_app

NAVIGATION: Final = (
    ("/", "Overview"),
    ("/studies", "Studies"),
    ("/budget", "Budget"),
    ("/set-aside", "Set aside"),
    ("/pictures", "Pictures"),
    ("/twins", "Twins"),
    ("/audits", "Audits"),
    ("/releases", "Releases"),
    ("/log", "Log"),
)
_FOOT: Final = "For the eyes of this hospital alone. These pages are served on this machine, and may show patients."


def hospital_console(home: NodeHome, device: torch.device, door: Door) -> ASGIApp:
    """The pages of one node.

    Args:
        home: its folder.
        device: where pictures are compared.
        door: who may enter.
    """
    pages = LocalPages(f"Hospital {home.hospital}", "sonoshare_deploy.hospital_console", NAVIGATION, _FOOT, typed)
    routes = [
        *node_routes(home, pages),
        *study_routes(home, pages),
        *set_aside_routes(home, pages),
        *picture_routes(home, pages),
        *audit_routes(home, pages, device),
    ]
    return local_app(pages, routes, door)
