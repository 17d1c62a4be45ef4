"""Functional ANOVA: the importance of hyperparameters."""
