"""Models learned from video labels: MIL ranking (Sultani et al., CVPR 2018) and RTFM (Tian et al., ICCV 2021). One
feature vector per snippet comes in; the snippet's score goes out, held over its frames, at once or after a look-ahead.
"""
