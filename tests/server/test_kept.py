"""What is kept stands for as long as nothing changed, and never for longer; it has a bound."""

import threading

from sonoshare_server.catalogue.kept import Kept


def test_a_thing_is_made_once_until_something_changes() -> None:
    number, made = [1], []
    kept = Kept[bytes](lambda: number[0], len, 100)

    def make() -> bytes:
        made.append(number[0])
        return b"%d" % number[0]

    assert [kept.of("a", make) for _ in range(3)] == [b"1"] * 3
    number[0] = 2
    assert [kept.of("a", make) for _ in range(3)] == [b"2"] * 3
    assert made == [1, 2]


def test_what_is_made_while_something_changes_is_made_anew() -> None:
    number = [1]
    kept = Kept[bytes](lambda: number[0], len, 100)

    def meanwhile() -> bytes:
        number[0] += 1
        assert kept.of("other", lambda: b"x") == b"x", "somebody else sees the change first"
        return b"old"

    assert kept.of("a", meanwhile) == b"old"
    assert kept.of("a", lambda: b"new") == b"new"


def test_what_was_asked_for_longest_ago_goes_first_and_nothing_is_not_kept() -> None:
    kept = Kept[bytes](lambda: 1, len, 10)
    for key in "abc":
        kept.of(key, lambda: b"1234")
        kept.of("a", lambda: b"never again")
    assert (kept.size, kept.of("a", lambda: b"")) == (8, b"1234")
    assert kept.of("b", lambda: b"anew") == b"anew"
    assert kept.of("huge", lambda: b"x" * 11) == b"x" * 11
    assert kept.size <= 10
    assert kept.of("none", lambda: None) is None
    assert kept.of("none", lambda: b"now") == b"now"


def test_many_threads_share_it() -> None:
    number = [1]
    kept = Kept[int](lambda: number[0], lambda _: 1, 50)
    wrong: list[int] = []

    def ask(start: int) -> None:
        for step in range(2000):
            key = (start + step) % 80
            if kept.of(key, lambda: key) != key:  # noqa: B023 - called at once
                wrong.append(key)
            if step % 500 == 0:
                number[0] += 1

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert kept.size <= 50
