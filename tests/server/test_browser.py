"""The catalogue's pages in a real browser: they show, break none of their own rules, and axe-core finds nothing."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from tests.server.catalogue_fixture import ACCEPTANCE, OTHER, Site, site
from tests.server.chromium import Eyes, chromium, needs_chromium
from tests.shared.audited_figures import full_figures
from tests.shared.consortium import NOW, RELEASE, Consortium

from sonoshare_server.catalogue.mail import Smtp
from sonoshare_server.catalogue.providers import Provider
from sonoshare_server.catalogue.publishing import revoke
from sonoshare_server.release.facts import Measurement
from sonoshare_shared.protocol.release import evidence

pytestmark = needs_chromium

ADA = {"email": "ada@example.org", "password": "correct horse battery"}
MEASURED = Measurement(
    "AUC, trained on this release", 0.71, (0.65, 0.77), 0.76, "trained on real images", "by <b>us</b>"
)
PHONE, WINDOW = 360, 1200

PAGES = {
    "/": "Simulated <consortium>",
    "/?q=nothing-is-called-so&sort=epsilon": "No release is like that",
    "/?epsilon=many": "is a number",
    f"/releases/{RELEASE}": "What patients paid",
    f"/releases/{OTHER}": "<b>consent</b> withdrawn",
    f"/releases/{RELEASE}/agreement": "any means",
    "/nothing": "Not found",
    "/account/sign-up": "Nobody reviews",
    "/account/sign-in": "Sign in with University & Hospital of a Rather Long Name <i>",
    f"/account/sign-in?release={RELEASE}": "Sign in with ORCID",
    "/account/forgot": "Send me a link",
    "/account/verify?link=x": "This is my address",
    "/account/password?link=x": "12 characters",
}


class _Measuring(Consortium):
    def statement(self, hospital: str, candidate: Any, /, **changes: Any) -> Any:
        return super().statement(hospital, candidate, **({"figures": full_figures()} | changes))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("catalogue")
    consortium = _Measuring(folder, utility=(MEASURED,))
    mailer = Smtp.of("smtp://127.0.0.1:1?from=fed@example.org")  # no letter is sent here
    options: dict[str, Any] = {"mailer": mailer, "address": "http://127.0.0.1:1", "contact": "fed@example.org"}
    options["providers"] = (
        Provider(name="orcid", title="ORCID", issuer="https://orcid.example", client_id="a"),
        Provider(
            name="uni",
            title="University & Hospital of a Rather Long Name <i>",
            issuer="https://u.example",
            client_id="b",
        ),
    )
    with site(folder, consortium, title="Simulated <consortium>", **options) as running:
        signed = evidence.sign_revocation(running.revocation(OTHER), consortium.keys["south"])
        revoke(running.storage.releases, signed, consortium.roster(), consortium.log())
        people = running.storage.people
        assert people is not None
        link = people.accounts.sign_up(ADA["email"], "Ada <Reader>", ADA["password"], now=NOW)
        assert link is not None
        assert people.accounts.verify(link, ADA["password"], now=NOW)
        yield running


@pytest.fixture(scope="module")
def eyes() -> Iterator[Eyes]:
    with chromium() as open_eyes:
        yield open_eyes


def look(eyes: Eyes, shown: str) -> None:
    """At the page as it stands: light and dark, wide and narrow."""
    eyes.page.wait_for_load_state("load")
    assert shown in eyes.page.inner_text("body")
    assert eyes.found() == []
    assert eyes.contrast_found() == []
    assert eyes.overflow(PHONE) == 0, "it has to be pushed sideways on a phone"
    wrong = [text for text in eyes.said if "status of 40" not in text and "status of 42" not in text]
    assert wrong == [], "it asks for what its Content-Security-Policy forbids"
    eyes.said.clear()


@pytest.mark.parametrize("path", PAGES)
def test_everybody_can_read_a_page_and_it_breaks_none_of_its_own_rules(served: Site, eyes: Eyes, path: str) -> None:
    eyes.page.goto(served.url + path)
    look(eyes, PAGES[path])


def test_pictures_of_both_classes_show_and_their_masks_at_a_tick(served: Site, eyes: Eyes) -> None:
    eyes.page.goto(f"{served.url}/releases/{RELEASE}")
    pictures = eyes.page.locator(".pictures svg:visible")
    assert pictures.count() == 11
    names = pictures.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert names[0] == "benign, image 1"
    assert names[-1] == "malignant, image 5"
    before = pictures.first.screenshot()
    eyes.page.get_by_label("Show the lesion masks").press("Space")
    assert pictures.count() == 11
    assert "outlined" in str(pictures.first.get_attribute("aria-label"))
    assert pictures.first.screenshot() != before


def test_by_keyboard_the_first_stop_is_the_content_and_the_search_works(served: Site, eyes: Eyes) -> None:
    page = eyes.page
    page.goto(served.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "q"
    page.keyboard.type(RELEASE.upper())
    page.keyboard.press("Enter")
    page.wait_for_url("**q=BREAST-2026-1**")
    assert page.locator("article h2").all_inner_texts() == [RELEASE]


def test_a_form_says_what_is_wrong_where_it_is_wrong_and_then_gives_the_token(served: Site, eyes: Eyes) -> None:
    page = eyes.page
    page.goto(f"{served.url}/releases/{RELEASE}/agreement")
    for name in ("name", "email", "purpose"):
        page.locator(f"[name={name}]").fill(ACCEPTANCE[name])
    page.evaluate("document.querySelector('main form').noValidate = true")
    page.get_by_role("button", name="Get a token").click()
    look(eyes, "Without accepting it there is no token.")
    assert page.locator("[aria-invalid]").get_attribute("aria-describedby") == "accept-wrong"
    page.get_by_label("I have read the agreement").check()
    page.get_by_role("button", name="Get a token").click()
    look(eyes, "It is shown once.")


def test_an_account_shows_valid_expired_and_revoked_tokens(served: Site, eyes: Eyes) -> None:
    people, page = served.storage.people, eyes.page
    assert people is not None
    session = people.accounts.sign_in(ADA["email"], ADA["password"], now=NOW)
    assert session is not None
    ada = people.accounts.of_session(session, now=NOW)
    assert ada is not None
    asked = {"purpose": "teaching", "agreement": "1.0", "lifetime": timedelta(days=30)}
    people.tokens.grant(ada, RELEASE, label="old", now=NOW - timedelta(days=60), **asked)  # type: ignore[arg-type]
    page.goto(f"{served.url}/account/sign-in")
    for name, value in ADA.items():
        page.locator(f"[name={name}]").fill(value)
    page.get_by_role("button", name="Sign in").click()
    look(eyes, "An expired token opens nothing any more")
    links = page.locator("a[href*='/account/oidc/']")
    assert links.all_inner_texts() == ["Connect ORCID", "Connect University & Hospital of a Rather Long Name <i>"]
    page.goto(f"{served.url}/account?release={RELEASE}")
    page.get_by_label("What you will use").fill("teaching")
    page.get_by_label("Label").fill("<laptop>")
    page.get_by_label("I have read the agreement").check()
    page.get_by_role("button", name="Get a token").click()
    look(eyes, "Your new token")
    assert page.locator("tbody .verdict").all_inner_texts() == ["valid", "expired"]
    page.get_by_role("button", name="Revoke").click()
    look(eyes, "<laptop>")
    assert page.locator("tbody .verdict").all_inner_texts() == ["revoked", "expired"]


def test_printed_a_page_has_no_buttons_and_cuts_nothing_off(served: Site, eyes: Eyes) -> None:
    page = eyes.page
    page.goto(f"{served.url}/releases/{RELEASE}")
    page.emulate_media(media="print")
    assert page.locator(".button:visible, .onpage:visible").count() == 0
    assert eyes.overflow(WINDOW // 2) == 0
    page.emulate_media(media="screen")
