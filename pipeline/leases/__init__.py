"""Who works on what: one lease per camera and stage, spread evenly over the live workers of a stage, renewed while
they live.
"""
