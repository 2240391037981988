"""What only the hospital's own eyes may see. Nothing here is private, and nothing of it is ever sent."""
