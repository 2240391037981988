"""What the vault keeps, and pairs that look like one person: what ``hospital review`` and ``twins`` show and decide.

A picture is named by its place in the vault and the vault's generation: after a change of the vault an open page shows
no picture in another's place.
"""

import io
from typing import Final

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sonoshare_client.intake.twins import pair_picture
from sonoshare_client.node.home import NodeHome
from sonoshare_client.own_eyes.sheets import shown_cell
from sonoshare_client.vault.store import ImageRef, Vault
from sonoshare_deploy.hospital_console.naming import number_of
from sonoshare_deploy.hospital_console.set_aside_pages import PNG
from sonoshare_deploy.hospital_console.turning import turned
from sonoshare_shared.local_pages.pages import LocalPages

_ON_A_PAGE: Final = 24


def picture_routes(home: NodeHome, pages: LocalPages) -> list[Route]:
    """Routes of the vault's pictures and pairs."""

    def pictures(request: Request) -> Response:
        with Vault(home) as vault:
            generation = vault.generation()
            count = vault.count()
            shown = turned(range(count), request.query_params.get("page", ""), _ON_A_PAGE)
            rows = [
                (place, image.label or "no class", image.device or "no device")
                for place, image in enumerate(map(vault.load, vault.part(shown.first, _ON_A_PAGE)), start=shown.first)
            ]
        return pages.page(request, "pictures", rows=rows, turned=shown, count=count, generation=generation)

    def picture(request: Request) -> Response:
        with Vault(home) as vault:
            ref = _named(vault, request)
            return _png(Image.fromarray(shown_cell(vault.load(ref))))

    def twins(request: Request) -> Response:
        with Vault(home) as vault:
            found, held_back = vault.twins(), len(vault.held_back())
            uncompared = vault.count() - vault.compared()
        undecided_first = sorted(found, key=lambda twin: (twin.two_people, twin.number))
        shown = turned(undecided_first, request.query_params.get("page", ""), _ON_A_PAGE)
        return pages.page(request, "twins", turned=shown, held_back=held_back, uncompared=uncompared)

    def pair(request: Request) -> Response:
        with Vault(home) as vault:
            found = [twin for twin in vault.twins() if twin.number == number_of(request)]
            if not found:
                raise HTTPException(404)
            return _png(pair_picture(vault, found[0]))

    def two_people(request: Request) -> Response:
        number = number_of(request)
        with Vault(home) as vault, vault.writing() as writer:
            writer.two_people(number)
        return pages.done("/twins", f"Pair {number} is two people.")

    return [
        Route("/pictures", pictures),
        Route("/pictures/{generation}/{place}.png", picture),
        Route("/twins", twins),
        Route("/twins/{number}.png", pair),
        Route("/twins/{number}/two-people", two_people, methods=["POST"]),
    ]


def _named(vault: Vault, request: Request) -> ImageRef:
    found = vault.part(number_of(request, "place"), 1)
    if vault.generation() != number_of(request, "generation") or not found:
        raise HTTPException(404)
    return found[0]


def _png(picture: Image.Image) -> Response:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return Response(buffer.getvalue(), media_type=PNG)
