"""What turns figures of patients into private ones: Gaussian and geometric noise, histograms, votes, sampling.

Each module states its sensitivity under adding or removing one patient, and draws from a cryptographic source.
"""
