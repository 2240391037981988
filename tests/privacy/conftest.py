"""Small models, a ledger and mechanisms for the privacy room's tests."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sonoshare_privacy import Budget, Budgets, Ledger
from sonoshare_privacy.mechanisms.draw_words import normals, public_keys, words
from sonoshare_shared.protocol.documents.plan import Mechanism
from sonoshare_shared.protocol.keys import SigningKey

torch.set_num_threads(1)
BUDGETS = Budgets(study=Budget(20.0, 1e-5), lifetime=Budget(40.0, 1e-5))


class Small(nn.Module):
    """A convolutional regressor on 8 x 8 images with every supported leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.scanner = nn.Embedding(3, 8)
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.layer = nn.LayerNorm(8)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Any, scanner: Any) -> Any:
        h = torch.relu(self.norm(self.conv(x)) + self.scanner(scanner)[:, :, None, None])
        return self.head(self.layer(h.mean((2, 3)))).squeeze(1)


class Cohort:
    """Made-up patients; draws are a function of the patient and the key only."""

    def __init__(self, model: Any, patients: int = 40, draws: Any = 2, dtype: Any = torch.float32) -> None:
        generator = torch.Generator().manual_seed(5)
        self.model, self.draws, self.dtype = model, draws, dtype
        self.images = torch.randn(patients, 1, 8, 8, generator=generator).to(dtype)
        self.scanners = torch.randint(0, 3, (patients,), generator=generator)

    def draw(self, indices: torch.Tensor, keys: torch.Tensor) -> dict[Any, Any]:
        noise = normals(words(keys, self.draws * 64)).view(-1, 1, 8, 8).to(self.dtype)
        each = indices.repeat_interleave(self.draws)
        return {
            "x": self.images[each] + 0.1 * noise,
            "scanner": self.scanners[each],
            "target": self.images[each].mean((1, 2, 3)),
        }

    def probe(self) -> list[Any]:
        """Draws of two made-up patients who are not in the cohort."""
        other = Cohort(self.model, 2, self.draws, self.dtype)
        return [other.draw(torch.tensor([index]), public_keys(1, index)) for index in range(2)]

    def loss(self, batch: Any) -> Any:
        return (self.model(batch["x"], batch["scanner"]) - batch["target"]).square()


@pytest.fixture
def small() -> type[Small]:
    """The small model's class."""
    return Small


@pytest.fixture
def make_cohort() -> type[Cohort]:
    """The cohort's class."""
    return Cohort


@pytest.fixture
def cohort() -> Cohort:
    torch.manual_seed(0)
    return Cohort(Small())


@pytest.fixture
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def open_ledger(tmp_path: Path, key: SigningKey) -> Iterator[Callable[..., Any]]:
    """Opens (again) a ledger in the test's folder."""
    opened = []

    def open_it(
        name: str = "ledger.db", budgets: Budgets = BUDGETS, hospital: str = "alpha", signing: SigningKey = key
    ) -> Ledger:
        source = budgets if callable(budgets) else lambda: budgets
        ledger = Ledger(
            tmp_path / name, key=signing, hospital=hospital, clock=lambda: datetime.now(UTC), budgets=source
        )
        opened.append(ledger)
        return ledger

    yield open_it
    for ledger in opened:
        ledger.close()


@pytest.fixture
def mechanism() -> Mechanism:
    return Mechanism(rate=0.25, noise_multiplier=2.0, clip_norm=0.5, draws=2, delta=1e-5)
