"""Learning from slices without labels: weak-to-strong consistency with a teacher of averages."""
