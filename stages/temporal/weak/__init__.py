"""Models learned from video labels: MIL ranking (Sultani et al., CVPR 2018) and RTFM (Tian et al., ICCV 2021).
Features come in; scores go out.
"""
