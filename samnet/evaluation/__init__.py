"""Scores of predictions against references: metrics, summaries, folders of cases and overlays."""
