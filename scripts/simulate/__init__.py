"""`python -m scripts.simulate`: thousands of cameras without pixels on the real bus."""
