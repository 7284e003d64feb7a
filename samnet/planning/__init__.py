"""From a fingerprint to a plan that a person can read and change: one rule for each decision."""
