"""Future-frame prediction (Liu et al., CVPR 2018): what a predictor did not expect is odd. Snippets come in; scores
go out.
"""
