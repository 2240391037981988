"""What is kept in memory for as long as nobody changes the list of releases: made once, and given to whoever asks.

    answers = Kept(store.standing, len, 16 << 20)
    answers.of(("list", cursor, limit), lambda: json_of(...))

``standing`` counts changes by any server on the database, and is asked every time: what was changed a moment ago is
seen by the next who asks. What is made while a change happens is given once and made anew for the next. What is kept
has a size, and all of it together at most a bound; what was asked for longest ago goes first. What depends on who asks
has no place here.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Things by key, usable from several threads.

    Args:
        standing: how often the list was changed.
        size: of a thing.
        most: size of all that are kept.
    """

    def __init__(self, standing: Callable[[], int], size: Callable[[T], int], most: int) -> None:
        self._standing, self._size, self._most = standing, size, most
        self._lock = threading.Lock()
        self._things: OrderedDict[Hashable, T] = OrderedDict()
        self._number, self._sum = -1, 0

    @property
    def size(self) -> int:
        """Of all that is kept."""
        return self._sum

    def of(self, key: Hashable, make: Callable[[], T | None]) -> T | None:
        """The thing of a key; made where none is kept. None is given on and not kept."""
        number = self._standing()  # first: what is made from something newer is made once too often, never too seldom
        with self._lock:
            if number > self._number:
                self._things.clear()
                self._number, self._sum = number, 0
            if number == self._number and key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
        made = make()
        if made is not None:
            self._keep(number, key, made)
        return made

    def _keep(self, number: int, key: Hashable, made: T) -> None:
        with self._lock:
            if number != self._number or key in self._things:
                return
            self._things[key] = made
            self._sum += self._size(made)
            while self._sum > self._most:
                self._sum -= self._size(self._things.popitem(last=False)[1])
