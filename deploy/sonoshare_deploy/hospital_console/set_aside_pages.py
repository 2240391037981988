"""What intake has set aside: what ``hospital quarantine list``, ``show``, ``accept`` and ``drop`` do.

A picture is decoded by the limited child of intake when its page is opened, is shown whole, and is not kept.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_client.intake.accepting import WITH_PLACE, cause_of, may_be_accepted
from sonoshare_client.intake.deciding import LONGEST_NOTE, accept, drop, picture_of
from sonoshare_client.node.home import NodeHome
from sonoshare_client.vault.quarantine import Item
from sonoshare_client.vault.store import Vault
from sonoshare_deploy.cli.hospital_quarantine import fields_of, place_of
from sonoshare_deploy.hospital_console.naming import number_of
from sonoshare_deploy.hospital_console.turning import Turned, turned
from sonoshare_shared.errors import InputError
from sonoshare_shared.local_pages.guard import form_of
from sonoshare_shared.local_pages.pages import LocalPages

PNG: Final = "image/png"
_ON_A_PAGE: Final = 40


def set_aside_routes(home: NodeHome, pages: LocalPages) -> list[Route]:
    """Routes of what was set aside."""

    def listed(request: Request) -> Response:
        with Vault(home) as vault:
            items = vault.quarantine.items()
        waiting = [item for item in items if item.waiting]
        shown: Turned[Item] = turned(waiting, request.query_params.get("page", ""), _ON_A_PAGE)
        return pages.page(
            request,
            "set_aside",
            rows=[fields_of(item) for item in shown.rows],
            turned=shown,
            waiting=len(waiting),
            let_in=len(items) - len(waiting),
        )

    def one(request: Request) -> Response:
        with Vault(home) as vault:
            item = vault.quarantine.item(number_of(request))
        cause = cause_of(item.reason)
        return pages.page(
            request,
            "set_aside_item",
            item=fields_of(item),
            may="no" if cause is None else may_be_accepted(cause),
            with_place=cause in WITH_PLACE,
            longest=LONGEST_NOTE,
        )

    def picture(request: Request) -> Response:
        _, png = picture_of(home, number_of(request))
        return Response(png, media_type=PNG)

    def let_in(request: Request) -> Response:
        number, form = number_of(request), form_of(request)
        region, box = (form.get(name, "").strip() for name in ("region", "box"))
        report = accept(
            home,
            number,
            note=form.get("note", "").strip(),
            region=place_of(region) if region else None,
            box=place_of(box) if box else None,
        )
        if report is not None and report.quarantined:
            words = f"What you decided is kept, but number {number} is set aside for another reason now."
            return pages.done("/set-aside", f"{words} {report.quarantined[0].reason}")
        return pages.done("/set-aside", f"Number {number} is taken in.")

    def forgotten(request: Request) -> Response:
        number = number_of(request)
        if form_of(request).get("sure") != "yes":
            raise InputError("nothing was forgotten", remedy="go back, and tick that you are sure")
        removed = drop(home, number)
        gone = ", and its file in the inbox is gone" if removed else ""
        return pages.done("/set-aside", f"Number {number} is forgotten{gone}.")

    return [
        Route("/set-aside", listed),
        Route("/set-aside/{number}", one),
        Route("/set-aside/{number}/picture.png", picture),
        Route("/set-aside/{number}/accept", let_in, methods=["POST"]),
        Route("/set-aside/{number}/drop", forgotten, methods=["POST"]),
    ]
