"""The start that a release draws from is the one that lies nearest to patients, fold by fold."""

from benchmarks.generators import nearest_starts


def test_the_nearest_start_is_that_of_the_least_mean_over_the_folds() -> None:
    one = {"raw": 1.0, "base@120": 10.0, "base@noise": 8.0, "dp_eps8@120": 5.0, "dp_eps8@noise": 9.0}
    other = one | {"base@noise": 13.0, "dp_eps8@noise": 0.5}
    folds = [{"priors": one, "votes": one}, {"priors": one, "votes": other}]
    assert nearest_starts(folds) == {
        "priors": {"base": "noise", "dp_eps8": "120"},
        "votes": {"base": "120", "dp_eps8": "noise"},
    }
