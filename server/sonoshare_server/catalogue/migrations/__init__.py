"""The steps between the versions of the catalogue's database, for Alembic."""
