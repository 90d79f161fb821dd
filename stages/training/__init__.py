"""Training of the temporal models: bags, feature cache, loops, cross-validation."""
