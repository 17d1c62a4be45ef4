"""Functional ANOVA of points and scores; nothing here knows of a search."""
