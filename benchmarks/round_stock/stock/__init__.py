"""Flower's own federated averaging of one array, without a step: what ``benchmarks.round`` compares with."""
