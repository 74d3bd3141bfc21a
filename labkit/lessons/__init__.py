"""Questions, checks and recordings for the notebooks."""
