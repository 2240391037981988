"""Codes of GA4GH's Data Use Ontology that a release's data-use agreement may have, in words."""

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel

from sonoshare_server.catalogue.api import Catalogue, ReleaseId

TERMS: Final = {
    "DUO:0000004": "no restriction",
    "DUO:0000006": "health or medical or biomedical research",
    "DUO:0000007": "disease specific research",
    "DUO:0000011": "population origins or ancestry research only",
    "DUO:0000012": "research specific restrictions",
    "DUO:0000015": "no general methods research",
    "DUO:0000016": "genetic studies only",
    "DUO:0000018": "not for profit, non commercial use only",
    "DUO:0000019": "publication required",
    "DUO:0000020": "collaboration required",
    "DUO:0000021": "ethics approval required",
    "DUO:0000022": "geographical restriction",
    "DUO:0000024": "publication moratorium",
    "DUO:0000025": "time limit on use",
    "DUO:0000026": "user specific restriction",
    "DUO:0000027": "project specific restriction",
    "DUO:0000028": "institution specific restriction",
    "DUO:0000029": "return to database or resource",
    "DUO:0000042": "general research use",
    "DUO:0000043": "clinical care use",
    "DUO:0000044": "population origins or ancestry research prohibited",
    "DUO:0000045": "not for profit organisation use only",
    "DUO:0000046": "non-commercial use only",
}
_IRI: Final = "http://purl.obolibrary.org/obo/"


class Term(BaseModel):
    """A code, its words, and its address in the ontology."""

    code: str
    label: str | None
    iri: str


class DataUse(BaseModel):
    """What a release may be used for."""

    release: str
    licence: str
    agreement_version: str
    terms: list[Term]


def duo_router(catalogue: Catalogue) -> APIRouter:
    """The route of data use."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/releases/{release}/data-use", response_model=DataUse)
    def data_use(release: ReleaseId) -> dict[str, object]:
        """Licence, agreement and DUO codes of a release."""
        stored = catalogue.release(release)
        terms = [
            {"code": code, "label": TERMS.get(code), "iri": _IRI + code.replace(":", "_")}
            for code in stored.summary["duo"]
        ]
        return {
            "release": release,
            "licence": stored.summary["licence"],
            "agreement_version": catalogue.settings.agreement.version,
            "terms": terms,
        }

    return router
