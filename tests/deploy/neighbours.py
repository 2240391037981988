"""Neighbours of a vault: the same vault but for one patient, or for one of each kind."""

import shutil
from typing import Any

import numpy as np

from sonoshare_client.intake.twins import compare_new
from sonoshare_client.node.home import NodeHome
from sonoshare_client.node.policy_file import policy_text
from sonoshare_client.vault.store import Vault
from sonoshare_client.vault.stored_image import StoredImage
from sonoshare_shared.science.phantom import simulate


def picture(seed: int, label: str = "benign", gain: float = 1.0) -> StoredImage:
    grey = simulate(1, seed=seed, size=128).images[0] ** gain
    return StoredImage(np.rint(255 * grey).astype(np.uint8), None, None, label, "unknown")


def name_on(vault: Vault, *, held_out: bool) -> str:
    """A patient whom the vault's coin puts on a side."""
    names = (f"X{number}" for number in range(1000))
    return next(n for n in names if vault._keys.held_out(vault.pseudonym(n), vault.held_out_fraction) is held_out)


def unchanged(home: Any) -> None:
    pass


def one_of_every_kind(home: NodeHome) -> None:
    """Unknown class on either side, an unreadable image, an enormous one, a twin of somebody, one never compared."""
    with Vault(home) as vault, vault.writing() as writer:
        for seed, held_out in ((901, False), (902, True)):
            writer.add(name_on(vault, held_out=held_out), picture(seed, "cyst"))
        writer.add("damaged", picture(903))
        enormous = picture(904)
        object.__setattr__(enormous, "pixels", np.zeros((4, 5000), np.uint8))
        somebody = vault.load(vault.images()[0])
        writer.add("twin", StoredImage((somebody.pixels * 0.9).astype(np.uint8), None, None, "benign", ""))
        writer.flush()
        compare_new(vault, writer)
        assert vault.twins()
        writer.add("enormous", enormous)
        writer.add("never compared", picture(905))
        writer.flush()
        (blob,) = (ref.blob for ref in vault.images() if ref.pseudonym == vault.pseudonym("damaged"))
        (home.vault_path / "blobs" / blob).write_bytes(b"not sealed")


def below_the_hospitals_own_minimum(home: Any) -> None:
    """Exactly as many as the policy asks for, and then one fewer."""
    with Vault(home) as vault, vault.writing() as writer:
        trained = [patient.pseudonym for patient in vault.patients() if not patient.held_out]
        rules = home.policy()
        least = rules.cohort.model_copy(update={"minimum_trained": len(trained)})
        home.policy_path.write_text(policy_text(rules.model_copy(update={"cohort": least})))
        writer.forget(trained[0])


def gone(home: NodeHome) -> None:
    shutil.rmtree(home.vault_path)
    home.vault_path.mkdir()
    (home.vault_path / "index.db").write_bytes(b"noise" * 1000)
