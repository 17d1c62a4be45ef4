"""Studies of Optuna in which a search is kept, and from which it resumes."""
