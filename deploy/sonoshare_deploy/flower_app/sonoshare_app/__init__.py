"""The thin Flower app of SonoShare: privacy parameters never come from here or from the run configuration."""
