"""The vault's index, version by version; append only, because every hospital's index goes through all of them.

What the tables hold is said in ``store`` (images, pairs, studies) and ``quarantine`` (what was set aside).
"""

from typing import Final

from sonoshare_shared.database import Versions

_RAISE_GENERATION: Final = """CREATE TRIGGER {table}_{change} AFTER {change} ON {table} BEGIN
    INSERT INTO generation VALUES (0, 1) ON CONFLICT (only) DO UPDATE SET number = number + 1;
END"""
INDEX_VERSIONS: Final[Versions] = (
    (
        "CREATE TABLE IF NOT EXISTS constant (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        """CREATE TABLE IF NOT EXISTS image (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            blob TEXT NOT NULL UNIQUE,
            pseudonym TEXT NOT NULL,
            picture TEXT NOT NULL UNIQUE,
            instance TEXT UNIQUE
        ) STRICT""",
        "CREATE INDEX IF NOT EXISTS image_of_patient ON image (pseudonym)",
        """CREATE TABLE IF NOT EXISTS twin (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            first TEXT NOT NULL REFERENCES image (blob),
            second TEXT NOT NULL REFERENCES image (blob),
            score REAL NOT NULL,
            two_people INTEGER NOT NULL DEFAULT 0,
            UNIQUE (first, second)
        ) STRICT""",
    ),
    (
        "CREATE TABLE enrolment (study TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT",
        "CREATE TABLE generation (only INTEGER PRIMARY KEY CHECK (only = 0), number INTEGER NOT NULL) STRICT",
        # Triggers, not statements of the writer: no way of changing a row can forget to raise the generation.
        *(
            _RAISE_GENERATION.format(table=table, change=change)
            for table in ("image", "twin")
            for change in ("insert", "update", "delete")
        ),
    ),
    (
        # A clip gives several pictures of one instance. SQLite drops no constraint of a table: it is written again,
        # with its counter, because numbers of images say what was compared and must never be given twice.
        """CREATE TABLE framed (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            blob TEXT NOT NULL UNIQUE,
            pseudonym TEXT NOT NULL,
            picture TEXT NOT NULL UNIQUE,
            instance TEXT,
            frame INTEGER NOT NULL,
            UNIQUE (instance, frame)
        ) STRICT""",
        "INSERT INTO sqlite_sequence SELECT 'framed', seq FROM sqlite_sequence WHERE name = 'image'",
        "INSERT INTO framed SELECT number, blob, pseudonym, picture, instance, 1 FROM image",
        "DROP TABLE image",  # and with it its index and its triggers
        "ALTER TABLE framed RENAME TO image",
        "CREATE INDEX image_of_patient ON image (pseudonym)",
        *(_RAISE_GENERATION.format(table="image", change=change) for change in ("insert", "update", "delete")),
    ),
    (
        # Which rules an image was taken under: none, where it came before they were written down.
        "ALTER TABLE image ADD COLUMN rules INTEGER",
        "ALTER TABLE image ADD COLUMN policy TEXT",
        # A picture that was in the vault keeps its blob here; a file that never was has none.
        """CREATE TABLE quarantine (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            pseudonym TEXT NOT NULL,
            waiting INTEGER NOT NULL,
            blob TEXT UNIQUE,
            sealed BLOB NOT NULL
        ) STRICT""",
        "CREATE INDEX quarantine_of_patient ON quarantine (pseudonym)",
    ),
)
