"""`oddwatch train`: labelled footage comes in, or features of it; a checkpoint and its curves go out."""
