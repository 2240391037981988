"""Which action on which study runs, which waits for its turn, and what the coordinator wants of each study."""
