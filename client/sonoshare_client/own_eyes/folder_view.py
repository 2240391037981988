"""A stand-alone audit of a folder, as the hospital's own eyes may see it. NOT private."""

import numpy as np

from sonoshare_client.audit.folder import FolderAudit
from sonoshare_client.own_eyes.view import MOST_PAIRS, ShownPair, TrueView


def folder_view(audit: FolderAudit, title: str, threshold: float) -> TrueView:
    """The most alike pairs and every true score of an audit.

    Args:
        audit: what was audited.
        title: what it is, in words.
        threshold: scores from here on are copies.
    """
    held_out = audit.most_alike(audit.held_out)
    rows = sorted(audit.nearest(), key=lambda row: -row[3])
    pairs = tuple(
        ShownPair(score, name, synthetic.image.name, own.pixels(), synthetic.pixels())
        for name, own, synthetic, score in rows[:MOST_PAIRS]
    )
    return TrueView(title, pairs, np.array([row[3] for row in rows]), held_out.scores, threshold)
