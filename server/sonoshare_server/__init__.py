"""The coordinator: federation, release pipeline and catalogue."""
