"""The demonstration: a whole consortium on one machine, with every part real."""
