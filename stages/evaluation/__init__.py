"""How good scores are, against ground truth; and the files that hold them."""
