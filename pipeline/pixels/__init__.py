"""Pictures from the decoder to their readers through shared memory: rings written once, read in place, swept when
their owner died.
"""
