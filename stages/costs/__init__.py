"""What the stages cost on this machine. A sample of footage comes in and goes through the real stages; CPU or GPU
seconds per frame and snippet go out, and each stage's outputs as stubs, with which `oddwatch plan` measures the bus
alone.
"""
