class Adaptive:
    def __init__(self, name): raise NotImplementedError
