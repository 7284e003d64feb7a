"""Figures of cases: predictions over their images, errors in colours, the worst cases first."""
