"""What a researcher's commands share: catalogues that are known, whom to trust, and getting a release."""
