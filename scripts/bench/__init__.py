"""`python -m scripts.bench`: what Oddwatch costs, each figure beside what it is compared with, in the same run."""
