"""Networks of others, rebuilt from their papers: one file each, inference only."""
