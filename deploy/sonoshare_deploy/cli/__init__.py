"""The ``sonoshare`` command: nouns then verbs, one module a noun, loaded only when it is named."""
