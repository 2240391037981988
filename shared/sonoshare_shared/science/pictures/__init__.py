"""The one way from a picture file to grey levels: intake's child, evaluations and audits read by this code alone."""
