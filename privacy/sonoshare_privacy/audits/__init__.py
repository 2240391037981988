"""Audits that are private themselves, and a gate that knows what it could not see.

Pure functions: arrays in, frozen values out. No file, no network, no ledger: the hospital's auditor reads the
images, charges its ledger and only then asks this package for a noisy figure.

Neighbouring relation everywhere: add or remove *one patient with all of their images*.

    geometric.py    the noise: exact two-sided geometric integers from a CSPRNG
    histograms.py   one patient, one bin; noisy counts of trained and held-out patients
    copytest.py     the copy test: exact distributions, critical count, bounds, smallest detectable leak
    rates.py        AUC and true-positive rate from noisy histograms, with intervals that include the noise
    gate.py         PASS, FAIL or INCONCLUSIVE, with reasons in words
    correlation.py  aligned correlation of two images over shifts, scales and flips
    copies.py       the copy detector: calibration, and one score per patient
    nearest.py      the most alike candidate of a patient image, in one stage or in two
    search.py       exact search by blocked matrix products
    twins.py        one person under two patient identifiers, for intake
    edits.py        planted edits: what the detector is measured against
    mechanism.py    did the training conform to what was charged: the canaries' verdict
    veto.py         private votes on public clusters of candidates
    membership.py   scores of the membership attacks
"""
