"""`oddwatch train`: labelled footage comes in; a checkpoint and its curves go out."""
