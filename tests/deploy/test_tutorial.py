"""The tutorial's boxes can be typed, and what its script holds against the terminal can fail. All of it is typed by
``python -m benchmarks.tutorial``, which takes minutes; the commands' words are held here."""
