"""A backup of a role's folder: one encrypted archive, made while the role runs, checked before it is believed."""
