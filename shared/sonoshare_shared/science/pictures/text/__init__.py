"""Text inside a picture: where it is likely, what it says, whether that may stay, and how it is taken out."""
