"""How much a machine carries (`oddwatch plan`): moving messages is rehearsed, and a formula adds it to what the stages
cost. Measured costs and a demand come in; cores, memory, network and hosts for so many cameras go out.
"""
