"""Scores of predictions against references: metrics, summaries, and folders of cases."""
