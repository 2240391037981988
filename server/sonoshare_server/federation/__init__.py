"""Federated rounds over Flower: one Flower run per action, every round checkpointed, every model logged."""
