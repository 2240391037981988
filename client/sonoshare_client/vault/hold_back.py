"""Which patients wait because somebody may stand under two identifiers; a pure function of the undecided pairs.

Rule: pairs are taken in the order of their likeness, the most alike first. A pair of which neither patient waits yet
makes *both* wait; any other pair is passed over. (A maximal matching, found greedily.)

Promises, for every set of pairs:

- of every undecided pair at least one patient waits, so that no person takes part under two identifiers;
- a patient without an undecided pair never waits;
- adding or removing one patient, with all of their pairs, changes at most *one other* patient's place, and no rule
  with the first two properties does better (docs/proofs/who-waits.md).

Not promised: that the pairs themselves, found by ``sonoshare_privacy.audits.twins``, would be the same without x; its
threshold rises with the number of pairs of images (docs/decisions/0075-who-takes-part.md).
"""

from collections.abc import Iterable


def waiting(pairs: Iterable[tuple[str, str, float]]) -> frozenset[str]:
    """Patients who wait.

    Args:
        pairs: undecided pairs: two different patients and how alike they look. The order of the pairs, and of the two
            in a pair, plays no part; equal scores are taken in the order of the patients' pseudonyms.
    """
    by_likeness = sorted((-score, min(one, other), max(one, other)) for one, other, score in pairs)
    matched: set[str] = set()
    for _, one, other in by_likeness:
        if matched.isdisjoint((one, other)):
            matched.update((one, other))
    return frozenset(matched)
