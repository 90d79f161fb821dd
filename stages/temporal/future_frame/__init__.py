"""Future-frame prediction (Liu et al., CVPR 2018): a network predicts each frame from those before it. Snippets come
in; the prediction errors of their frames, of the whole picture (PSNR) or by place, go out as scores.
"""
