"""What synthetic images are worth: classifiers trained on them and tested on real ones, and distances between sets."""
