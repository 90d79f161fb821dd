"""What the stages cost on this machine, measured on a sample through the real stages; `oddwatch plan` reckons with
it.
"""
