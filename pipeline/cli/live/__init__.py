"""Live cameras: `oddwatch run` and `worker` do the work, `alerts` and `status` look at it from anywhere. A
configuration comes in, or the address of a Redis; lines for a person, or JSON, go out.
"""
