"""A hospital's node: its folder, keys, rules and ledger, what it has pinned, and the frames on its own socket."""
